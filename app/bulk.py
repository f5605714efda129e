"""What is done to all jobs that a filter means: in small batches, between which Redis serves others.

One call works for SPEND seconds at most; its cursor goes on, also in another process. A job is changed by the same
script as when it is changed alone, so one that has moved on meanwhile is left alone, and counted as skipped.
"""

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import redis
from rq.command import send_stop_job_command
from rq.exceptions import InvalidJobOperation, NoSuchJobError

from app import job_state, listing, queueing, sources
from app.selection import Selection
from app.serializer import JSON
from app.sources import REGISTRY_OF, Cursor

SPEND = 5.0  # seconds
BATCH = 100  # jobs; Redis takes some 20 microseconds for each

Action = Literal["requeue", "cancel", "delete"]
MEANT: dict[Action, Sequence[str]] = {
    "requeue": ("failed",),
    "cancel": ("queued", "started", "scheduled", "deferred"),
    "delete": tuple(REGISTRY_OF),
}
"""Which states, if the filter does not say."""


@dataclass
class Tally:
    matched: int = 0
    changed: int = 0
    skipped: int = 0
    """Matched, but not any more in a state for that."""
    next_cursor: str | None = None


def change(
    connection: redis.Redis,
    action: Action,
    selection: Selection,
    limit: int | None = None,
    cursor: str | None = None,
    dry_run: bool = False,
) -> Tally:
    """Do it to the jobs that are meant, `limit` at most, newest first in each queue and state; a dry run only counts.

    Raises:
        BadRequest: a cursor that was not given out here.
    """
    tally, until = Tally(), time.monotonic() + SPEND
    statuses = [selection.status] if selection.status else MEANT[action]
    for source, start in sources.after(listing.sources_of(connection, statuses, selection.queue), cursor):
        place = start
        while batch := source.after(connection, place, BATCH):
            jobs = job_state.fetch(connection, [job_id for job_id, _ in batch])
            meant = [n for n, job in enumerate(jobs) if job and job["status"] in statuses and selection.fits(job)]
            if limit is not None and tally.matched + len(meant) >= limit:
                meant = meant[: limit - tally.matched]
                batch = batch[: meant[-1] + 1]
            ids = [batch[n][0] for n in meant]
            changed = set() if dry_run else _apply(connection, action, ids)
            tally.matched += len(ids)
            tally.changed += len(changed)
            tally.skipped += 0 if dry_run else len(ids) - len(changed)
            place = source.resume(place, batch, changed)
            if tally.matched == limit or time.monotonic() > until:
                tally.next_cursor = str(Cursor(source, place))
                return tally
    return tally


def _apply(connection: redis.Redis, action: Action, job_ids: list[str]) -> set[str]:
    """The ids of those that were changed."""
    with connection.pipeline(transaction=False) as pipeline:
        for job_id in job_ids:
            queueing.change(pipeline, action, job_id)
        outcomes = dict(zip(job_ids, pipeline.execute(raise_on_error=False), strict=True))
    changed = {job_id for job_id, outcome in outcomes.items() if outcome == b"ok"}
    if action == "cancel":
        running = [job_id for job_id, outcome in outcomes.items() if outcome == b"started"]
        changed |= {job_id for job_id in running if _stop(connection, job_id)}
    return changed


def _stop(connection: redis.Redis, job_id: str) -> bool:
    """Tell its worker, if it runs."""
    with contextlib.suppress(NoSuchJobError, InvalidJobOperation):
        send_stop_job_command(connection, job_id, JSON)
        return True
    return False
