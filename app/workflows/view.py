"""Views of workflows as JSON: one with its jobs, and pages of a list."""

from typing import Any

import redis

from app.errors import BadRequest, Conflict, NotFound
from app.redis.client import batches
from app.redis.errors import execute_each, raise_transient
from app.redis.keys import WORKFLOWS, job_key, workflow_key
from app.serializer import JSON, text_of
from app.states import ENDED
from app.views import job_view
from app.workflows.results import member_names

BATCH_SIZE = 500
MAX_FAILURES_SHOWN = 100
MAX_JOBS = 1_000_000  # of one workflow
UNREADABLE_ERRORS = (ValueError, KeyError, TypeError, AttributeError, OverflowError)
"""Raised when the stored data of a workflow is invalid."""


def get(connection: redis.Redis, workflow_id: str) -> dict[str, Any]:
    """A workflow as JSON: the status of each job, errors of some failed jobs, and the results of the last ones.

    Raises:
        NotFound
        Conflict: it cannot be read.
    """
    try:
        return _get(connection, workflow_id)
    except (*UNREADABLE_ERRORS, redis.ResponseError) as error:
        raise_transient([error])
        raise Conflict(f"Workflow {workflow_id!r} cannot be read: {_describe(error)}") from None


def _get(connection: redis.Redis, workflow_id: str) -> dict[str, Any]:
    raw, ended = connection.hgetall(workflow_key(workflow_id)), connection.hgetall(f"{workflow_key(workflow_id)}:ended")
    if not raw:
        raise NotFound(f"No workflow {workflow_id!r}")
    jobs = []
    for node in JSON.loads(raw[b"graph"]):
        single = node["size"] is None
        for number, member in enumerate(member_names(node["name"], -1 if single else node["size"])):
            shown_id = node["name"] if single else f"{node['name']}[{number}]"
            state = ended.get(member.encode(), b"").decode()
            is_last = f"children:{node['name']}".encode() not in raw
            jobs.append(
                {
                    "name": shown_id,
                    "id": f"{workflow_id}-{member}",
                    "function": node["function"],
                    "status": state,
                    "result": None,
                    "error": None,
                    "after": node["after"],
                    "last": is_last,
                }
            )
    _complete(connection, jobs)
    return {**summary(workflow_id, raw), "jobs": jobs}


def _complete(connection: redis.Redis, jobs: list[dict[str, Any]]) -> None:
    """Add what the workflow's hash does not contain: statuses, results and errors of jobs."""
    for batch in batches((job for job in jobs if not job["status"]), BATCH_SIZE):
        with connection.pipeline(transaction=False) as pipeline:
            for job in batch:
                pipeline.hget(job_key(job["id"]), "status")
            for job, status in zip(batch, pipeline.execute(), strict=True):
                job["status"] = status.decode() if status else "canceled"
    failed = [job for job in jobs if job["status"] not in ("finished", "queued", "deferred")][:MAX_FAILURES_SHOWN]
    detailed = failed + [job for job in jobs if job.pop("last") and job["status"] == "finished"]
    for batch in batches(detailed, BATCH_SIZE):
        for job, details in zip(batch, job_view.fetch(connection, [job["id"] for job in batch]), strict=True):
            if details:
                job["result"], job["error"] = details["result"], details["error"]


def summary(workflow_id: str, raw: dict[bytes, bytes]) -> dict[str, Any]:
    """A workflow as JSON, without its jobs. Raises ValueError, KeyError: it cannot be read."""
    counts = {state: _count(raw.get(f"count:{state}".encode(), 0)) for state in ENDED}
    return {
        "id": workflow_id,
        "name": raw[b"name"].decode() or None,
        "status": raw[b"status"].decode(),
        "created_at": raw[b"created_at"].decode(),
        "ended_at": raw.get(b"ended_at", b"").decode() or None,
        "counts": {"total": _count(raw[b"total"]), **counts},
        "webhook": JSON.loads(raw.get(b"webhook") or b"null"),
        "links": {"self": f"/api/v1/workflows/{workflow_id}"},
    }


def list_workflows(
    connection: redis.Redis, limit: int, cursor: str | None, status: str | None, name: str | None
) -> tuple[list[dict[str, Any]], str | None, list[dict[str, str]]]:
    """A page, newest first, the cursor of the next page, and unreadable workflows. Raises BadRequest."""
    offset = _parse_cursor(cursor)
    page: list[dict[str, Any]] = []
    unreadable: list[dict[str, str]] = []
    while True:
        ids = connection.zrevrange(WORKFLOWS, offset, offset + BATCH_SIZE - 1)
        if not ids:
            return page, None, unreadable
        with connection.pipeline(transaction=False) as pipeline:
            for raw_id in ids:
                pipeline.hgetall(workflow_key("").encode() + raw_id)
            raws = execute_each(pipeline)
        for raw_id, raw in zip(ids, raws, strict=True):
            if not raw:  # expired
                connection.zrem(WORKFLOWS, raw_id)
                continue
            offset += 1
            shown_id = raw_id.decode(errors="replace")
            try:
                workflow = summary(shown_id, raw)
            except UNREADABLE_ERRORS as error:
                reason = _describe(raw if isinstance(raw, redis.RedisError) else error)
                unreadable.append({"id": shown_id, "reason": reason})
                continue
            if (not status or workflow["status"] == status) and (not name or workflow["name"] == name):
                page.append(workflow)
                if len(page) == limit:
                    return page, str(offset), unreadable


def _describe(error: Exception) -> str:
    return str(error) if isinstance(error, redis.RedisError) else f"{type(error).__name__}: {text_of(error)}"


def _count(data: bytes | str | int) -> int:
    """Raises ValueError."""
    number = int(data)
    if not 0 <= number <= MAX_JOBS:
        raise ValueError("not a number of jobs")
    return number


def _parse_cursor(cursor: str | None) -> int:
    if cursor is None:
        return 0
    if not (cursor.isdecimal() and len(cursor) < 12):
        raise BadRequest("The cursor is invalid")
    return int(cursor)
