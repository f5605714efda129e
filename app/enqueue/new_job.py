"""A new job: its options from the request, its function and the settings, and the RQ hash that it becomes."""

import uuid
import zlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson
from rq.utils import get_call_string

from app import limits
from app.author.options import JOB_EVENTS
from app.catalog.catalog import Function, function_name
from app.enqueue import queue_limit, unique
from app.errors import Invalid, TooLarge
from app.limits import JobLimits
from app.redis.client import rq_timestamp
from app.serializer import JSON
from app.settings import Settings
from app.webhooks import webhook_delivery

SMALL_CALL_BYTES = 512  # zlib's smallest window


@dataclass(slots=True)
class NewJob:
    """A job that is not in Redis yet. Durations are in seconds; `function` is its import path, as RQ stores it."""

    function: str
    args: list[Any]
    kwargs: dict[str, Any]
    queue: str
    timeout: int
    result_ttl: int
    failure_ttl: int
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    named: bool = False
    """The caller chose the id, so it must not exist yet."""
    ttl: int | None = None
    at: datetime | None = None
    """When it is due; a time in the past means now."""
    delay: float | None = None
    """Seconds until it is due, by the clock of Redis."""
    retry_waits: list[int] | None = None
    """The wait before each retry."""
    depends_on: list[str] = field(default_factory=list)
    at_front: bool = False
    meta: dict[str, Any] = field(default_factory=dict)
    limits: JobLimits = field(default_factory=list)
    queue_limit: int | None = None
    """The maximum number of queues, its own included; None: no limit applies."""
    lock: unique.Lock | None = None
    extra_fields: dict[str, Any] = field(default_factory=dict, repr=False)
    """Further fields of the hash that no tool shows, since they may contain a secret."""
    description: str = ""
    deferred: bool = False
    """It waits until its workflow queues it."""
    pointer: str = "#"
    """JSON pointer to the call in the request body."""
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    source: str = "api"
    """What enqueues it: one of app.metrics.measures.SOURCES."""

    def __post_init__(self) -> None:
        self.description = self.description or describe_call(self.function, self.args, self.kwargs)

    @property
    def status(self) -> str:
        """The initial status, unless it depends on a job that has not finished."""
        if self.deferred:
            return "deferred"
        return "scheduled" if self.delay or (self.at and self.at > self.created_at) else "queued"

    def fields(self) -> dict[str, Any]:
        """The fields of rq.job.Job.to_dict (RQ 2.12), without those that redis/job.lua writes."""
        fields: dict[str, Any] = {
            "data": encode_call(self.function, self.args, self.kwargs),
            "origin": self.queue,
            "description": self.description,
            "timeout": self.timeout,
            "result_ttl": self.result_ttl,
            "failure_ttl": self.failure_ttl,
            "function": function_name(self.function),
        }
        if self.ttl is not None:
            fields["ttl"] = self.ttl
        if self.retry_waits:
            fields["retries_left"] = len(self.retry_waits)
            fields["retry_intervals"] = orjson.dumps(self.retry_waits)
        if self.depends_on:
            fields["dependency_id"] = self.depends_on[0]
            fields["dependency_ids"] = orjson.dumps(self.depends_on)
        if self.limits:
            fields["limits"] = orjson.dumps(self.limits)
        if self.meta:
            fields["meta"] = JSON.dumps(self.meta)
        return fields | self.extra_fields

    def script_args(self) -> list[Any]:
        """The job as arguments for enqueue/library.lua."""
        hash_args = [word for field in self.fields().items() for word in field]
        return [
            self.id, self.queue, rq_timestamp(self.created_at), self._position(), self.ttl or "", self._extra(),
            f"{self.source}\t{function_name(self.function)}", len(hash_args), *hash_args,
        ]  # fmt: skip

    def _position(self) -> str | float:
        if self.deferred:
            return "deferred"
        if self.delay:
            return f"+{self.delay}"
        if self.at:
            return self.at.timestamp()
        return "front" if self.at_front else "tail"

    @property
    def needs_lookup(self) -> bool:
        """Whether its id or its initial status depends on other jobs in Redis."""
        return bool(self.named or self.depends_on or self.lock)

    @property
    def has_known_state(self) -> bool:
        """Whether its state after being written is known without reading it from Redis."""
        return not self.needs_lookup and not self.at and not self.delay

    def _extra(self) -> bytes | str:
        """JSON with what the script must check or look up; '' if there is nothing."""
        if not self.needs_lookup and not (self.at_front and (self.deferred or self.at or self.delay)):
            return ""
        extra: dict[str, Any] = {"named": self.named, "front": self.at_front}
        if self.depends_on:
            extra["depends_on"] = self.depends_on
        if self.lock:
            extra["lock"] = [self.lock.key, self.lock.ttl, self.lock.rule.during, self.lock.rule.on_conflict]
        return orjson.dumps(extra)


def encode_call(path: str, args: list[Any], kwargs: dict[str, Any]) -> bytes:
    """Encode a call as the field `data` of RQ's hash."""
    encoded = JSON.dumps([path, None, args, kwargs])
    if len(encoded) > SMALL_CALL_BYTES:
        return zlib.compress(encoded)
    small = zlib.compressobj(wbits=9, memLevel=1)  # zlib's default of 256 KiB of working memory costs up to 45 us
    return small.compress(encoded) + small.flush()


def describe_call(path: str, args: list[Any], kwargs: dict[str, Any]) -> str:
    """The default description of a job."""
    return str(get_call_string(path, args, kwargs, max_length=75))


def prepare(
    function: Function,
    settings: Settings,
    args: list[Any],
    kwargs: dict[str, Any],
    pointer: str = "#",
    **overrides: Any,
) -> NewJob:
    """Create a job from validated arguments. Options come from `overrides`, else the function, else the settings.

    `overrides` are fields of NewJob and options of a function; `pointer` is a JSON pointer to the call in the request.

    Raises:
        TooLarge: the arguments exceed ARGUMENTS_LIMIT.
        Invalid: the key of a limit or of `unique` refers to an unknown argument; or the webhook cannot be signed, or
            its URL is not allowed.
    """
    check_size(settings, args, kwargs)
    given = {name: value for name, value in overrides.items() if value is not None}
    options = function.options
    retry = given.pop("retry", None) or options.retry
    rate_limit = given.pop("rate_limit", None) or options.rate_limit
    concurrency = given.pop("concurrency", None) or options.concurrency
    rule = given.pop("unique", None) or options.unique
    queue = given.pop("queue", options.queue)
    tags = [*options.tags, *given.pop("tags", ())]
    default = options.webhook or webhook_delivery.service_webhook(settings, JOB_EVENTS)
    webhook = webhook_delivery.choose(given.pop("webhook", None), default, settings, pointer)
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
        "limits": limits.limits_of(function, queue, args, kwargs, rate_limit, concurrency, options.breaker, pointer),
        "lock": unique.lock_for(function, args, kwargs, rule, pointer) if rule else None,
        "extra_fields": webhook_delivery.hash_fields(webhook) if webhook else {},
        "pointer": pointer,
    }
    return NewJob(function.path, args, kwargs, **{**defaults, **given})


def check_size(settings: Settings, args: list[Any], kwargs: dict[str, Any]) -> None:
    """Raises TooLarge: the arguments exceed ARGUMENTS_LIMIT. Invalid: a default value is not serializable."""
    try:
        size = len(JSON.dumps([args, kwargs]))
    except TypeError as error:
        raise Invalid("The arguments cannot be serialized as JSON", [{"detail": str(error), "pointer": "#"}]) from None
    if size > settings.arguments_limit:
        raise TooLarge(f"The arguments are {size} bytes, the limit is {settings.arguments_limit}")
