"""Which of several schedulers leads: the one whose token is in rq-scheduler's lock, so that a stock one stands by too.

The lock runs out by itself. A scheduler that was paused and wakes up late finds another token, or none, and stands by.
"""

import secrets
import time
from collections.abc import Callable

import redis
from redis.client import Pipeline
from redis.exceptions import WatchError
from rq_scheduler import Scheduler as RQScheduler

LEASE_SECONDS = 7.0  # seconds
RENEW_INTERVAL_SECONDS = 2.0
ACQUIRE_INTERVAL_SECONDS = 1.0  # by a standby: with LEASE_SECONDS, a takeover is over within 10 s


class LeaseLost(Exception):
    """Another scheduler leads."""


class Lease:
    """One scheduler's claim to lead."""

    key = RQScheduler.scheduler_lock_key

    def __init__(self, connection: redis.Redis) -> None:
        self.connection, self.token = connection, secrets.token_hex(16).encode()
        self.held = False
        self._next_at = 0.0

    def hold(self) -> bool:
        """Take it if it is free, renew it if it is ours and time; whether we lead. Call it often."""
        if time.monotonic() >= self._next_at:
            acquired = self.connection.set(self.key, self.token, nx=True, px=int(1000 * LEASE_SECONDS))
            self.held = bool(acquired) or self._renew()
            self._next_at = time.monotonic() + (RENEW_INTERVAL_SECONDS if self.held else ACQUIRE_INTERVAL_SECONDS)
        return self.held

    def check(self, pipeline: Pipeline) -> None:
        """In a transaction that watches `key`. Raises LeaseLost."""
        if pipeline.get(self.key) != self.token:
            self.held = False
            raise LeaseLost

    def release(self) -> None:
        """Leave it to the others, if it is ours."""
        self._if_held(lambda pipeline: pipeline.delete(self.key))
        self.held = False

    def _renew(self) -> bool:
        return self._if_held(lambda pipeline: pipeline.pexpire(self.key, int(1000 * LEASE_SECONDS)))

    def _if_held(self, write: Callable[[Pipeline], object]) -> bool:
        with self.connection.pipeline() as pipeline:
            try:
                pipeline.watch(self.key)
                self.check(pipeline)
                pipeline.multi()
                write(pipeline)
                pipeline.execute()
            except (LeaseLost, WatchError):
                return False
            return True
