"""Pipelined connections: commands are written to the socket without waiting, and replies are read later.

They bypass redis-py's packing, pooling and retries, which cost more time than the commands of a short job. The caller
keeps track of unanswered commands and sends them again after `connect`.
"""

import os
import socket
import ssl
import struct
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
from app.redis.errors import is_transient_reply

READ_TIMEOUT_SECONDS = 10.0


def pack(*arguments: str | bytes | float) -> bytes:
    """Encode a command in the Redis protocol."""
    return hiredis.pack_command(arguments)  # type: ignore[arg-type]  # its stub expects a tuple of one


class PipelinedConnection:
    """A connection to Redis that sends commands without waiting for answers. For one thread at a time.

    With `retry_connect=False`, `connect` makes a single attempt instead of the retries of `client`.
    """

    def __init__(
        self, client: redis.Redis, retry_connect: bool = True, read_timeout: float = READ_TIMEOUT_SECONDS
    ) -> None:
        self._pool, self._read_timeout = client.connection_pool, read_timeout
        self._connection = self._pool.get_connection()
        if not retry_connect:  # the connections of RQ's worker retry for minutes
            self._connection.retry, self._connection.socket_timeout = Retry(NoBackoff(), 0), read_timeout
        self._use()

    def _use(self) -> None:
        self._socket = self._connection._sock  # redis-py has no public way to wait for several connections
        _set_timeout(self._socket, self._read_timeout)
        self._reader = hiredis.Reader(notEnoughData=self)

    def fileno(self) -> int:
        return int(self._socket.fileno())

    def cut(self) -> None:
        """Close the socket: until `connect`, send and read raise ConnectionError."""
        self._connection.disconnect()
        self._socket.close()

    def close(self) -> None:
        """Close the connection and return it to its pool."""
        self.cut()
        self._pool.release(self._connection)

    def connect(self) -> None:
        """Reconnect after `cut`. Raises redis.ConnectionError."""
        self._connection.connect()
        self._use()

    def send(self, commands: bytes) -> None:
        """Send commands. On failure cuts the connection and raises redis.ConnectionError: part may have been sent."""
        try:
            self._socket.sendall(commands)
        except OSError as error:
            self.cut()
            raise ConnectionError(str(error)) from error

    def read(self) -> Any:
        """Read the next reply: bytes, int, None or a list of these.

        Raises:
            ConnectionError, TimeoutError: no reply came, or Redis refuses the command with a transient error.
            ResponseError: any other error reply.
        """
        answer = self._reader.gets()
        while answer is self:
            try:
                received = self._socket.recv(65536)
            except (SocketTimeout, BlockingIOError) as error:
                raise TimeoutError(f"no answer within {self._read_timeout} s") from error
            except OSError as error:
                raise ConnectionError(str(error)) from error
            if not received:
                raise ConnectionError("Redis closed the connection")
            self._reader.feed(received)
            answer = self._reader.gets()
        if isinstance(answer, hiredis.ReplyError):
            reply = str(answer)
            transient = is_transient_reply(reply) or reply.startswith("NOSCRIPT")
            raise ConnectionError(reply) if transient else ResponseError(reply)
        return answer


def _set_timeout(connected: socket.socket, seconds: float) -> None:
    """Limit how long one send or receive may take: then it raises BlockingIOError, or SocketTimeout over TLS.

    The kernel keeps the time. Python would wait with a poll before each call, and give up its lock for each poll.
    """
    if isinstance(connected, ssl.SSLSocket):
        connected.settimeout(seconds)
        return
    connected.settimeout(None)
    timeval = struct.pack("ll", int(seconds), int(seconds % 1 * 1e6))
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        connected.setsockopt(socket.SOL_SOCKET, option, timeval)


class PipelinedPool:
    """A pool of up to `size` pipelined connections, taken from `client`, which must not be used otherwise.

    The most recently used connection is used next; one that is idle for IDLE_SECONDS is closed.
    """

    answered_at = 0.0
    """When a connection last received a reply (time.monotonic)."""

    def __init__(
        self,
        client: redis.Redis,
        size: int,
        wait_seconds: float,
        read_timeout: float = READ_TIMEOUT_SECONDS,
        is_silent: Callable[[], bool] = lambda: False,
    ) -> None:
        """`is_silent`: whether Redis does not answer; a thread that waited for a connection then gets none."""
        self._client, self._size, self._wait_seconds = client, size, wait_seconds
        self._read_timeout, self._is_silent = read_timeout, is_silent
        self._reset()

    def _reset(self) -> None:
        """Start without connections; also after a fork, since the parent's connections must not be used."""
        self._pid, self._next_check_at = os.getpid(), 0.0
        self._free = list[tuple[PipelinedConnection, float]]()  # with the time of last use
        self._permits: SimpleQueue[None] = SimpleQueue()  # a semaphore, and faster than one
        for _ in range(self._size):
            self._permits.put(None)

    @property
    def in_use(self) -> int:
        return self._size - self._permits.qsize()

    def ask(self, command: bytes) -> Any:
        """Send a command and return its reply.

        Raises:
            ConnectionError: connecting failed, or the connection was lost and the command may have been executed.
            TimeoutError: no connection was free within `wait_seconds`, or as `PipelinedConnection.read`.
            ResponseError: as `PipelinedConnection.read`.
        """
        if self._pid != os.getpid():
            self._reset()
        permits = self._permits
        had_to_wait = permits.empty()
        try:
            permits.get(timeout=self._wait_seconds)
        except Empty:
            raise TimeoutError("no connection came free") from None
        try:
            if had_to_wait and self._is_silent():
                raise TimeoutError("Redis does not answer")
            return self._ask(command)
        finally:
            permits.put(None)

    def _ask(self, command: bytes) -> Any:
        try:
            connection = self._free.pop()[0]
        except IndexError:
            connection = PipelinedConnection(self._client, read_timeout=self._read_timeout)
        usable = False
        try:
            connection.send(command)
            answer = connection.read()
            usable = True
        except ResponseError:
            usable = True
            raise
        finally:
            if usable:
                now = self.answered_at = time.monotonic()
                self._free.append((connection, now))
                if now >= self._next_check_at:
                    self._close_idle(now)
            else:
                connection.close()
        return answer

    def _close_idle(self, now: float) -> None:
        self._next_check_at = now + pools.IDLE_CHECK_SECONDS
        while True:
            try:
                oldest = self._free.pop(0)
            except IndexError:
                return
            if now - oldest[1] < pools.IDLE_SECONDS:
                self._free.insert(0, oldest)
                return
            oldest[0].close()
