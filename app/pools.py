"""Pools of connections that close what nobody uses: redis-py's own keep as many as were ever used at once.

The connection that was used last is used next, so that those which a busy moment has left over are idle.
"""

import time
from typing import Any

import redis

IDLE_SECONDS = 30.0  # after which a connection is closed
LOOK_EVERY = 5.0  # seconds between two looks for such connections


class _ClosesIdle:
    """Mixed into a pool of redis-py. A connection that is closed stays in the pool, which opens it again at need."""

    _look_at = 0.0

    def release(self, connection: Any) -> None:
        connection.released_at = now = time.monotonic()
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


class WaitingPool(_ClosesIdle, redis.BlockingConnectionPool):
    """Waits for a connection to come free."""

    def _close_idle(self, before: float) -> None:
        with self.pool.mutex:
            _close(self.pool.queue, before)


def _close(connections: list[Any], before: float) -> None:
    for connection in connections:
        if connection is not None and connection.released_at < before:
            connection.disconnect()
