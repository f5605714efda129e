"""Enqueue jobs: writes what RQ 2.12's `Queue.enqueue`, `enqueue_at` and `depends_on` write.

All jobs of one call are written by one script: either all or none.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import redis
from redis.client import Pipeline

from app import tracing
from app.enqueue import queue_limit
from app.enqueue.idempotency import Answer, Receipt
from app.enqueue.new_job import NewJob
from app.errors import Conflict, Invalid, WrongState
from app.redis.scripts import Script

ENQUEUE = Script("enqueue/enqueue")


@dataclass(frozen=True)
class Enqueued:
    """The ids of the jobs, or of the unique jobs that already existed; or the stored response of the first request."""

    ids: list[str] = field(default_factory=list)
    replayed: Answer | None = None


def enqueue(
    connection: redis.Redis,
    jobs: Sequence[NewJob],
    receipt: Receipt | None = None,
    traceparent: str | None = None,
) -> Enqueued:
    """Queue, schedule or defer each job, unless the request of `receipt` was already answered.

    `traceparent`: the trace context of the request (W3C Trace Context).

    Raises:
        Conflict: a chosen id is taken, a unique job already exists, or there would be too many queues.
        Invalid: a dependency does not exist or can no longer finish; or the key was used for a different request.
    """
    chosen = [job.id for job in jobs if job.named]
    if len(chosen) != len(set(chosen)):
        raise Conflict("The same id is given twice")
    with tracing.sending(jobs, traceparent):
        outcome, *details = ENQUEUE(
            connection,
            script_args(jobs),
            now_seconds=_now(),
            is_new=0,
            **queue_limit.script_args(jobs),
            **(receipt.script_args() if receipt else {}),
        )
    if outcome == b"kept":
        assert receipt
        return Enqueued([job.id for job in jobs], receipt.read(details[0], jobs[0].id))
    if outcome == b"queues":
        raise queue_limit.too_many_queues_error(details[0], jobs)
    if outcome != b"ok":
        raise _refusal(outcome.decode(), details, jobs)
    return Enqueued([job_id.decode() for job_id in details[0]] if details else [job.id for job in jobs])


def add(pipeline: Pipeline, jobs: Sequence[NewJob]) -> None:
    """Add jobs with new ids to a transaction."""
    if not jobs:
        return
    with tracing.sending(jobs):
        ENQUEUE.add_to(pipeline, script_args(jobs), now_seconds=_now(), is_new=1)


def script_args(jobs: Sequence[NewJob]) -> list[Any]:
    """The jobs as arguments for enqueue/library.lua."""
    return [word for job in jobs for word in job.script_args()]


def _now() -> int:
    return int(datetime.now(UTC).timestamp())


def _refusal(outcome: str, details: list[Any], jobs: Sequence[NewJob]) -> Conflict | Invalid:
    """The error for a refusal of enqueue.lua."""
    if outcome == "parent":
        return _cannot_finish(jobs[details[0] - 1], details[1] - 1, details[2].decode())
    holder = details[0].decode()
    if outcome == "taken":
        return Conflict(f"There is a job with id {holder!r} already")
    if outcome == "running":
        return WrongState(f"Job {holder}", "started", "it cannot be replaced")
    return WrongState(f"Job {holder}", details[1].decode(), "there may be no second one like it")


def _cannot_finish(job: NewJob, parent: int, status: str) -> Invalid:
    title, pointer = "A job to depend on cannot finish", f"{job.pointer}/depends_on/{parent}"
    gone = f"is {status}" if status else "does not exist"
    detail = f"job {job.depends_on[parent]!r} {gone}: nothing can wait for it"
    concealed = "there is no such job, or nothing can wait for it any more"
    error = Invalid(title, [{"detail": detail, "pointer": pointer}])
    error.concealed = Invalid(title, [{"detail": concealed, "pointer": pointer}])
    return error
