"""What is done with jobs that are there: cancel, requeue, delete; and those whose time has come are queued."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import chain
from typing import Any, Literal

import redis
from redis.client import Pipeline
from rq.command import send_command

from app.errors import Conflict, NotFound
from app.queue_limit import too_many
from app.redis import ENDING, QUEUES, ended_key, job_key, moment, queue_key, registry_key, script
from app.settings import get_settings

Action = Literal["cancel", "requeue", "delete"]
SCRIPTS: dict[Action, tuple[str, ...]] = {
    "cancel": (*ENDING, "cancel"),
    "requeue": ("workflows/library", "workflows/reopen", "queue_limit", "move", "requeue"),
    "delete": ("delete",),
}
STOP_WITHIN = 1.0  # seconds for a job that was claimed to begin
WAKE_FOR = 60  # seconds that the note of a job's end stays for those who wait


def cancel(connection: redis.Redis, job_id: str) -> None:
    """Take a job that has not started out of its queue, or have its worker stop it.

    Raises:
        NotFound, Conflict: it has ended already.
    """
    outcome = _change(connection, job_id, "cancel")
    if outcome == "started" and not stop(connection, job_id, STOP_WITHIN):
        outcome = "about to begin, or has just ended"
    if outcome not in ("ok", "started"):
        raise Conflict(f"Job {job_id} is {outcome}: only a job that has not ended can be canceled")


def stop(connection: redis.Redis, job_id: str, wait: float = 0) -> bool:
    """Whether a worker was told to stop the job; `wait` up to so many seconds for it to begin."""
    end = time.monotonic() + wait
    while True:
        status, worker = connection.hmget(job_key(job_id), "status", "worker_name")
        if status == b"started" and worker:
            send_command(connection, worker.decode(), "stop-job", job_id=job_id)
            return True
        if status != b"queued" or time.monotonic() >= end:
            return False
        time.sleep(0.02)


def requeue(
    connection: redis.Redis,
    job_id: str,
    queue: str = "",
    fields: Mapping[str, str | bytes | int] | None = None,
    limit: int | None = None,
) -> None:
    """Put a failed, stopped or canceled job back at the end of its queue, or of another.

    `fields` of its hash are written in the same step; `limit`: how many queues there may be with the other one.

    Raises:
        NotFound, Conflict: it is in another state.
    """
    more = chain.from_iterable((fields or {}).items())
    outcome = _change(connection, job_id, "requeue", queue, "" if limit is None else limit, *more)
    if outcome == "queues":
        raise too_many(queue, limit)
    if outcome != "ok":
        raise Conflict(f"Job {job_id} is {outcome}: only a failed, stopped or canceled job can be requeued")


def delete(connection: redis.Redis, job_id: str) -> None:
    """Remove a job and all that is kept of it.

    Raises:
        NotFound, Conflict: it is running.
    """
    outcome = _change(connection, job_id, "delete")
    if outcome != "ok":
        raise Conflict(f"Job {job_id} is {outcome}: cancel it first")


def _change(connection: redis.Redis, job_id: str, action: Action, *more: Any) -> str:
    outcome = change(connection, job_id, action, *more)
    if outcome is None:
        raise NotFound(f"No job {job_id!r}")
    return outcome.decode(errors="replace")


def change(connection: redis.Redis | Pipeline, job_id: str, action: Action, *more: Any) -> Any:
    """Cancel, requeue or delete a job, at once or as part of a pipeline: b"ok", the state that forbids it, or None if
    there is no such job. `more`: what its script takes besides; of `cancel` a reason."""
    now = datetime.now(UTC)
    if action == "cancel":
        more = (get_settings().failure_ttl, *more)
    keys, args = [job_key(job_id), ended_key(job_id)], [job_id, moment(now), int(now.timestamp()), WAKE_FOR, *more]
    return script(connection, *SCRIPTS[action])(keys=keys, args=args)


def move_due(connection: redis.Redis, queue: str, now: datetime, limit: int = 1000) -> int:
    """Move up to `limit` jobs whose time has come from the scheduled registry to their queue; returns how many.

    As rq.scheduler.RQScheduler.enqueue_scheduled_jobs (RQ 2.12), in one atomic step.
    """
    keys = [registry_key("scheduled", queue), queue_key(queue), QUEUES]
    return script(connection, "move_due")(keys=keys, args=[now.timestamp(), moment(now), limit])
