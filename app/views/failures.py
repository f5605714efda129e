"""Failed jobs grouped by function and type of error. Reads the newest MAX_JOBS_READ only."""

import heapq
from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from typing import Any

import redis

from app.views import job_view, listing
from app.views.registries import Registry
from app.views.selection import Selection

MAX_JOBS_READ = 10_000
BATCH_SIZE = 250  # jobs in one round trip

Group = dict[str, Any]


def groups(
    connection: redis.Redis, queue: str | None = None, function: str | None = None, since: datetime | None = None
) -> tuple[list[Group], bool]:
    """The groups, most frequent first, and whether all failed jobs were read."""
    selection = Selection(status="failed", queue=queue, function=function, since=since)
    newest = heapq.merge(
        *(_ids(connection, registry) for registry in listing.registries_for(connection, ["failed"], queue)),
        key=lambda entry: -entry[0],
    )
    groups_by_key: dict[tuple[str | None, str], Group] = {}
    to_read = islice(newest, MAX_JOBS_READ)
    while batch := list(islice(to_read, BATCH_SIZE)):
        for job in job_view.fetch(connection, [job_id for _, job_id in batch]):
            if job and selection.matches(job):
                _add(groups_by_key, job)
    return sorted(groups_by_key.values(), key=lambda group: -group["count"]), next(newest, None) is None


def _ids(connection: redis.Redis, registry: Registry) -> Iterator[tuple[float, str]]:
    """The ids of failed jobs with their scores: time of the failure plus time to keep the job."""
    for batch in registry.batches(connection, None, BATCH_SIZE, BATCH_SIZE):
        for job_id, (score, _) in batch:
            yield float(score), job_id


def _add(groups_by_key: dict[tuple[str | None, str], Group], job: dict[str, Any]) -> None:
    error, ended_at = job["error"] or {"type": "unknown", "message": ""}, job["ended_at"]
    group = groups_by_key.setdefault(
        (job["function"], error["type"]),
        {
            "function": job["function"], "error": error["type"], "message": error["message"], "count": 0,
            "first_seen": ended_at, "last_seen": ended_at, "example": job["id"], "queues": [],
        },
    )  # fmt: skip
    group["count"] += 1
    if ended_at and (group["last_seen"] is None or ended_at > group["last_seen"]):
        group |= {"last_seen": ended_at, "example": job["id"], "message": error["message"]}
    if ended_at and (group["first_seen"] is None or ended_at < group["first_seen"]):
        group["first_seen"] = ended_at
    if job["queue"] not in group["queues"]:
        group["queues"].append(job["queue"])
