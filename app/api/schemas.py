"""Every HTTP shape, in one place: request bodies, queries and answers, as they stand in OpenAPI."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from app.options import Retry

UNITS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
DURATION = re.compile(r"(?:\d+[dhms])+")

Status = Literal["queued", "started", "scheduled", "deferred", "failed", "stopped", "finished", "canceled"]


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


LONGEST = 10 * 365 * UNITS["d"]
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


class JobOptions(Strict):
    """What may be said of a job besides its call; what is not said is the function's own, or the service's default."""

    queue: QueueName | None = None
    id: Id | None = None
    delay: Wait | None = None
    at: Instant | None = None
    timeout: Seconds | None = None
    ttl: Seconds | None = None
    result_ttl: Keep | None = None
    failure_ttl: Keep | None = None
    retry: RetryBody | None = None
    depends_on: Annotated[list[Id], Field(max_length=1000)] = []
    at_front: bool = False
    tags: Annotated[list[Tag], Field(max_length=32)] = []
    description: Annotated[str, Field(max_length=1000)] | None = None

    @model_validator(mode="after")
    def _one_time(self) -> "JobOptions":
        if self.delay is not None and self.at is not None:
            raise ValueError("give delay or at, not both")
        return self


class JobBody(JobOptions):
    function: str
    args: list[Any] = []
    kwargs: dict[str, Any] = {}


class BulkBody(Strict):
    jobs: Annotated[list[JobBody], Field(min_length=1, max_length=10_000)]


class JobPath(BaseModel):
    job_id: str


class NamePath(BaseModel):
    name: str


class JobsQuery(Strict):
    status: Status | None = None
    queue: str | None = None
    function: str | None = None
    tag: str | None = None
    q: str | None = Field(None, description="Text in the description or the arguments")
    cursor: str | None = None
    limit: int = Field(50, ge=1, le=500)


class Progress(BaseModel):
    current: float
    total: float | None = None
    percent: float | None = None
    message: str | None = None


class JobError(BaseModel):
    type: str
    message: str
    traceback: str


class Links(BaseModel):
    self: str
    dashboard: str


class Job(BaseModel):
    """Times are RFC 3339 UTC, durations seconds."""

    id: str
    function: str | None
    args: list[Any]
    kwargs: dict[str, Any]
    queue: str | None
    status: str
    description: str | None
    created_at: str | None
    enqueued_at: str | None
    scheduled_for: str | None
    started_at: str | None
    ended_at: str | None
    attempts: int
    retries_left: int
    progress: Progress | None
    result: Any
    error: JobError | None
    depends_on: list[str]
    tags: list[str]
    schedule: str | None
    workflow: str | None
    timeout: int | None
    worker: str | None
    links: Links


class Jobs(BaseModel):
    jobs: list[Job]
    next_cursor: str | None


class Ids(BaseModel):
    ids: list[str]


class FunctionOptions(BaseModel):
    queue: str
    timeout: int | None
    ttl: int | None
    result_ttl: int | None
    failure_ttl: int | None
    max_retries: int
    tags: list[str]
    idempotent: bool


class Function(BaseModel):
    name: str
    module: str
    description: str
    options: FunctionOptions
    arguments: dict[str, Any]
    result: dict[str, Any]


class Functions(BaseModel):
    functions: list[Function]
    broken: dict[str, str] = Field(description="Modules that do not import, and why")


class Counts(BaseModel):
    queued: int
    started: int
    scheduled: int
    deferred: int
    failed: int
    finished: int
    canceled: int


class Queue(BaseModel):
    name: str
    counts: Counts


class Queues(BaseModel):
    queues: list[Queue]


class Worker(BaseModel):
    name: str
    state: str
    queues: list[str]
    current_job: str | None
    hostname: str | None
    pid: int
    birth: str | None
    last_heartbeat: str | None
    successful_job_count: int
    failed_job_count: int
    total_working_time: float


class Workers(BaseModel):
    workers: list[Worker]


class Health(BaseModel):
    status: str
    redis: str | None = None
    broken: dict[str, str] | None = None


class ProblemItem(BaseModel):
    detail: str
    pointer: str


class Problem(BaseModel):
    """RFC 9457."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[ProblemItem] | None = None
