"""The one way into RQ: writes what RQ 2.12's `Queue.enqueue`, `enqueue_at` and `depends_on` write.

All jobs of one call are written in one transaction: either every one is there, or none.
"""

import math
import uuid
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain
from typing import Any

import orjson
import redis
from redis.client import Pipeline
from rq.utils import get_call_string

from app.catalog import Function
from app.errors import Conflict, Invalid, NotFound, TooLarge
from app.redis import QUEUES, ended_key, job_key, moment, queue_key, registry_key, script
from app.serializer import JSON
from app.settings import Settings

WAITABLE = (b"created", b"queued", b"deferred", b"scheduled", b"started", b"finished")
WAKE_FOR = 60  # seconds that the note of a job's end stays for those who wait


@dataclass(slots=True)
class NewJob:
    """One call to be made. Durations in seconds; `function` is what RQ imports; `retry_waits` has one wait a retry."""

    function: str
    args: list[Any]
    kwargs: dict[str, Any]
    queue: str
    timeout: int
    result_ttl: int
    failure_ttl: int
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    named: bool = False
    """The caller chose the id: it must be new."""
    ttl: int | None = None
    at: datetime | None = None
    retry_waits: list[int] | None = None
    depends_on: list[str] = field(default_factory=list)
    at_front: bool = False
    meta: dict[str, Any] = field(default_factory=dict)
    description: str | None = None
    status: str = "queued"
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def hash(self) -> dict[str, Any]:
        """As rq.job.Job.to_dict (RQ 2.12)."""
        now = moment(self.created_at)
        fields: dict[str, Any] = {
            "created_at": now,
            "data": call_data(self.function, self.args, self.kwargs),
            "success_callback_name": "",
            "failure_callback_name": "",
            "stopped_callback_name": "",
            "started_at": "",
            "ended_at": "",
            "last_heartbeat": "",
            "worker_name": "",
            "group_id": "",
            "origin": self.queue,
            "description": self.description or call_text(self.function, self.args, self.kwargs),
            "timeout": self.timeout,
            "result_ttl": self.result_ttl,
            "failure_ttl": self.failure_ttl,
            "status": self.status,
        }
        if self.status == "queued":
            fields["enqueued_at"] = now
        if self.ttl is not None:
            fields["ttl"] = self.ttl
        if self.retry_waits:
            fields["retries_left"] = len(self.retry_waits)
            fields["retry_intervals"] = orjson.dumps(self.retry_waits)
        if self.depends_on:
            fields["dependency_id"] = self.depends_on[0]
            fields["dependency_ids"] = orjson.dumps(self.depends_on)
        if self.at_front and self.status != "queued":
            fields["enqueue_at_front"] = 1
        if self.meta:
            fields["meta"] = JSON.dumps(self.meta)
        return fields


def call_data(path: str, args: list[Any], kwargs: dict[str, Any]) -> bytes:
    """A call as the field `data` of RQ's hash."""
    return zlib.compress(JSON.dumps([path, None, args, kwargs]))


def call_text(path: str, args: list[Any], kwargs: dict[str, Any]) -> str:
    """The description of a job that was given none."""
    return str(get_call_string(path, args, kwargs, max_length=75))


def enqueue(connection: redis.Redis, jobs: list[NewJob]) -> None:
    """Queue, schedule or defer each job; `status` is set on it.

    Raises:
        Conflict: an id that the caller chose is taken.
        Invalid: a job to depend on does not exist or can no longer finish.
    """
    chosen = [job.id for job in jobs if job.named]
    if len(chosen) != len(set(chosen)):
        raise Conflict("The same id is given twice")
    parents = sorted({parent for job in jobs for parent in job.depends_on} - {job.id for job in jobs})
    watched = [job_key(job_id) for job_id in (*chosen, *parents)]

    def check_and_write(pipeline: Pipeline) -> None:
        taken = [job_id for job_id in chosen if pipeline.exists(job_key(job_id))]
        if taken:
            raise Conflict(f"There is a job with id {taken[0]!r} already")
        status_of: dict[str, bytes | None] = {p: pipeline.hget(job_key(p), "status") for p in parents}
        _place(jobs, status_of)
        pipeline.multi()
        write(pipeline, jobs)

    connection.transaction(check_and_write, *watched)


def _place(jobs: list[NewJob], status_of: dict[str, bytes | None]) -> None:
    for number, job in enumerate(jobs):
        for place, parent in enumerate(job.depends_on):
            if status_of.get(parent, b"queued") not in WAITABLE:
                gone = "does not exist" if status_of[parent] is None else f"is {status_of[parent].decode()}"  # type: ignore[union-attr]
                pointer = f"#/jobs/{number}/depends_on/{place}" if len(jobs) > 1 else f"#/depends_on/{place}"
                detail = f"job {parent!r} {gone}: nothing can wait for it"
                raise Invalid("A job to depend on cannot finish", [{"detail": detail, "pointer": pointer}])
        if any(status_of.get(parent) != b"finished" for parent in job.depends_on):
            job.status = "deferred"
        elif job.at and job.at > datetime.now(UTC):
            job.status = "scheduled"


def write(pipeline: Pipeline, jobs: Sequence[NewJob]) -> None:
    """Into a transaction."""
    ready: dict[str, list[str]] = {}
    for job in jobs:
        key = job_key(job.id)
        pipeline.hset(key, mapping=job.hash())
        if job.ttl:
            pipeline.expire(key, job.ttl)
        if job.status == "deferred":
            pipeline.zadd(registry_key("deferred", job.queue), {job.id: int(job.created_at.timestamp())})
            for parent in job.depends_on:
                pipeline.sadd(f"{job_key(parent)}:dependents", job.id)
                pipeline.sadd(f"rq:job::{job.id}:dependencies", parent)  # two colons: as RQ names it
        elif job.status == "scheduled":
            assert job.at is not None
            pipeline.zadd(registry_key("scheduled", job.queue), {job.id: math.ceil(job.at.timestamp())})
        elif job.at_front:
            pipeline.lpush(queue_key(job.queue), job.id)
        else:
            ready.setdefault(queue_key(job.queue), []).append(job.id)
    if jobs:
        pipeline.sadd(QUEUES, *{queue_key(job.queue) for job in jobs})
    for queue, ids in ready.items():
        pipeline.rpush(queue, *ids)


def cancel(connection: redis.Redis, job_id: str, stop: Callable[[str], None]) -> None:
    """Take a job that has not started out of its queue, or `stop` the one that runs.

    Raises:
        NotFound, Conflict: it has ended already.
    """
    outcome = _change(connection, "cancel", job_id)
    if outcome == "started":
        stop(job_id)
    elif outcome != "ok":
        raise Conflict(f"Job {job_id} is {outcome}: only a job that has not ended can be canceled")


def requeue(
    connection: redis.Redis, job_id: str, queue: str = "", fields: Mapping[str, str | bytes | int] | None = None
) -> None:
    """Put a failed, stopped or canceled job back at the end of its queue, or of another.

    `fields` of its hash are written in the same step.

    Raises:
        NotFound, Conflict: it is in another state.
    """
    outcome = _change(connection, "requeue", job_id, queue, *chain.from_iterable((fields or {}).items()))
    if outcome != "ok":
        raise Conflict(f"Job {job_id} is {outcome}: only a failed, stopped or canceled job can be requeued")


def delete(connection: redis.Redis, job_id: str) -> None:
    """Remove a job and all that is kept of it.

    Raises:
        NotFound, Conflict: it is running.
    """
    outcome = _change(connection, "delete", job_id)
    if outcome != "ok":
        raise Conflict(f"Job {job_id} is {outcome}: cancel it first")


def _change(connection: redis.Redis, name: str, job_id: str, *more: Any) -> str:
    outcome = change(connection, name, job_id, *more)
    if outcome is None:
        raise NotFound(f"No job {job_id!r}")
    return outcome.decode()


def change(client: redis.Redis, name: str, job_id: str, *more: Any) -> Any:
    """Run cancel.lua, requeue.lua or delete.lua on a job, or add it to a pipeline: b"ok", the state that forbids it, or
    None if there is no such job."""
    now = datetime.now(UTC)
    return script(client, name)(
        keys=[job_key(job_id), ended_key(job_id)],
        args=[job_id, moment(now), int(now.timestamp()), WAKE_FOR, *more],
    )


def move_due(connection: redis.Redis, queue: str, now: datetime, limit: int = 1000) -> int:
    """Move up to `limit` jobs whose time has come from the scheduled registry to their queue; returns how many.

    As rq.scheduler.RQScheduler.enqueue_scheduled_jobs (RQ 2.12), in one atomic step.
    """
    keys = [registry_key("scheduled", queue), queue_key(queue), QUEUES]
    return script(connection, "move_due")(keys=keys, args=[now.timestamp(), moment(now), limit])


def prepare(function: Function, settings: Settings, args: list[Any], kwargs: dict[str, Any], **said: Any) -> NewJob:
    """A call of a function with what is `said` of it, else the function's options, else the service's defaults.

    `said` are fields of NewJob, and `retry`; the arguments must have been checked.

    Raises:
        TooLarge: the arguments exceed ARGUMENTS_LIMIT.
    """
    check_size(settings, args, kwargs)
    given = {name: value for name, value in said.items() if value is not None}
    options = function.options
    retry = given.pop("retry", None) or options.retry
    tags = [*options.tags, *given.pop("tags", ())]
    meta = {**given.pop("meta", {}), **({"tags": tags} if tags else {})}
    defaults = {
        "queue": options.queue,
        "timeout": options.timeout or settings.job_timeout,
        "ttl": options.ttl,
        "result_ttl": settings.result_ttl if options.result_ttl is None else options.result_ttl,
        "failure_ttl": settings.failure_ttl if options.failure_ttl is None else options.failure_ttl,
        "retry_waits": retry.waits() if retry else None,
        "meta": meta,
    }
    return NewJob(function.path, args, kwargs, **{**defaults, **given})


def check_size(settings: Settings, args: list[Any], kwargs: dict[str, Any]) -> None:
    """Raises TooLarge: the arguments exceed ARGUMENTS_LIMIT."""
    size = len(JSON.dumps([args, kwargs]))
    if size > settings.arguments_limit:
        raise TooLarge(f"The arguments are {size} bytes, the limit is {settings.arguments_limit}")
