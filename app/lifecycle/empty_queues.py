"""Remove queues without jobs and workers from RQ's set of queues: each one costs the scheduler and dashboard time.

Paused queues and those named in QUEUES stay. The next job of a removed queue adds it again.
"""

import time
from collections.abc import Iterable

import redis
import structlog

from app.redis.client import batches
from app.redis.scripts import Script
from app.views import listing
from app.views.served import served_queues

INTERVAL_SECONDS = 60.0
BATCH_SIZE = 250  # queues

REMOVE = Script("lifecycle/remove_queues")

log = structlog.get_logger("jobline.scheduler")


class EmptyQueueRemover:
    """Run by the leading scheduler. `kept_names`: queues that always stay."""

    def __init__(self, connection: redis.Redis, kept_names: Iterable[str]) -> None:
        self.connection, self.kept_names = connection, set(kept_names)
        self._unserved = set[str]()
        """Queues that no worker served at the last sweep."""
        self._next_sweep_at = 0.0

    def sweep(self) -> None:
        """Remove queues that were unserved at the last sweep too, at most once per INTERVAL_SECONDS.

        Raises:
            redis.RedisError: the next sweep catches up.
        """
        if time.monotonic() < self._next_sweep_at:
            return
        self._next_sweep_at = time.monotonic() + INTERVAL_SECONDS
        unserved = set(listing.queue_names(self.connection)) - self.kept_names - served_queues(self.connection)
        removed = 0
        for names in batches(unserved & self._unserved, BATCH_SIZE):
            removed += int(REMOVE(self.connection, names))
        if removed:
            log.info("removed empty queues without workers", queues=removed)
        self._unserved = unserved
