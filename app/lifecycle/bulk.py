"""Cancel, requeue or delete all jobs that match a filter, in small batches so that Redis can serve other clients.

One call runs for at most MAX_SECONDS and returns a cursor to continue with, in any process. Each job is changed by the
script that changes a single job, so a job whose state has changed meanwhile is left alone and counted as skipped.
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

MAX_SECONDS = 5.0
MAX_BATCH_SIZE = 50  # jobs; each takes Redis about 50 us, and longer deep in a long queue
SLOW_BATCH_SECONDS = 0.008  # after a slower batch, the next one is smaller

DEFAULT_STATUSES: dict[Action, Sequence[str]] = {
    "requeue": ("failed",),
    "cancel": ("queued", "started", "scheduled", "deferred"),
    "delete": tuple(REGISTRY_OF),
}
"""The statuses to which an action applies if the filter names none."""


@dataclass
class BulkResult:
    matched: int = 0
    changed: int = 0
    skipped: int = 0
    """Matched, but no longer in a state that allows the action."""
    next_cursor: str | None = None

    def add_part(self, changed: int, cursor: Cursor, refused: redis.RedisError) -> None:
        """Count a batch that Redis refused in part; `cursor` leads to the rest. Raises `refused` if nothing changed."""
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
    """Apply an action to matching jobs, at most `limit`, newest first in each queue and state. A dry run only counts.

    Returns a cursor if the time limit was reached, or if Redis refused a change after the first one.

    Raises:
        BadRequest: the cursor is invalid.
        redis.RedisError: Redis is away, or refuses the first change. Repeating the request does the rest.
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
    """Runs an action on many jobs in pipelines whose size adapts to the speed of Redis."""

    def __init__(self, connection: redis.Redis, action: Action) -> None:
        self.connection, self.action, self._batch_size = connection, action, 1

    def send(self, job_ids: list[str]) -> tuple[set[str], redis.RedisError | None]:
        """Return the ids of the changed jobs, and the error if Redis refused a change with a transient one."""
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
