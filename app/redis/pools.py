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
LOOK_EVERY = 5.0  # seconds between two looks for such connections


class _ClosesIdle:
    """Mixed into a pool of redis-py. A connection that is closed stays in the pool, which opens it again at need."""

    _look_at = answered_at = 0.0
    """answered_at: when a connection came back that was not cut (time.monotonic)."""

    def release(self, connection: Any) -> None:
        connection.released_at = now = time.monotonic()
        if connection.is_connected:
            self.answered_at = now
        super().release(connection)  # type: ignore[misc]
        if now >= self._look_at:
            self._look_at = now + LOOK_EVERY
            self._close_idle(now - IDLE_SECONDS)

    def _close_idle(self, before: float) -> None:
        raise NotImplementedError


class Pool(_ClosesIdle, redis.ConnectionPool):
    """Raises redis.ConnectionError for one connection too many."""

    def _close_idle(self, before: float) -> None:
        with self._lock:  # nobody takes one meanwhile
            _close(self._available_connections, before)


class _Free(LifoQueue[Any]):
    """The free connections of a pool. Who had to wait for one while Redis is silent gets none."""

    def __init__(self, silent: Callable[[], bool], most: int) -> None:
        super().__init__(most)
        self._silent = silent

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        waits = block and self.empty()
        connection = super().get(block, timeout)
        if waits and self._silent():
            self.put_nowait(connection)
            raise Empty
        return connection


class WaitingPool(_ClosesIdle, redis.BlockingConnectionPool):
    """Waits for a connection to come free, unless Redis is `silent`."""

    def __init__(self, silent: Callable[[], bool] = lambda: False, **settings: Any) -> None:
        super().__init__(queue_class=partial(_Free, silent), **settings)

    @property
    def in_use(self) -> int:
        return int(self.max_connections) - self.pool.qsize()

    def _close_idle(self, before: float) -> None:
        with self.pool.mutex:
            _close(self.pool.queue, before)


def _close(connections: list[Any], before: float) -> None:
    for connection in connections:
        if connection is not None and connection.released_at < before:
            connection.disconnect()
