"""Connection pools that close idle connections: redis-py's own pools never shrink.

The most recently used connection is used next, so that surplus connections become idle.
"""

import time
from collections.abc import Callable
from functools import partial
from queue import Empty, LifoQueue
from typing import Any

import redis

IDLE_SECONDS = 30.0  # a connection is closed after so long without use
IDLE_CHECK_SECONDS = 5.0  # between two checks for idle connections


class _IdleClosing:
    """Mixin for redis-py's pools. A closed connection stays in the pool and is reopened when it is needed."""

    _next_check_at = answered_at = 0.0
    """answered_at: when a connection was last released intact (time.monotonic)."""

    def release(self, connection: Any) -> None:
        connection.released_at = now = time.monotonic()
        if connection.is_connected:
            self.answered_at = now
        super().release(connection)  # type: ignore[misc]
        if now >= self._next_check_at:
            self._next_check_at = now + IDLE_CHECK_SECONDS
            self._close_idle(now - IDLE_SECONDS)

    def _close_idle(self, idle_since: float) -> None:
        raise NotImplementedError


class Pool(_IdleClosing, redis.ConnectionPool):
    """Raises redis.ConnectionError when all connections are in use."""

    def _close_idle(self, idle_since: float) -> None:
        with self._lock:  # no thread takes a connection meanwhile
            _close(self._available_connections, idle_since)


class _FreeConnections(LifoQueue[Any]):
    """The free connections of a pool. A thread that waited for one gets none while Redis does not answer."""

    def __init__(self, is_silent: Callable[[], bool], max_size: int) -> None:
        super().__init__(max_size)
        self._is_silent = is_silent

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        waits = block and self.empty()
        connection = super().get(block, timeout)
        if waits and self._is_silent():
            self.put_nowait(connection)
            raise Empty
        return connection


class WaitingPool(_IdleClosing, redis.BlockingConnectionPool):
    """Waits for a free connection, unless `is_silent` says that Redis does not answer."""

    def __init__(self, is_silent: Callable[[], bool] = lambda: False, **options: Any) -> None:
        super().__init__(queue_class=partial(_FreeConnections, is_silent), **options)

    @property
    def in_use(self) -> int:
        return int(self.max_connections) - self.pool.qsize()

    def _close_idle(self, idle_since: float) -> None:
        with self.pool.mutex:
            _close(self.pool.queue, idle_since)


def _close(connections: list[Any], idle_since: float) -> None:
    for connection in connections:
        if connection is not None and connection.released_at < idle_since:
            connection.disconnect()
