"""Leader election among schedulers: the leader is the one whose token is in rq-scheduler's lock.

A stock rq-scheduler respects the same lock. The lock expires by itself: a scheduler that was suspended and wakes up
late finds another token, or none, and becomes a standby.
"""

import secrets
import time
from collections.abc import Callable

import redis
from redis.client import Pipeline
from rq_scheduler import Scheduler as RQScheduler

LEASE_SECONDS = 7.0
RENEW_INTERVAL_SECONDS = 2.0
ACQUIRE_INTERVAL_SECONDS = 1.0  # of a standby: with LEASE_SECONDS, a takeover takes less than 10 s


class LeaseLost(Exception):
    """Another scheduler leads."""


class Lease:
    """The lock that makes one scheduler the leader, as this process holds it or not. It expires after LEASE_SECONDS."""

    key = RQScheduler.scheduler_lock_key

    def __init__(self, connection: redis.Redis) -> None:
        self.connection, self.token = connection, secrets.token_hex(16).encode()
        self.held = False
        self._next_at = 0.0

    def hold(self) -> bool:
        """Acquire the lock if it is free, or renew it when that is due. Returns whether this scheduler leads.

        Call it often.
        """
        if time.monotonic() >= self._next_at:
            acquired = self.connection.set(self.key, self.token, nx=True, px=int(1000 * LEASE_SECONDS))
            self.held = bool(acquired) or self._if_held(lambda p: p.pexpire(self.key, int(1000 * LEASE_SECONDS)))
            self._next_at = time.monotonic() + (RENEW_INTERVAL_SECONDS if self.held else ACQUIRE_INTERVAL_SECONDS)
        return self.held

    def check(self, pipeline: Pipeline) -> None:
        """Check the lock in a transaction that watches `key`. Raises LeaseLost."""
        if pipeline.get(self.key) != self.token:
            self.held = False
            raise LeaseLost

    def release(self) -> None:
        """Release the lock if this scheduler holds it."""
        self._if_held(lambda pipeline: pipeline.delete(self.key))
        self.held = False

    def _if_held(self, write: Callable[[Pipeline], object]) -> bool:
        """Run a command in a transaction, on condition that the lock is held. Returns whether it was."""

        def checked_write(pipeline: Pipeline) -> None:
            self.check(pipeline)
            pipeline.multi()
            write(pipeline)

        try:
            self.connection.transaction(checked_write, self.key)
        except LeaseLost:
            return False
        return True
