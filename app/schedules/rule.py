"""A schedule as data: its timing, its job, and its policy for overlapping, missed and failed runs. Always valid."""

import functools
import re
import zlib
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal, ParamSpec
from zoneinfo import ZoneInfo

from pydantic import BeforeValidator, Field, field_validator, model_validator

from app.author.durations import Duration, parse_duration
from app.catalog.fields import (
    MAX_DURATION_SECONDS,
    MAX_INSTANT,
    DelaySeconds,
    DurationText,
    Flag,
    Instant,
    QueueName,
    RetryBody,
    Seconds,
    Strict,
)
from app.schedules.timing import Cron, Interval, Once, Timing, parse_cron
from app.serializer import utc

Overlap = Literal["allow", "skip", "buffer_one"]
CatchUp = Literal["none", "one", "all"]
NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")
Name = Annotated[str, Field(pattern=f"^{NAME.pattern}$")]
_IntervalSeconds = Annotated[float, Field(ge=0.1, le=MAX_DURATION_SECONDS, allow_inf_nan=False, description="Seconds")]
IntervalSeconds = Annotated[
    _IntervalSeconds, BeforeValidator(parse_duration, json_schema_input_type=_IntervalSeconds | DurationText)
]


class When(Strict):
    """The timing of a schedule: one of `cron`, `interval` and `at`, within `start` and `end`."""

    cron: Annotated[str, Field(max_length=200)] | None = Field(
        None, description="Five fields, six with the seconds first, or a macro such as @daily"
    )
    interval: IntervalSeconds | None = Field(None, description="Seconds, or a duration such as 1h30m")
    at: Instant | None = Field(None, description="Run once, at this moment")
    timezone: Annotated[str, Field(max_length=64)] = Field("UTC", description="IANA name of the time zone of `cron`")
    start: Instant | None = None
    end: Instant | None = None

    @field_validator("timezone")
    @classmethod
    def _check_timezone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (KeyError, ValueError, OSError):
            raise ValueError(f"there is no time zone {name!r}") from None
        return name

    @field_validator("cron")
    @classmethod
    def _check_cron(cls, cron: str | None) -> str | None:
        if cron is not None:
            try:
                parse_cron(cron, "UTC")
            except ValueError as error:
                raise ValueError(f"no cron expression: {error}") from None
        return cron

    @model_validator(mode="after")
    def _check_timing(self) -> "When":
        if sum(given is not None for given in (self.cron, self.interval, self.at)) != 1:
            raise ValueError("give one of cron, interval and at")
        if self.start and self.end and self.end <= self.start:
            raise ValueError("end is not after start")
        return self

    def first(self, now: datetime) -> datetime | None:
        """Return the start of an interval that is created now: its first run. None for other timings."""
        return (self.start or now + timedelta(seconds=self.interval)) if self.interval else None

    def timing(self, first: datetime | None) -> Timing:
        """Return the sequence of due moments. `first` is the start of an interval."""
        if self.at:
            return Once(self.at)
        if self.interval:
            assert first
            return Interval(first, timedelta(seconds=self.interval))
        assert self.cron
        return parse_cron(self.cron, self.timezone)

    def after(self, moment: datetime, first: datetime | None) -> datetime | None:
        """Return the first due moment later than `moment`, within start and end."""
        if self.start and moment < self.start:
            moment = self.start - timedelta(microseconds=1)
        due = self.timing(first).after(moment)
        return None if due and due > (self.end or MAX_INSTANT) else due

    def text(self) -> str:
        """Describe the timing in plain English."""
        from cron_descriptor import FormatError, MissingFieldError, WrongArgumentError, get_description

        if self.at:
            return f"Once, at {utc(self.at.replace(microsecond=0))}"
        if self.interval:
            return f"Every {_interval_in_words(self.interval)}"
        timing = self.timing(None)
        assert isinstance(timing, Cron)
        try:
            description = get_description(timing.expression)
        except (FormatError, MissingFieldError, WrongArgumentError):
            description = timing.expression
        return f"{description} ({self.timezone})"


class Rule(When):
    """All fields of a schedule except its name."""

    function: str
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    queue: QueueName | None = None
    timeout: Seconds | None = None
    retry: RetryBody | None = None
    jitter: Annotated[DelaySeconds, Field(le=86_400)] = Field(
        0, description="Each run is delayed by up to this number of seconds"
    )
    overlap: Overlap = Field("allow", description="If the last run has not ended: run anyway, skip, or buffer one run")
    catch_up: CatchUp = Field("one", description="Which missed runs are made up for: none, one, or all")
    catch_up_window: Seconds = Field(86_400, description="Older missed runs are dropped")
    paused: Flag = False
    pause_on_failure: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Pause after this number of failures in a row"
    )
    max_runs: Annotated[int, Field(ge=1)] | None = None
    description: Annotated[str, Field(max_length=1000)] | None = None

    @model_validator(mode="after")
    def _check_jitter(self) -> "Rule":
        if self.interval and self.jitter > self.interval:
            raise ValueError("jitter is longer than the interval")
        return self


class Schedule(Rule):
    """A rule with its name."""

    name: Name

    def jittered(self, due: datetime) -> float:
        """Return when the run of a due moment is enqueued, in seconds since 1970: fixed for each moment."""
        share = zlib.crc32(f"{self.name} {due.timestamp()}".encode()) / 2**32
        return due.timestamp() + share * self.jitter


MISUSE = "misuse"
"""Key of an invalid entry: what is wrong with the call that made it."""
Params = ParamSpec("Params")


def _errors_as_entries(declare: Callable[Params, dict[str, Any]]) -> Callable[Params, dict[str, Any]]:
    """Make a function return an invalid entry, instead of raising: an exception would stop all schedules."""

    @functools.wraps(declare)
    def make_entry(*args: Params.args, **kwargs: Params.kwargs) -> dict[str, Any]:
        try:
            return declare(*args, **kwargs)
        except (TypeError, ValueError, OverflowError) as error:
            return {"name": kwargs.get("name"), "function": kwargs.get("function"), MISUSE: str(error)}

    return make_entry


@_errors_as_entries
def cron(expression: str, function: str, *, name: str | None = None, **rule: Any) -> dict[str, Any]:
    """Declare a schedule by a cron expression: `cron("0 2 * * *", "maintenance.clean", timezone="Europe/Berlin")`.

    Args:
        expression: five fields, six with the seconds first, or a macro such as @daily; in `timezone`, else UTC.
        function: its name in the catalogue, `module.function`.
        name: 1 to 128 letters, digits, _, . and -; default: the name of the function.
        rule: `args` (a list) and `kwargs` (a dict), the arguments of the function; `queue`, `timeout`, `retry`,
            `jitter`, `overlap`, `catch_up`, `catch_up_window`, `start`, `end`, `max_runs`, `pause_on_failure`,
            `paused`, `description`: the fields of `PUT /schedules/{name}`. Durations are seconds or text like "1h30m".

    Never raises: the scheduler sets an invalid entry aside and reports the reason.
    """
    return {"name": name, "function": function, "cron": expression, **rule}


@_errors_as_entries
def every(
    function: str,
    interval: Duration | None = None,
    *,
    name: str | None = None,
    seconds: float = 0,
    minutes: float = 0,
    hours: float = 0,
    **rule: Any,
) -> dict[str, Any]:
    """Declare a schedule by an interval: `every("feeds.fetch", minutes=5)`, or `every("feeds.fetch", "1h30m")`.

    `interval` is seconds, text such as "1h30m", or a timedelta. Instead of it, give `seconds`, `minutes` and `hours`,
    which are added up. All other parameters are those of `cron`.
    """
    parts = timedelta(hours=hours, minutes=minutes, seconds=seconds).total_seconds()
    if interval is not None and parts:
        raise ValueError("give interval, or seconds, minutes and hours, not both")
    return {"name": name, "function": function, "interval": parts if interval is None else interval, **rule}


@_errors_as_entries
def once(at: datetime | str, function: str, *, name: str | None = None, **rule: Any) -> dict[str, Any]:
    """Declare a schedule that runs once: `once("2027-01-01T00:00:00Z", "greetings.send")`.

    `at` is a datetime with a time zone, or RFC 3339 text. All other parameters are those of `cron`.
    """
    return {"name": name, "function": function, "at": at, **rule}


def _interval_in_words(seconds: float) -> str:
    for unit, size in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds % size == 0:
            count = int(seconds // size)
            return unit if count == 1 else f"{count} {unit}s"
    return "second" if seconds == 1 else f"{seconds:g} seconds"
