"""What is done with jobs that are there: cancel, requeue, delete; and those whose time has come are queued."""

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
STOP_TIMEOUT_SECONDS = 1.0  # seconds for a job that was claimed to begin


def cancel(connection: redis.Redis, job_id: str) -> None:
    """Take a job that has not started out of its queue, or have its worker stop it.

    Raises:
        NotFound, Conflict: it has ended already.
    """
    outcome = _status(apply(connection, job_id, "cancel"), job_id)
    if outcome == "started" and not stop(connection, job_id, STOP_TIMEOUT_SECONDS):
        outcome = "about to begin, or has just ended"
    if outcome not in ("ok", "started"):
        raise WrongState(f"Job {job_id}", outcome, "only a job that has not ended can be canceled")


def stop(connection: redis.Redis, job_id: str, wait_seconds: float = 0) -> bool:
    """Whether a worker was told to stop the job; `wait_seconds` up to so many seconds for it to begin."""
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
    """Put a failed, stopped or canceled job back at the end of its queue, or of another.

    `fields` of its hash are written in the same step; `queue_limit`: how many queues there may be with the other one.

    Raises:
        NotFound, Conflict: it is in another state.
    """
    outcome = _status(send_requeue(connection, job_id, queue, fields, queue_limit), job_id)
    if outcome == "queues":
        raise too_many_queues(queue, queue_limit)
    if outcome != "ok":
        raise WrongState(f"Job {job_id}", outcome, "only a failed, stopped or canceled job can be requeued")


def delete(connection: redis.Redis, job_id: str) -> None:
    """Remove a job and all that is kept of it.

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
    """Cancel (for a reason), requeue or delete a job, at once or as part of a pipeline.

    Returns b"ok", the status that forbids it, or None if there is no such job.
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
    """As `apply`, to another queue and with new values of fields of its hash."""
    field_args = list(chain.from_iterable((fields or {}).items()))
    return REQUEUE(
        connection,
        field_args,
        id=job_id,
        now=rq_timestamp(datetime.now(UTC)),
        other_queue=queue,
        queue_limit="" if queue_limit is None else queue_limit,
    )


def move_due(connection: redis.Redis, queue: str, now: datetime, limit: int = 1000) -> int:
    """Move up to `limit` jobs whose time has come from the scheduled registry to their queue; returns how many.

    As rq.scheduler.RQScheduler.enqueue_scheduled_jobs (RQ 2.12), in one atomic step.
    """
    return int(MOVE_DUE(connection, queue=queue, now=rq_timestamp(now), now_seconds=now.timestamp(), count=limit))
