"""Field types of requests, schedules and `@job` options, validated by pydantic: durations, instants, names, limits."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator

from app.author.durations import DURATION_PATTERN, UNIT_SECONDS, parse_duration
from app.author.options import (
    JOB_EVENTS,
    RATE,
    WORKFLOW_EVENTS,
    Breaker,
    JobEvent,
    Limit,
    Retry,
    Unique,
    Webhook,
    WorkflowEvent,
)
from app.catalog import call_keys
from app.webhooks import signing, urls

RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d")  # only the date: the rest is left to pydantic
MAX_DURATION_SECONDS = 10 * 365 * UNIT_SECONDS["d"]
MIN_INSTANT, MAX_INSTANT = datetime(1970, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
"""Bounds of instants. They leave room for arithmetic within the range of datetime."""


def _require_text(value: object) -> object:
    if isinstance(value, int | float) or (isinstance(value, str) and not RFC_3339.match(value)):
        raise ValueError('Input should be a time as RFC 3339 has it, such as "2027-01-01T00:00:00Z"')
    return value


def _to_utc(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise ValueError("Input should have a time zone, for example a final Z")
    if not MIN_INSTANT <= value <= MAX_INSTANT:
        raise ValueError("Input should be a time from 1970 to 2200")
    return value.astimezone(UTC)


def _no_bool(value: object) -> object:
    """Reject True and False, which pydantic would accept as 1 and 0."""
    if isinstance(value, bool):
        raise ValueError("Input should be a number")  # noqa: TRY004 - what pydantic reports
    return value


def _webhook_secret(value: SecretStr) -> SecretStr:
    if value.get_secret_value() and not signing.parse(value.get_secret_value()):
        raise ValueError("Input should be a secret, or be left out")
    return value


DurationText = Annotated[str, Field(pattern=f"^{DURATION_PATTERN.pattern}$", description="A duration such as 1h30m")]
"""Alternative to a number of seconds. In OpenAPI only: `parse_duration` converts it before validation."""
_Seconds = Annotated[int, Field(ge=1, le=MAX_DURATION_SECONDS, description="Seconds")]
_TtlSeconds = Annotated[int, Field(ge=-1, le=MAX_DURATION_SECONDS, description="Seconds; -1: no expiry")]
_DelaySeconds = Annotated[float, Field(ge=0, le=MAX_DURATION_SECONDS, allow_inf_nan=False, description="Seconds")]
_PositiveSeconds = Annotated[
    float, Field(ge=0.001, le=MAX_DURATION_SECONDS, allow_inf_nan=False, description="Seconds")
]
Flag = Annotated[bool, Field(strict=True)]
Seconds = Annotated[_Seconds, BeforeValidator(parse_duration, json_schema_input_type=_Seconds | DurationText)]
TtlSeconds = Annotated[_TtlSeconds, BeforeValidator(parse_duration, json_schema_input_type=_TtlSeconds | DurationText)]
DelaySeconds = Annotated[
    _DelaySeconds, BeforeValidator(parse_duration, json_schema_input_type=_DelaySeconds | DurationText)
]
PositiveSeconds = Annotated[
    _PositiveSeconds, BeforeValidator(parse_duration, json_schema_input_type=_PositiveSeconds | DurationText)
]
Instant = Annotated[datetime, BeforeValidator(_require_text), AfterValidator(_to_utc)]
Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,128}$")]
SCHEDULE_ID_PREFIX = "schedule-"
"""Begins the id of a schedule's entry, and of the placeholder job that shows it in rq-scheduler's tools."""
RESERVED_ID_PREFIXES = ("msg_", SCHEDULE_ID_PREFIX)
"""Prefixes of ids that Jobline generates: of webhook deliveries, and of the placeholder jobs of schedules."""


def _not_reserved(value: str) -> str:
    if value.startswith(RESERVED_ID_PREFIXES):
        raise ValueError(
            f"Input should not begin with {' or '.join(RESERVED_ID_PREFIXES)}: these are the service's own"
        )
    return value


NewId = Annotated[Id, AfterValidator(_not_reserved)]
QueueName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
NodeName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")]
Tag = Annotated[str, Field(min_length=1, max_length=64)]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


Rate = Annotated[str, Field(pattern=f"^{RATE.pattern}$", examples=["100/m"])]
PositiveCount = Annotated[int, Field(ge=1, le=1_000_000), BeforeValidator(_no_bool)]
BackoffFactor = Annotated[float, Field(ge=1, le=100), BeforeValidator(_no_bool)]
Fraction = Annotated[float, Field(ge=0, le=1), BeforeValidator(_no_bool)]
RetryCount = Annotated[int, Field(ge=1, le=1000), BeforeValidator(_no_bool)]
KeyTemplate = Annotated[str, Field(max_length=call_keys.MAX_KEY_LENGTH, examples=["{user_id}"])]


DEPRECATED: dict[str, Any] = {"deprecated": True}
"""OpenAPI extra of a field that is an old name, still accepted."""


def _merge_old_names(body: BaseModel, **old_name_of: str) -> None:
    """Set each field to the value given under its old name. Raises ValueError if both are given and differ."""
    given = body.model_fields_set
    for name, old_name in old_name_of.items():
        old = getattr(body, old_name)
        if old_name not in given or old is None:
            continue
        if name in given and getattr(body, name) != old:
            alias = type(body).model_fields[old_name].alias or old_name
            raise ValueError(f"{alias} is the old name of {name}: give {name} alone")
        setattr(body, name, old)


class _LimitBody(Strict):
    by: Literal["function", "queue"] = "function"
    key: KeyTemplate | None = None

    def as_limit(self) -> Limit:
        return Limit(**self.model_dump())


class RateBody(_LimitBody):
    most: Rate


class ConcurrencyBody(_LimitBody):
    most: PositiveCount


def as_limit(given: str | int | RateBody | ConcurrencyBody | None) -> Limit | None:
    """Return a limit, given in its short or its full form."""
    return given.as_limit() if isinstance(given, _LimitBody) else Limit(given) if given else None


class BreakerBody(Strict):
    failures: PositiveCount
    window: PositiveSeconds = 60
    cool_down: PositiveSeconds = 60

    def as_breaker(self) -> Breaker:
        return Breaker(self.failures, self.window, self.cool_down)


During = Literal["queued", "queued_or_running"]


class UniqueBody(Strict):
    """Accept no second job of the function with the same arguments while the first is pending."""

    by: Annotated[list[str], Field(min_length=1, max_length=32)] | KeyTemplate | None = Field(
        None, description='Names of arguments to compare, or a key such as "{user.id}"; default: all arguments'
    )
    during: During = Field(
        "queued_or_running", description="Whether a job counts only while it waits, or also while it runs"
    )
    ttl: PositiveSeconds | None = Field(None, description="After this time another job is accepted; null: 30 days")
    on_conflict: Literal["return", "reject", "replace"] = "return"
    old_during: During | None = Field(None, alias="while", description="Use `during`", json_schema_extra=DEPRECATED)
    old_ttl: PositiveSeconds | None = Field(None, alias="for", description="Use `ttl`", json_schema_extra=DEPRECATED)

    @model_validator(mode="after")
    def _accept_old_names(self) -> "UniqueBody":
        _merge_old_names(self, during="old_during", ttl="old_ttl")
        return self

    def as_unique(self) -> Unique:
        by = tuple(self.by) if isinstance(self.by, list) else self.by
        return Unique(by, self.during, self.ttl, self.on_conflict)


class Backoff(Strict):
    initial: DelaySeconds = 1
    factor: BackoffFactor = 2
    max_delay: Annotated[DelaySeconds, Field(description="The longest wait")] = 3600
    jitter: Fraction = 0.5
    max: Annotated[DelaySeconds | None, Field(description="Use `max_delay`", json_schema_extra=DEPRECATED)] = None

    @model_validator(mode="after")
    def _accept_old_names(self) -> "Backoff":
        _merge_old_names(self, max_delay="max")
        self.max = self.max_delay  # responses still show the old name
        return self


class RetryBody(Strict):
    """Retry up to `max` times: after exponentially growing waits, or after exactly these `intervals`."""

    max: RetryCount
    backoff: Backoff | None = None
    intervals: Annotated[list[DelaySeconds], Field(min_length=1, max_length=1000)] | None = None

    @model_validator(mode="after")
    def _one_rule(self) -> "RetryBody":
        if self.backoff and self.intervals:
            raise ValueError("give backoff or intervals, not both")
        return self

    def as_retry(self) -> Retry:
        if self.intervals:
            last = self.intervals[-1]
            given = self.intervals[: self.max]
            return Retry(self.max, intervals=tuple(given + [last] * (self.max - len(given))))
        backoff = self.backoff or Backoff()
        return Retry(self.max, backoff.initial, backoff.factor, backoff.max_delay, backoff.jitter)


class _Webhook(Strict):
    url: Annotated[
        str,
        Field(max_length=urls.MAX_WEBHOOK_LENGTH, examples=["https://example.com/hook"]),
        AfterValidator(urls.check_webhook_url),
    ]
    events: list[JobEvent] | list[WorkflowEvent]
    secret: Annotated[SecretStr, Field(max_length=1000), AfterValidator(_webhook_secret)] | None = Field(
        None, description="`whsec_...`, or several separated by spaces, each of which signs. It is never returned."
    )

    def as_webhook(self) -> Webhook:
        return Webhook(self.url, tuple(self.events), self.secret.get_secret_value() if self.secret else "")


class WebhookBody(_Webhook):
    """Where to report the end of the job, by Standard Webhooks; signed with `secret`, else with WEBHOOK_SECRET."""

    events: Annotated[list[JobEvent], Field(min_length=1, max_length=len(JOB_EVENTS))] = list(JOB_EVENTS)


class WorkflowWebhookBody(_Webhook):
    """Where to report the end of the workflow, in the same way as for a job."""

    events: Annotated[list[WorkflowEvent], Field(min_length=1, max_length=len(WORKFLOW_EVENTS))] = list(WORKFLOW_EVENTS)


class CallOptions(Strict):
    """Options that both a request and `@job` may set, by the same rules."""

    queue: QueueName | None = None
    timeout: Seconds | None = None
    ttl: Seconds | None = None
    result_ttl: TtlSeconds | None = None
    failure_ttl: TtlSeconds | None = None
    retry: RetryBody | None = None
    rate_limit: Rate | RateBody | None = Field(None, description="How many such jobs start per period")
    concurrency: PositiveCount | ConcurrencyBody | None = Field(
        None, description="How many such jobs run at the same time"
    )
    unique: UniqueBody | None = None
    webhook: WebhookBody | None = None
    tags: Annotated[list[Tag], Field(max_length=32)] = Field(default_factory=list)
