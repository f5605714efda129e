"""Removes queues from RQ's set of queues that hold no job and that no worker serves: each costs whoever looks at all.

Queues named in QUEUES and paused ones stay. The next job of a queue that was removed brings it back.
"""

import time
from collections.abc import Iterable

import redis
import structlog

from app.redis.client import batches
from app.redis.scripts import Script
from app.views import listing
from app.views.served import served_queues

INTERVAL_SECONDS = 60.0  # seconds
BATCH_SIZE = 250  # queues in one step

REMOVE = Script("lifecycle/remove_queues")

log = structlog.get_logger("jobline.scheduler")


class EmptyQueueRemover:
    """Of one scheduler. `kept_names`: names of queues that stay."""

    def __init__(self, connection: redis.Redis, kept_names: Iterable[str]) -> None:
        self.connection, self.kept_names = connection, set(kept_names)
        self._unserved = set[str]()
        """Queues that no worker served at the last look."""
        self._next_sweep_at = 0.0

    def sweep(self) -> None:
        """Look, unless the last look was less than LOOK_EVERY ago. A queue goes at the second look in a row.

        Raises:
            redis.RedisError: the next look makes up for it.
        """
        if time.monotonic() < self._next_sweep_at:
            return
        self._next_sweep_at = time.monotonic() + INTERVAL_SECONDS
        unserved = set(listing.queue_names(self.connection)) - self.kept_names - served_queues(self.connection)
        removed = 0
        for names in batches(unserved & self._unserved, BATCH_SIZE):
            removed += int(REMOVE(self.connection, names))
        if removed:
            log.info("empty queues of no worker are removed", queues=removed)
        self._unserved = unserved
