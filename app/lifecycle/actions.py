"""Cancel, stop, requeue and delete existing jobs, and queue scheduled jobs that are due."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import chain
from typing import Any, Literal

import redis
from redis.client import Pipeline
from rq.command import send_command

from app.enqueue.queue_limit import too_many_queues
from app.errors import NotFound, WrongState
from app.redis.client import rq_timestamp
from app.redis.keys import job_key
from app.redis.scripts import Script
from app.settings import get_settings

Action = Literal["cancel", "requeue", "delete"]
CANCEL, REQUEUE, DELETE = Script("lifecycle/cancel"), Script("lifecycle/requeue"), Script("lifecycle/delete")
MOVE_DUE = Script("lifecycle/move_due")
STOP_TIMEOUT_SECONDS = 1.0  # for a claimed job to start


def cancel(connection: redis.Redis, job_id: str) -> None:
    """Cancel a job that has not started, or tell its worker to stop it.

    Raises:
        NotFound, Conflict: it has already ended.
    """
    outcome = _status(apply(connection, job_id, "cancel"), job_id)
    if outcome == "started" and not stop(connection, job_id, STOP_TIMEOUT_SECONDS):
        outcome = "about to begin, or has just ended"
    if outcome not in ("ok", "started"):
        raise WrongState(f"Job {job_id}", outcome, "only a job that has not ended can be canceled")


def stop(connection: redis.Redis, job_id: str, wait_seconds: float = 0) -> bool:
    """Tell the worker of a job to stop it; waits up to `wait_seconds` for its start. False: no worker runs it."""
    deadline = time.monotonic() + wait_seconds
    while True:
        status, worker = connection.hmget(job_key(job_id), "status", "worker_name")
        if status == b"started" and worker:
            send_command(connection, worker.decode(), "stop-job", job_id=job_id)
            return True
        if status != b"queued" or time.monotonic() >= deadline:
            return False
        time.sleep(0.02)


def requeue(
    connection: redis.Redis,
    job_id: str,
    queue: str = "",
    fields: Mapping[str, str | bytes | int] | None = None,
    queue_limit: int | None = None,
) -> None:
    """Put a failed, stopped or canceled job at the end of its queue or of `queue`.

    `fields` of its hash are written in the same step; `queue_limit`: the maximum number of queues, `queue` included.

    Raises:
        NotFound, Conflict: it is in another state, or there would be too many queues.
    """
    outcome = _status(send_requeue(connection, job_id, queue, fields, queue_limit), job_id)
    if outcome == "queues":
        raise too_many_queues(queue, queue_limit)
    if outcome != "ok":
        raise WrongState(f"Job {job_id}", outcome, "only a failed, stopped or canceled job can be requeued")


def delete(connection: redis.Redis, job_id: str) -> None:
    """Delete a job and all its data.

    Raises:
        NotFound, Conflict: it is running.
    """
    outcome = _status(apply(connection, job_id, "delete"), job_id)
    if outcome != "ok":
        raise WrongState(f"Job {job_id}", outcome, "cancel it first")


def _status(outcome: bytes | None, job_id: str) -> str:
    if outcome is None:
        raise NotFound(f"No job {job_id!r}")
    return outcome.decode(errors="replace")


def apply(connection: redis.Redis | Pipeline, job_id: str, action: Action, reason: str = "") -> Any:
    """Cancel (with a reason), requeue or delete a job, immediately or as part of a pipeline.

    Returns b"ok", the status that does not allow it, or None if there is no such job.
    """
    if action == "delete":
        return DELETE(connection, id=job_id)
    if action == "requeue":
        return send_requeue(connection, job_id)
    now = datetime.now(UTC)
    return CANCEL(
        connection,
        id=job_id,
        now=rq_timestamp(now),
        now_seconds=int(now.timestamp()),
        default_failure_ttl=get_settings().failure_ttl,
        reason=reason,
    )


def send_requeue(
    connection: redis.Redis | Pipeline,
    job_id: str,
    queue: str = "",
    fields: Mapping[str, str | bytes | int] | None = None,
    queue_limit: int | None = None,
) -> Any:
    """Like `apply` with "requeue", optionally to another queue and with new values for fields of the hash."""
    field_args = list(chain.from_iterable((fields or {}).items()))
    return REQUEUE(
        connection,
        field_args,
        id=job_id,
        now=rq_timestamp(datetime.now(UTC)),
        other_queue=queue,
        queue_limit="" if queue_limit is None else queue_limit,
    )


def move_due(connection: redis.Redis, now: datetime, limit: int = 1000) -> tuple[int, list[str]]:
    """Move up to `limit` due jobs from the scheduled registries to their queues.

    Like rq.scheduler.RQScheduler.enqueue_scheduled_jobs (RQ 2.12), but atomic, and for all queues at once.

    Returns:
        the number of jobs, and the names of queues that cannot be read.
    """
    moved, unreadable = MOVE_DUE(connection, now=rq_timestamp(now), now_seconds=now.timestamp(), count=limit)
    return int(moved), [name.decode(errors="replace") for name in unreadable]
