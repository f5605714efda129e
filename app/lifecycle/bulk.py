"""What is done to all jobs that a filter means: in small batches, between which Redis serves others.

One call works for SPEND seconds at most; its cursor goes on, also in another process. A job is changed by the same
script as when it is changed alone, so one that has moved on meanwhile is left alone, and counted as skipped.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import redis

from app.lifecycle import actions
from app.lifecycle.actions import Action
from app.redis.errors import is_transient
from app.views import job_view, listing, registries
from app.views.registries import REGISTRY_OF, Cursor
from app.views.selection import Selection

MAX_SECONDS = 5.0  # seconds
MAX_BATCH_SIZE = 50  # jobs; Redis takes some 50 microseconds for each, and more to find one deep in a long queue
SLOW_BATCH_SECONDS = 0.008  # seconds; what takes longer is sent in smaller parts

DEFAULT_STATUSES: dict[Action, Sequence[str]] = {
    "requeue": ("failed",),
    "cancel": ("queued", "started", "scheduled", "deferred"),
    "delete": tuple(REGISTRY_OF),
}
"""Which states, if the filter does not say."""


@dataclass
class BulkResult:
    matched: int = 0
    changed: int = 0
    skipped: int = 0
    """Matched, but not any more in a state for that."""
    next_cursor: str | None = None

    def add_part(self, changed: int, cursor: Cursor, refused: redis.RedisError) -> None:
        """Count a batch of which Redis refused a part: the cursor is of the rest. Raises it if nothing was changed."""
        if self.changed + changed == 0:
            raise refused
        self.matched, self.changed, self.next_cursor = self.matched + changed, self.changed + changed, str(cursor)


def apply(
    connection: redis.Redis,
    action: Action,
    selection: Selection,
    limit: int | None = None,
    cursor: str | None = None,
    dry_run: bool = False,
) -> BulkResult:
    """Do it to the jobs that are meant, `limit` at most, newest first in each queue and state; a dry run only counts.

    Raises:
        BadRequest: a cursor that was not given out here.
        redis.RedisError: Redis is away, or refuses the first change. What was done before stays done; the same request
            does the rest. If it refuses a later change, the counts are of what was done, and the cursor is of the rest.
    """
    result, sender, deadline = BulkResult(), BatchSender(connection, action), time.monotonic() + MAX_SECONDS
    statuses = [selection.status] if selection.status else DEFAULT_STATUSES[action]
    for registry, start in registries.after(listing.registries_for(connection, statuses, selection.queue), cursor):
        position = start
        while batch := registry.after(connection, position, MAX_BATCH_SIZE):
            jobs = job_view.fetch(connection, [job_id for job_id, _ in batch])
            matching = [n for n, job in enumerate(jobs) if job and job["status"] in statuses and selection.matches(job)]
            if limit is not None and result.matched + len(matching) >= limit:
                matching = matching[: limit - result.matched]
                batch = batch[: matching[-1] + 1]
            ids = [batch[n][0] for n in matching]
            changed, refused = (set(), None) if dry_run else sender.send(ids)
            if refused:
                result.add_part(len(changed), Cursor(registry, position), refused)
                return result
            result.matched += len(ids)
            result.changed += len(changed)
            result.skipped += 0 if dry_run else len(ids) - len(changed)
            position = registry.resume(position, batch, changed)
            if result.matched == limit or time.monotonic() > deadline:
                result.next_cursor = str(Cursor(registry, position))
                return result
    return result


def _is_transient_refusal(outcome: Any) -> bool:
    return isinstance(outcome, redis.RedisError) and is_transient(outcome)


class BatchSender:
    """Sends scripts for many jobs at once, and as few at once as Redis needs to serve others between them."""

    def __init__(self, connection: redis.Redis, action: Action) -> None:
        self.connection, self.action, self._batch_size = connection, action, 1

    def send(self, job_ids: list[str]) -> tuple[set[str], redis.RedisError | None]:
        """The ids of those that were changed, and what Redis said if it refused to change one for now."""
        changed: set[str] = set()
        while job_ids:
            batch, job_ids = job_ids[: self._batch_size], job_ids[self._batch_size :]
            outcomes = self._run(batch)
            refused = next((outcome for outcome in outcomes.values() if _is_transient_refusal(outcome)), None)
            changed |= {job_id for job_id, outcome in outcomes.items() if outcome == b"ok"}
            if self.action == "cancel":
                running = [job_id for job_id, outcome in outcomes.items() if outcome == b"started"]
                changed |= {job_id for job_id in running if actions.stop(self.connection, job_id)}
            if refused:
                return changed, refused
        return changed, None

    def _run(self, job_ids: list[str]) -> dict[str, Any]:
        started_at = time.monotonic()
        with self.connection.pipeline(transaction=False) as pipeline:
            for job_id in job_ids:
                actions.apply(pipeline, job_id, self.action)
            outcomes = pipeline.execute(raise_on_error=False)
        slow = time.monotonic() - started_at > SLOW_BATCH_SECONDS
        self._batch_size = max(1, self._batch_size // 2) if slow else min(2 * self._batch_size, MAX_BATCH_SIZE)
        return dict(zip(job_ids, outcomes, strict=True))
