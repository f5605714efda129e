"""Pools of connections that close what nobody uses: redis-py's own keep as many as were ever used at once.

The connection that was used last is used next, so that those which a busy moment has left over are idle.
"""

import time
from collections.abc import Callable
from functools import partial
from queue import Empty, LifoQueue
from typing import Any

import redis

IDLE_SECONDS = 30.0  # after which a connection is closed
IDLE_CHECK_SECONDS = 5.0  # seconds between two looks for such connections


class _IdleClosing:
    """Mixed into a pool of redis-py. A connection that is closed stays in the pool, which opens it again at need."""

    _next_check_at = answered_at = 0.0
    """answered_at: when a connection came back that was not cut (time.monotonic)."""

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
    """Raises redis.ConnectionError for one connection too many."""

    def _close_idle(self, idle_since: float) -> None:
        with self._lock:  # nobody takes one meanwhile
            _close(self._available_connections, idle_since)


class _FreeConnections(LifoQueue[Any]):
    """The free connections of a pool. Who had to wait for one while Redis is silent gets none."""

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
    """Waits for a connection to come free, unless Redis is `is_silent`."""

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
