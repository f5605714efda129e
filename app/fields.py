"""The kinds of values in requests and in schedules: durations, instants, names; checked by pydantic."""

import re
from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator

from app import signing
from app.options import EVENTS, LONGEST_URL, Event, Retry, Webhook

UNITS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
DURATION = re.compile(r"(?:\d+[dhms])+")
LONGEST = 10 * 365 * UNITS["d"]


def seconds(value: object) -> object:
    """Seconds, or a duration like "1h30m", as seconds."""
    if isinstance(value, str):
        if not DURATION.fullmatch(value):
            raise ValueError('Input should be seconds, or a duration such as "1h30m"')
        return sum(int(number) * UNITS[unit] for number, unit in re.findall(r"(\d+)([dhms])", value))
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


Seconds = Annotated[int, BeforeValidator(seconds), Field(ge=1, le=LONGEST)]
Keep = Annotated[int, BeforeValidator(seconds), Field(ge=-1, le=LONGEST, description="Seconds; -1: for ever")]
Wait = Annotated[float, BeforeValidator(seconds), Field(ge=0, le=LONGEST, allow_inf_nan=False)]
Instant = Annotated[datetime, AfterValidator(_aware)]
Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,128}$")]
QueueName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
Tag = Annotated[str, Field(min_length=1, max_length=64)]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


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


class WebhookBody(Strict):
    """Where the end of the job is told: Standard Webhooks, signed with `secret`, else with the service's own."""

    url: Annotated[
        str, Field(max_length=LONGEST_URL, examples=["https://example.com/hook"]), AfterValidator(_webhook_url)
    ]
    events: Annotated[list[Event], Field(min_length=1, max_length=len(EVENTS))] = list(EVENTS)
    secret: Annotated[SecretStr, Field(max_length=1000), AfterValidator(_webhook_secret)] | None = Field(
        None, description="`whsec_...`; of several, separated by spaces, each signs. It is never shown again."
    )

    def as_webhook(self) -> Webhook:
        return Webhook(self.url, tuple(self.events), self.secret.get_secret_value() if self.secret else "")
