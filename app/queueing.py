"""The one way into RQ: writes what RQ 2.12's `Queue.enqueue`, `enqueue_at` and `depends_on` write.

All jobs of one call are written in one transaction: either every one is there, or none.
"""

import math
import uuid
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol, cast

import orjson
import redis
from redis.client import Pipeline
from rq.utils import get_call_string

from app import changes, events, limits, queue_limit, unique, webhooks
from app.catalog import Function
from app.errors import Conflict, Invalid, TooLarge
from app.limits import Held
from app.options import JOB_EVENTS
from app.redis import QUEUES, job_key, moment, queue_key, registry_key, script
from app.serializer import JSON
from app.settings import Settings

BLANK = dict.fromkeys(
    (
        "success_callback_name", "failure_callback_name", "stopped_callback_name", "started_at", "ended_at",
        "last_heartbeat", "worker_name", "group_id",
    ),
    "",
)  # fmt: skip
"""What RQ writes of any new job; enqueue.lua has it by itself."""
SMALL = 512  # bytes, which is zlib's smallest window
WAITABLE = (b"created", b"queued", b"deferred", b"scheduled", b"started", b"finished")


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
    waits_for: list[str] = field(default_factory=list)
    """Those of `depends_on` that have not finished: nothing would remove what is noted of the others."""
    at_front: bool = False
    meta: dict[str, Any] = field(default_factory=dict)
    limits: Held = field(default_factory=list)
    queue_limit: int | None = None
    """How many queues there may be with its own; None: its queue is always taken."""
    lock: unique.Lock | None = None
    ours: dict[str, Any] = field(default_factory=dict, repr=False)
    """Fields of its hash that RQ does not know, and no tool shows: there may be a secret among them."""
    description: str = ""
    status: str = "queued"
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __post_init__(self) -> None:
        self.description = self.description or call_text(self.function, self.args, self.kwargs)

    @property
    def push(self) -> str:
        return "LPUSH" if self.at_front else "RPUSH"

    def hash(self) -> dict[str, Any]:
        """As rq.job.Job.to_dict (RQ 2.12)."""
        return BLANK | self.said()

    def said(self) -> dict[str, Any]:
        """Its hash, but for what is blank."""
        now = moment(self.created_at)
        fields: dict[str, Any] = {
            "created_at": now,
            "data": call_data(self.function, self.args, self.kwargs),
            "origin": self.queue,
            "description": self.description,
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
        if self.limits:
            fields["limits"] = orjson.dumps(self.limits)
        if self.meta:
            fields["meta"] = JSON.dumps(self.meta)
        return fields | self.ours


def call_data(path: str, args: list[Any], kwargs: dict[str, Any]) -> bytes:
    """A call as the field `data` of RQ's hash."""
    plain = JSON.dumps([path, None, args, kwargs])
    if len(plain) > SMALL:
        return zlib.compress(plain)
    small = zlib.compressobj(wbits=9, memLevel=1)  # zlib's usual 256 KiB of working memory cost up to 45 us
    return small.compress(plain) + small.flush()


def call_text(path: str, args: list[Any], kwargs: dict[str, Any]) -> str:
    """The description of a job that was given none."""
    return str(get_call_string(path, args, kwargs, max_length=75))


class Receipt(Protocol):
    """What is written in the same step as the jobs."""

    key: str
    kept: int
    """Seconds."""

    def claim(self) -> None:
        """Hold `key`; raises if nothing may be written."""

    def judge(self, held: bytes | None) -> None:
        """Raises if nothing may be written, as `key` holds something else."""

    def value(self, ids: list[str]) -> bytes | None:
        """What `key` is to hold; None: that is not known yet."""


def enqueue(connection: redis.Redis, jobs: list[NewJob], receipt: Receipt | None = None) -> list[str]:
    """Queue, schedule or defer each job; `status` is set on it. Their ids, or those of the jobs that are unique before.

    Raises:
        Conflict: an id that the caller chose is taken, a unique job is there already, or there are too many queues.
        Invalid: a job to depend on does not exist or can no longer finish.
    """
    if not any(job.named or job.lock or job.depends_on for job in jobs):
        return _enqueue_plain(connection, jobs, receipt)
    chosen = [job.id for job in jobs if job.named]
    if len(chosen) != len(set(chosen)):
        raise Conflict("The same id is given twice")
    parents = sorted({parent for job in jobs for parent in job.depends_on} - {job.id for job in jobs})
    locks = {job.lock.key: job.lock for job in jobs if job.lock}
    if receipt:
        receipt.claim()
    watched = [job_key(job_id) for job_id in (*chosen, *parents)] + [*locks] + ([receipt.key] if receipt else [])
    watched += queue_limit.watched(jobs)
    first, written = jobs[0], list[str]()

    def check_and_write(pipeline: Pipeline) -> list[str]:
        if written and pipeline.hget(job_key(first.id), "created_at") == moment(first.created_at).encode():
            return written  # the transaction had held, and its answer was lost
        if receipt:
            receipt.judge(pipeline.get(receipt.key))
        taken = [job_id for job_id in chosen if pipeline.exists(job_key(job_id))]
        if taken:
            raise Conflict(f"There is a job with id {taken[0]!r} already")
        status_of: dict[str, bytes | None] = {p: pipeline.hget(job_key(p), "status") for p in parents}
        _place(jobs, status_of)
        queue_limit.check(pipeline, jobs)
        holder_of = {key: holder for key, lock in locks.items() if (holder := _holder(pipeline, lock))}
        pipeline.multi()
        ids, new = _unique(pipeline, jobs, holder_of)
        write(pipeline, new)
        if receipt and (value := receipt.value(ids)):
            pipeline.set(receipt.key, value, ex=receipt.kept)
        written[:] = ids
        return ids

    # something is always watched: redis-py sends a transaction again, when its answer is lost, if nothing is
    watched.append(job_key(first.id))
    return cast(list[str], connection.transaction(check_and_write, *watched, value_from_callable=True))


def _enqueue_plain(connection: redis.Redis, jobs: list[NewJob], receipt: Receipt | None) -> list[str]:
    """Jobs with new ids that wait for none and exclude none: one round trip."""
    _place(jobs, {})
    ids = [job.id for job in jobs]
    keys, words = [job_key(jobs[0].id)], list[Any]((b"", 0))
    if receipt:
        keys.append(receipt.key)
        words = [receipt.value(ids), receipt.kept]
    names, limit = queue_limit.limited(jobs)
    words += (" ".join(names), limit)
    for job in jobs:
        where = job.at and math.ceil(job.at.timestamp()) if job.status == "scheduled" else job.push
        fields = [word for pair in job.said().items() for word in pair]
        words += (job.id, job.queue, where, job.ttl or "", len(fields), *fields)
    held = script(connection, "queue_limit", "enqueue")(keys=keys, args=words)
    if isinstance(held, list):
        raise queue_limit.too_many(held[0].decode(), limit)
    if receipt and held != 1:
        receipt.judge(held)
    return ids


def _holder(pipeline: Pipeline, lock: unique.Lock) -> tuple[str, bytes] | None:
    """The job that holds a lock, and its state; it is watched."""
    found = pipeline.get(lock.key)
    if not found:
        return None
    pipeline.watch(job_key(found.decode()))
    status = pipeline.hget(job_key(found.decode()), "status")
    return (found.decode(), status) if lock.held(status) else None


def _unique(
    pipeline: Pipeline, jobs: list[NewJob], holder_of: dict[str, tuple[str, bytes]]
) -> tuple[list[str], list[NewJob]]:
    """The ids that the caller gets, and the jobs to be made."""
    ids: list[str] = []
    new: list[NewJob] = []
    for job in jobs:
        holder = holder_of.get(job.lock.key) if job.lock else None
        if job.lock and holder and job.lock.rule.on_conflict != "replace":
            if job.lock.rule.on_conflict == "reject":
                raise Conflict(f"Job {holder[0]} is {holder[1].decode()}, and there may be no second one like it")
            ids.append(holder[0])
            continue
        if job.lock:
            if holder and holder[1] == b"started":
                raise Conflict(f"Job {holder[0]} runs already, and cannot be replaced")
            if holder:
                new = [one for one in new if one.id != holder[0]]
                changes.change(pipeline, holder[0], "delete")
            holder_of[job.lock.key] = job.id, job.status.encode()
            pipeline.set(job.lock.key, job.id, px=job.lock.ttl)
        ids.append(job.id)
        new.append(job)
    return ids, new


def _place(jobs: list[NewJob], status_of: dict[str, bytes | None]) -> None:
    for number, job in enumerate(jobs):
        for place, parent in enumerate(job.depends_on):
            if status_of.get(parent, b"queued") not in WAITABLE:
                gone = "does not exist" if status_of[parent] is None else f"is {status_of[parent].decode()}"  # type: ignore[union-attr]
                pointer = f"#/jobs/{number}/depends_on/{place}" if len(jobs) > 1 else f"#/depends_on/{place}"
                detail = f"job {parent!r} {gone}: nothing can wait for it"
                raise Invalid("A job to depend on cannot finish", [{"detail": detail, "pointer": pointer}])
        job.waits_for = [parent for parent in job.depends_on if status_of.get(parent) != b"finished"]
        if job.waits_for:
            job.status = "deferred"
        elif job.at and job.at > datetime.now(UTC):
            job.status = "scheduled"
        else:
            job.status = "queued"


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
                pipeline.sadd(f"rq:job::{job.id}:dependencies", parent)  # two colons: as RQ names it
            for parent in job.waits_for:
                pipeline.sadd(f"{job_key(parent)}:dependents", job.id)
        elif job.status == "scheduled":
            assert job.at is not None
            pipeline.zadd(registry_key("scheduled", job.queue), {job.id: math.ceil(job.at.timestamp())})
        elif job.push == "LPUSH":
            pipeline.lpush(queue_key(job.queue), job.id)
        else:
            ready.setdefault(queue_key(job.queue), []).append(job.id)
    if jobs:
        pipeline.sadd(QUEUES, *{queue_key(job.queue) for job in jobs})
    told: dict[tuple[str, str], list[str]] = {}
    for job in jobs:
        told.setdefault((job.queue, job.status), []).append(job.id)
    for (queue, status), ids in told.items():
        events.tell(pipeline, ids, queue, status)
    for queue, ids in ready.items():
        pipeline.rpush(queue, *ids)


def prepare(
    function: Function, settings: Settings, args: list[Any], kwargs: dict[str, Any], pointer: str = "#", **said: Any
) -> NewJob:
    """A call of a function with what is `said` of it, else the function's options, else the service's defaults.

    `said` are fields of NewJob and options of a function; `pointer` leads to the call in the request.
    The arguments must have been checked.

    Raises:
        TooLarge: the arguments exceed ARGUMENTS_LIMIT.
        Invalid: a limit, or what is to be unique, names what is no argument; or the webhook cannot be signed, or must
            not be reached.
    """
    check_size(settings, args, kwargs)
    given = {name: value for name, value in said.items() if value is not None}
    options = function.options
    retry = given.pop("retry", None) or options.retry
    rate_limit = given.pop("rate_limit", None) or options.rate_limit
    concurrency = given.pop("concurrency", None) or options.concurrency
    rule = given.pop("unique", None) or options.unique
    queue = given.pop("queue", options.queue)
    tags = [*options.tags, *given.pop("tags", ())]
    default = options.webhook or webhooks.of_service(settings, JOB_EVENTS)
    webhook = webhooks.chosen(given.pop("webhook", None), default, settings, pointer)
    meta = {**given.pop("meta", {}), **({"tags": tags} if tags else {})}
    defaults = {
        "queue": queue,
        "queue_limit": queue_limit.limit_for(queue, settings),
        "timeout": options.timeout or settings.job_timeout,
        "ttl": options.ttl,
        "result_ttl": settings.result_ttl if options.result_ttl is None else options.result_ttl,
        "failure_ttl": settings.failure_ttl if options.failure_ttl is None else options.failure_ttl,
        "retry_waits": retry.waits() if retry else None,
        "meta": meta,
        "limits": limits.of(function, queue, args, kwargs, rate_limit, concurrency, options.breaker, pointer),
        "lock": unique.lock(function, args, kwargs, rule, pointer) if rule else None,
        "ours": {"follow": "webhook", **webhooks.fields(webhook)} if webhook else {},
    }
    return NewJob(function.path, args, kwargs, **{**defaults, **given})


def check_size(settings: Settings, args: list[Any], kwargs: dict[str, Any]) -> None:
    """Raises TooLarge: the arguments exceed ARGUMENTS_LIMIT. Invalid: a default among them has no JSON form."""
    try:
        size = len(JSON.dumps([args, kwargs]))
    except TypeError as error:
        raise Invalid("The arguments have no JSON form", [{"detail": str(error), "pointer": "#"}]) from None
    if size > settings.arguments_limit:
        raise TooLarge(f"The arguments are {size} bytes, the limit is {settings.arguments_limit}")
