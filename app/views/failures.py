"""Failed jobs in groups: by function and type of error. Looks at the newest LOOKED_AT, whatever their number."""

import heapq
from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from typing import Any

import redis

from app.views import job_view, listing
from app.views.registries import Source
from app.views.selection import Selection

LOOKED_AT = 10_000
BATCH = 250  # jobs read in one round trip

Group = dict[str, Any]


def groups(
    connection: redis.Redis, queue: str | None = None, function: str | None = None, since: datetime | None = None
) -> tuple[list[Group], bool]:
    """The groups, most frequent first, and whether every failed job was looked at."""
    selection = Selection(status="failed", queue=queue, function=function, since=since)
    newest = heapq.merge(
        *(_ids(connection, source) for source in listing.sources_of(connection, ["failed"], queue)),
        key=lambda entry: -entry[0],
    )
    found: dict[tuple[str | None, str], Group] = {}
    looked_at = islice(newest, LOOKED_AT)
    while batch := list(islice(looked_at, BATCH)):
        for job in job_view.fetch(connection, [job_id for _, job_id in batch]):
            if job and selection.fits(job):
                _count(found, job)
    return sorted(found.values(), key=lambda group: -group["count"]), next(newest, None) is None


def _ids(connection: redis.Redis, source: Source) -> Iterator[tuple[float, str]]:
    """With their scores: the time of the failure, and how long the job is kept."""
    for batch in source.batches(connection, None, BATCH, BATCH):
        for job_id, (score, _) in batch:
            yield float(score), job_id


def _count(found: dict[tuple[str | None, str], Group], job: dict[str, Any]) -> None:
    error, at = job["error"] or {"type": "unknown", "message": ""}, job["ended_at"]
    group = found.setdefault(
        (job["function"], error["type"]),
        {
            "function": job["function"], "error": error["type"], "message": error["message"], "count": 0,
            "first_seen": at, "last_seen": at, "example": job["id"], "queues": [],
        },
    )  # fmt: skip
    group["count"] += 1
    if at and (group["last_seen"] is None or at > group["last_seen"]):
        group |= {"last_seen": at, "example": job["id"], "message": error["message"]}
    if at and (group["first_seen"] is None or at < group["first_seen"]):
        group["first_seen"] = at
    if job["queue"] not in group["queues"]:
        group["queues"].append(job["queue"])
