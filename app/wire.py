"""A connection of redis-py, spoken to directly: commands are sent without waiting, and answers read when wanted.

The client's own way costs more than the commands of a short job: packing, pooling and retries are left out. Whoever
uses a wire knows what was sent and not answered, and sends it again after `connect`.
"""

from builtins import TimeoutError as SocketTimeout
from queue import Empty, SimpleQueue
from typing import Any

import hiredis
import redis
from redis.exceptions import ConnectionError, ResponseError, TimeoutError

from app.redis_errors import refused_for_now

ANSWER_WITHIN = 10.0  # seconds


def pack(*words: str | bytes | float) -> bytes:
    """A command in the protocol's form."""
    return hiredis.pack_command(words)  # type: ignore[arg-type]  # its stub names a tuple of one


class Wire:
    """One connection, used by one thread."""

    def __init__(self, client: redis.Redis) -> None:
        self._pool = client.connection_pool
        self._connection = self._pool.get_connection()
        self._use()

    def _use(self) -> None:
        self._socket = self._connection._sock  # redis-py has no public way to wait for several connections
        self._socket.settimeout(ANSWER_WITHIN)
        self._reader = hiredis.Reader(notEnoughData=self)

    def fileno(self) -> int:
        return int(self._socket.fileno())

    def cut(self) -> None:
        """Until `connect`, whatever is sent or read raises ConnectionError."""
        self._connection.disconnect()
        self._socket.close()

    def close(self) -> None:
        """For good."""
        self.cut()
        self._pool.release(self._connection)

    def connect(self) -> None:
        """After `cut`. Raises redis.ConnectionError."""
        self._connection.connect()
        self._use()

    def send(self, commands: bytes) -> None:
        """Raises redis.ConnectionError, and the wire is cut: a command may have gone in part."""
        try:
            self._socket.sendall(commands)
        except OSError as error:
            self.cut()
            raise ConnectionError(str(error)) from error

    def read(self) -> Any:
        """The next answer, as bytes, int, None or a list of these.

        Raises:
            ConnectionError, TimeoutError: none came, or Redis refuses the command for now.
            ResponseError: any other error.
        """
        answer = self._reader.gets()
        while answer is self:
            try:
                received = self._socket.recv(65536)
            except SocketTimeout as error:
                raise TimeoutError(f"no answer within {ANSWER_WITHIN} s") from error
            except OSError as error:
                raise ConnectionError(str(error)) from error
            if not received:
                raise ConnectionError("Redis closed the connection")
            self._reader.feed(received)
            answer = self._reader.gets()
        if isinstance(answer, hiredis.ReplyError):
            reply = str(answer)
            passing = refused_for_now(reply) or reply.startswith("NOSCRIPT")
            raise ConnectionError(reply) if passing else ResponseError(reply)
        return answer


class Wires:
    """As many wires as are used at once, `most` of them; `client` is one whose connections nobody else takes."""

    def __init__(self, client: redis.Redis, most: int, patience: float) -> None:
        self._client, self._patience = client, patience
        self._free: SimpleQueue[Wire | None] = SimpleQueue()
        for _ in range(most):
            self._free.put(None)

    def ask(self, command: bytes) -> Any:
        """A command's answer.

        Raises:
            ConnectionError: no wire came free within `patience` seconds, or none could be made; or it was cut, so that
                the command may have been carried out.
            TimeoutError, ResponseError: as `Wire.read`.
        """
        try:
            wire = self._free.get(timeout=self._patience)
        except Empty:
            raise ConnectionError("no connection came free") from None
        fit = None
        try:
            wire = wire or Wire(self._client)
            wire.send(command)
            answer = wire.read()
            fit = wire
        except ResponseError:
            fit = wire
            raise
        finally:
            if wire and wire is not fit:
                wire.close()
            self._free.put(fit)
        return answer
