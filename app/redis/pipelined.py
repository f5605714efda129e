"""A connection of redis-py, spoken to directly: commands are sent without waiting, and answers read when wanted.

The client's own way costs more than the commands of a short job: packing, pooling and retries are left out. Whoever
uses a wire knows what was sent and not answered, and sends it again after `connect`.
"""

import os
import time
from builtins import TimeoutError as SocketTimeout
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

import hiredis
import redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError, ResponseError, TimeoutError
from redis.retry import Retry

from app.redis import pools
from app.redis.errors import refused_for_now

ANSWER_WITHIN = 10.0  # seconds


def pack(*words: str | bytes | float) -> bytes:
    """A command in the protocol's form."""
    return hiredis.pack_command(words)  # type: ignore[arg-type]  # its stub names a tuple of one


class Wire:
    """One connection, used by one thread. Unless it is `patient`, `connect` tries once, and not for long."""

    def __init__(self, client: redis.Redis, patient: bool = True, answer_within: float = ANSWER_WITHIN) -> None:
        self._pool, self._answer_within = client.connection_pool, answer_within
        self._connection = self._pool.get_connection()
        if not patient:  # RQ's worker lets its connections wait for minutes
            self._connection.retry, self._connection.socket_timeout = Retry(NoBackoff(), 0), answer_within
        self._use()

    def _use(self) -> None:
        self._socket = self._connection._sock  # redis-py has no public way to wait for several connections
        self._socket.settimeout(self._answer_within)
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
                raise TimeoutError(f"no answer within {self._answer_within} s") from error
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
    """As many wires as are used at once, `most` of them; `client` is one whose connections nobody else takes.

    The one that was used last is used next; one that is idle for IDLE_SECONDS is closed.
    """

    answered_at = 0.0
    """When a wire had its last answer (time.monotonic)."""

    def __init__(
        self,
        client: redis.Redis,
        most: int,
        patience: float,
        answer_within: float = ANSWER_WITHIN,
        silent: Callable[[], bool] = lambda: False,
    ) -> None:
        """`silent`: whether Redis is known not to answer; who had to wait for a wire then gets none."""
        self._client, self._most, self._patience = client, most, patience
        self._answer_within, self._silent = answer_within, silent
        self._begin()

    def _begin(self) -> None:
        """Without any wire; also in a process that was forked, which must not speak on the wires of another."""
        self._pid, self._look_at = os.getpid(), 0.0
        self._free = list[tuple[Wire, float]]()  # each with when it was used last
        self._permits: SimpleQueue[None] = SimpleQueue()  # a semaphore, and faster than one
        for _ in range(self._most):
            self._permits.put(None)

    @property
    def in_use(self) -> int:
        return self._most - self._permits.qsize()

    def ask(self, command: bytes) -> Any:
        """A command's answer.

        Raises:
            ConnectionError: no wire could be made; or it was cut, so that the command may have been carried out.
            TimeoutError: no wire came free within `patience` seconds, or as `Wire.read`.
            ResponseError: as `Wire.read`.
        """
        if self._pid != os.getpid():
            self._begin()
        permits = self._permits
        waits = permits.empty()
        try:
            permits.get(timeout=self._patience)
        except Empty:
            raise TimeoutError("no connection came free") from None
        try:
            if waits and self._silent():
                raise TimeoutError("Redis does not answer")
            return self._ask(command)
        finally:
            permits.put(None)

    def _ask(self, command: bytes) -> Any:
        try:
            wire = self._free.pop()[0]
        except IndexError:
            wire = Wire(self._client, answer_within=self._answer_within)
        fit = False
        try:
            wire.send(command)
            answer = wire.read()
            fit = True
        except ResponseError:
            fit = True
            raise
        finally:
            if fit:
                now = self.answered_at = time.monotonic()
                self._free.append((wire, now))
                if now >= self._look_at:
                    self._close_idle(now)
            else:
                wire.close()
        return answer

    def _close_idle(self, now: float) -> None:
        self._look_at = now + pools.LOOK_EVERY
        while True:
            try:
                oldest = self._free.pop(0)
            except IndexError:
                return
            if now - oldest[1] < pools.IDLE_SECONDS:
                self._free.insert(0, oldest)
                return
            oldest[0].close()
