"""The kinds of values in requests and in schedules: durations, instants, names; checked by pydantic."""

import re
from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator

from app import signing
from app.options import JOB_EVENTS, LONGEST_URL, RATE, WORKFLOW_EVENTS, JobEvent, Retry, Unique, Webhook, WorkflowEvent

UNITS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
DURATION = re.compile(r"(?:\d+[dhms])+")
RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d")  # its beginning: a bare number is no time
LONGEST = 10 * 365 * UNITS["d"]


def seconds(value: object) -> object:
    """Seconds, or a duration like "1h30m", as seconds."""
    if isinstance(value, str):
        if not DURATION.fullmatch(value):
            raise ValueError('Input should be seconds, or a duration such as "1h30m"')
        return sum(int(number) * UNITS[unit] for number, unit in re.findall(r"(\d+)([dhms])", value))
    if isinstance(value, bool):
        raise ValueError("Input should be seconds, or a duration")  # noqa: TRY004 - what pydantic reports
    return value


def _written(value: object) -> object:
    if isinstance(value, int | float) or (isinstance(value, str) and not RFC_3339.match(value)):
        raise ValueError('Input should be a time as RFC 3339 has it, such as "2027-01-01T00:00:00Z"')
    return value


def _aware(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise ValueError("Input should have a time zone, for example a final Z")
    return value.astimezone(UTC)


def _webhook_url(value: str) -> str:
    return Webhook(value).url


def _webhook_secret(value: SecretStr) -> SecretStr:
    signing.parse(value.get_secret_value())
    return value


Duration = Annotated[str, Field(pattern=f"^{DURATION.pattern}$", description="A duration such as 1h30m")]
"""What may stand for a number of seconds; in the OpenAPI document alone, for `seconds` takes it before any check."""
_Seconds = Annotated[int, Field(ge=1, le=LONGEST, description="Seconds")]
_Keep = Annotated[int, Field(ge=-1, le=LONGEST, description="Seconds; -1: for ever")]
_Wait = Annotated[float, Field(ge=0, le=LONGEST, allow_inf_nan=False, description="Seconds")]
_Period = Annotated[float, Field(gt=0, le=LONGEST, allow_inf_nan=False, description="Seconds")]
Flag = Annotated[bool, Field(strict=True)]
Seconds = Annotated[_Seconds, BeforeValidator(seconds, json_schema_input_type=_Seconds | Duration)]
Keep = Annotated[_Keep, BeforeValidator(seconds, json_schema_input_type=_Keep | Duration)]
Wait = Annotated[_Wait, BeforeValidator(seconds, json_schema_input_type=_Wait | Duration)]
Period = Annotated[_Period, BeforeValidator(seconds, json_schema_input_type=_Period | Duration)]
Instant = Annotated[datetime, BeforeValidator(_written), AfterValidator(_aware)]
Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,128}$")]
QueueName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
NodeName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")]
Tag = Annotated[str, Field(min_length=1, max_length=64)]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


Rate = Annotated[str, Field(pattern=f"^{RATE.pattern}$", examples=["100/m"])]
Share = Annotated[int, Field(ge=1, le=1_000_000)]


class _Counted(Strict):
    by: Literal["function", "queue"] = "function"
    key: Annotated[str, Field(max_length=200, examples=["{user_id}"])] | None = None


class RateBody(_Counted):
    most: Rate


class ConcurrencyBody(_Counted):
    most: Share


class UniqueBody(Strict):
    """No second such job while there is one: the function and these arguments are what is the same."""

    by: Annotated[list[str], Field(min_length=1, max_length=32)] | Annotated[str, Field(max_length=200)] | None = Field(
        None, description='Names of arguments, or a key such as "{user.id}"; all arguments if it is not given'
    )
    during: Literal["queued", "queued_or_running"] = Field("queued_or_running", alias="while")
    lasts: Period | None = Field(None, alias="for")
    on_conflict: Literal["return", "reject", "replace"] = "return"

    def as_unique(self) -> Unique:
        by = tuple(self.by) if isinstance(self.by, list) else self.by
        return Unique(by, self.during, self.lasts, self.on_conflict)


class Backoff(Strict):
    initial: Wait = 1
    factor: Annotated[float, Field(ge=1, le=100)] = 2
    max: Wait = 3600
    jitter: Annotated[float, Field(ge=0, le=1)] = 0.5


class RetryBody(Strict):
    """`max` tries more: after exponentially growing waits, or after exactly these `intervals`."""

    max: Annotated[int, Field(ge=1, le=1000)]
    backoff: Backoff | None = None
    intervals: Annotated[list[Wait], Field(min_length=1, max_length=1000)] | None = None

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
        return Retry(self.max, backoff.initial, backoff.factor, backoff.max, backoff.jitter)


class _Webhook(Strict):
    url: Annotated[
        str, Field(max_length=LONGEST_URL, examples=["https://example.com/hook"]), AfterValidator(_webhook_url)
    ]
    events: list[JobEvent] | list[WorkflowEvent]
    secret: Annotated[SecretStr, Field(max_length=1000), AfterValidator(_webhook_secret)] | None = Field(
        None, description="`whsec_...`; of several, separated by spaces, each signs. It is never shown again."
    )

    def as_webhook(self) -> Webhook:
        return Webhook(self.url, tuple(self.events), self.secret.get_secret_value() if self.secret else "")


class WebhookBody(_Webhook):
    """Where the end of the job is told: Standard Webhooks, signed with `secret`, else with the service's own."""

    events: Annotated[list[JobEvent], Field(min_length=1, max_length=len(JOB_EVENTS))] = list(JOB_EVENTS)


class WorkflowWebhookBody(_Webhook):
    """Where the end of the workflow is told, as the end of a job is."""

    events: Annotated[list[WorkflowEvent], Field(min_length=1, max_length=len(WORKFLOW_EVENTS))] = list(WORKFLOW_EVENTS)
