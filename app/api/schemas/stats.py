"""Statistics of functions and queues."""

from datetime import timedelta
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, Field

from app.author.durations import DURATION_PATTERN, parse_duration
from app.catalog.fields import MAX_DURATION_SECONDS, Instant, QueueName, Seconds, Strict

AGO = f"^{DURATION_PATTERN.pattern}$"


def _parse_ago(value: object) -> object:
    """A duration becomes a timedelta; a time is left to `Instant`."""
    if isinstance(value, str) and DURATION_PATTERN.fullmatch(value):
        return timedelta(seconds=min(float(parse_duration(value)), MAX_DURATION_SECONDS))  # type: ignore[arg-type]
    return value


TimeOrAgo = Annotated[
    timedelta | Instant,
    BeforeValidator(_parse_ago, json_schema_input_type=Annotated[str, Field(pattern=AGO)] | Instant),
]


class RangeQuery(Strict):
    queue: QueueName | None = Field(None, description="Of this queue alone")
    start: TimeOrAgo = Field(
        "1h", validate_default=True, alias="from", description="A time, or how long ago, such as 8h; 72 hours are kept"
    )
    end: TimeOrAgo = Field("0s", validate_default=True, alias="to", description="A time, or how long ago")
    step: Seconds | None = Field(
        None,
        description="Length of a point: a multiple of 10 s if `from` is within 15 minutes, of 60 s within 8 hours, "
        "else of 600 s. If left out: the shortest, and for functions one that gives about 40 points",
    )


class StatsQuery(RangeQuery):
    function: str | None = Field(None, description="Of this function alone; `other`: of those beyond the first 500")


class Durations(BaseModel):
    """Durations in seconds. Percentiles are exact to 9 %."""

    count: int
    mean: float
    p50: float
    p95: float
    p99: float
    max: float


class DurationsAndHistogram(Durations):
    histogram: list[tuple[float, int]] = Field(description="Upper bound in seconds, and how many are in the bucket")


class Counts(BaseModel):
    enqueued: int
    finished: int
    failed: int = Field(description="Failed for good")
    retried: int = Field(description="Attempts that failed and were followed by another")
    canceled: int
    stopped: int
    lost: int = Field(description="Attempts whose worker died")


class Statistics(Counts):
    run: Durations | None = Field(description="From the start of an attempt to its end")
    wait: Durations | None = Field(description="From being queued to the start")


class Point(Statistics):
    at: str = Field(description="When the point begins")


class Total(Counts):
    run: DurationsAndHistogram | None
    wait: DurationsAndHistogram | None


class _Range(BaseModel):
    start: str = Field(alias="from")
    end: str = Field(alias="to")
    step: int = Field(description="Length of a point in seconds")


class Stats(_Range):
    points: list[Point]
    total: Total


class FunctionStats(Statistics):
    name: str
    trend: list[int] = Field(description="How many ended in each point")


class StatsOfFunctions(_Range):
    functions: list[FunctionStats]
