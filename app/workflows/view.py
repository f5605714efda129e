"""Workflows as callers see them: one with its jobs, and lists."""

from typing import Any

import redis

from app.errors import BadRequest, Conflict, NotFound
from app.redis.client import batches
from app.redis.errors import raise_if_away
from app.redis.keys import WORKFLOWS, job_key, workflow_key
from app.serializer import JSON, text_of
from app.states import ENDED
from app.views import job_view
from app.workflows.results import members

BATCH = 500
FAILURES_SHOWN = 100
MOST_JOBS = 1_000_000  # of one workflow, that are shown
UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, OverflowError)
"""What is raised where Redis holds something else than we have written."""


def get(connection: redis.Redis, workflow: str) -> dict[str, Any]:
    """As JSON: each job's state; errors of some that failed, and the results of the last ones.

    Raises:
        NotFound; Conflict: it cannot be read.
    """
    try:
        return _get(connection, workflow)
    except (*UNREADABLE, redis.ResponseError) as error:
        raise_if_away([error])
        raise Conflict(f"Workflow {workflow!r} cannot be read: {_why(error)}") from None


def _get(connection: redis.Redis, workflow: str) -> dict[str, Any]:
    raw, ended = connection.hgetall(workflow_key(workflow)), connection.hgetall(f"{workflow_key(workflow)}:ended")
    if not raw:
        raise NotFound(f"No workflow {workflow!r}")
    jobs = []
    for node in JSON.loads(raw[b"graph"]):
        single = node["size"] is None
        for number, member in enumerate(members(node["name"], -1 if single else node["size"])):
            shown = node["name"] if single else f"{node['name']}[{number}]"
            state = ended.get(member.encode(), b"").decode()
            last = f"children:{node['name']}".encode() not in raw
            jobs.append(
                {
                    "name": shown,
                    "id": f"{workflow}-{member}",
                    "function": node["function"],
                    "status": state,
                    "result": None,
                    "error": None,
                    "after": node["after"],
                    "last": last,
                }
            )
    _look(connection, jobs)
    return {**summary(workflow, raw), "jobs": jobs}


def _look(connection: redis.Redis, jobs: list[dict[str, Any]]) -> None:
    """Complete what the workflow itself does not know of its jobs."""
    for some in batches((job for job in jobs if not job["status"]), BATCH):
        with connection.pipeline(transaction=False) as pipeline:
            for job in some:
                pipeline.hget(job_key(job["id"]), "status")
            for job, status in zip(some, pipeline.execute(), strict=True):
                job["status"] = status.decode() if status else "canceled"
    failed = [job for job in jobs if job["status"] not in ("finished", "queued", "deferred")][:FAILURES_SHOWN]
    whole = failed + [job for job in jobs if job.pop("last") and job["status"] == "finished"]
    for some in batches(whole, BATCH):
        for job, known in zip(some, job_view.fetch(connection, [job["id"] for job in some]), strict=True):
            if known:
                job["result"], job["error"] = known["result"], known["error"]


def summary(workflow: str, raw: dict[bytes, bytes]) -> dict[str, Any]:
    """As JSON, from what its hash says. Raises ValueError, KeyError: it cannot be read."""
    counts = {state: _count(raw.get(f"count:{state}".encode(), 0)) for state in ENDED}
    return {
        "id": workflow,
        "name": raw[b"name"].decode() or None,
        "status": raw[b"status"].decode(),
        "created_at": raw[b"created_at"].decode(),
        "ended_at": raw.get(b"ended_at", b"").decode() or None,
        "counts": {"total": _count(raw[b"total"]), **counts},
        "webhook": JSON.loads(raw.get(b"webhook") or b"null"),
        "links": {"self": f"/api/v1/workflows/{workflow}"},
    }


def list_(
    connection: redis.Redis, limit: int, cursor: str | None, status: str | None, name: str | None
) -> tuple[list[dict[str, Any]], str | None, list[dict[str, str]]]:
    """A page, newest first, the cursor of the next one, and workflows that cannot be read. Raises BadRequest."""
    place = _place(cursor)
    page: list[dict[str, Any]] = []
    bad: list[dict[str, str]] = []
    while True:
        ids = connection.zrevrange(WORKFLOWS, place, place + BATCH - 1)
        if not ids:
            return page, None, bad
        with connection.pipeline(transaction=False) as pipeline:
            for one in ids:
                pipeline.hgetall(workflow_key("").encode() + one)
            raws = pipeline.execute(raise_on_error=False)
        raise_if_away(raws)
        for one, raw in zip(ids, raws, strict=True):
            if not raw:  # it has run out
                connection.zrem(WORKFLOWS, one)
                continue
            place += 1
            shown = one.decode(errors="replace")
            try:
                flow = summary(shown, raw)
            except UNREADABLE as error:
                bad.append({"id": shown, "reason": _why(raw if isinstance(raw, redis.RedisError) else error)})
                continue
            if (not status or flow["status"] == status) and (not name or flow["name"] == name):
                page.append(flow)
                if len(page) == limit:
                    return page, str(place), bad


def _why(error: Exception) -> str:
    return str(error) if isinstance(error, redis.RedisError) else f"{type(error).__name__}: {text_of(error)}"


def _count(data: bytes | str | int) -> int:
    """Raises ValueError."""
    number = int(data)
    if not 0 <= number <= MOST_JOBS:
        raise ValueError("not a number of jobs")
    return number


def _place(cursor: str | None) -> int:
    if cursor is None:
        return 0
    if not (cursor.isdecimal() and len(cursor) < 12):
        raise BadRequest("The cursor is not one of ours")
    return int(cursor)
