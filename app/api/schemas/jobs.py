"""Jobs, and the requests that create and change them."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field, RootModel, model_validator

from app.author.options import JobEvent, WorkflowEvent
from app.catalog.fields import (
    SCHEDULE_ID_PREFIX,
    CallOptions,
    DelaySeconds,
    Flag,
    Instant,
    NewId,
    QueueName,
    RetryBody,
    Seconds,
    Strict,
    Tag,
)
from app.errors import NotFound
from app.views.selection import Selection

JobStatus = Literal[
    "created", "queued", "deferred", "scheduled", "started", "finished", "failed", "stopped", "canceled"
]
"""RQ's states of a job."""


class JobOptions(CallOptions):
    """Options of a job. Defaults are those of its function, then those of the service."""

    id: NewId | None = None
    delay: DelaySeconds | None = None
    at: Instant | None = None
    depends_on: Annotated[list[NewId], Field(max_length=1000)] = Field(default_factory=list)
    at_front: Flag = False
    description: Annotated[str, Field(max_length=1000)] | None = None

    @model_validator(mode="after")
    def _check_delay_or_at(self) -> "JobOptions":
        if self.delay is not None and self.at is not None:
            raise ValueError("give delay or at, not both")
        return self


class JobBody(JobOptions):
    function: str
    args: list[Any] = Field(default_factory=list)
    kwargs: dict[str, Any] = Field(default_factory=dict)


class BulkBody(Strict):
    jobs: Annotated[list[JobBody], Field(min_length=1, max_length=10_000)]


def _no_schedule(job_id: str) -> str:
    """Raises NotFound: under this id, tools of rq-scheduler see a schedule as a job."""
    if job_id.startswith(SCHEDULE_ID_PREFIX):
        raise NotFound(f"No job {job_id!r}: schedules are found at /schedules")
    return job_id


class JobPath(BaseModel):
    job_id: Annotated[str, AfterValidator(_no_schedule)]


class JobsQuery(Selection):
    cursor: str | None = None
    limit: int = Field(50, ge=1, le=500)


class RequeueBody(Strict):
    """Changes of a requeued job. `args` and `kwargs` each replace all that the job had."""

    args: list[Any] | None = None
    kwargs: dict[str, Any] | None = None
    queue: QueueName | None = None
    timeout: Seconds | None = None
    retry: RetryBody | None = Field(None, description="New retries; default: none")

    @model_validator(mode="before")
    @classmethod
    def _allow_missing(cls, body: Any) -> Any:
        return {} if body is None else body


class AmendBody(Strict):
    """Changes of a job that has not started."""

    delay: DelaySeconds | None = None
    at: Instant | None = Field(None, description="A time in the past means now")
    at_front: Literal[True] | None = Field(None, description="Put it at the front of its queue, now or when it is due")
    queue: QueueName | None = None
    timeout: Seconds | None = None
    tags: Annotated[list[Tag], Field(max_length=32)] | None = Field(None, description="Replaces all tags")
    description: Annotated[str, Field(max_length=1000)] | None = None

    @model_validator(mode="after")
    def _check_changes(self) -> "AmendBody":
        if self.delay is not None and self.at is not None:
            raise ValueError("give delay or at, not both")
        if all(value is None for _, value in self):
            raise ValueError("give at least one change")
        return self


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


class Webhook(BaseModel):
    url: str
    events: list[JobEvent | WorkflowEvent]


class WaitingFor(BaseModel):
    """Why a job is `scheduled` or `deferred`."""

    reason: Literal["delay", "retry", "rate_limit", "concurrency", "breaker", "dependency", "dead_dependency"] = Field(
        description="It was delayed, waits for its next attempt, is held back by a limit or an open breaker, or waits "
        "for another job; `dead_dependency`: for one that failed, was stopped, canceled or deleted, so that it waits "
        "until that one is requeued, or it is canceled or requeued itself"
    )
    name: str | None = Field(
        description="Of the limit or breaker: `function:NAME` or `queue:NAME`, then `:` and the value of its key; "
        "the id of the job, or of the workflow, that it waits for; null for delay and retry",
        examples=["function:billing.charge:42"],
    )
    until: str | None = Field(
        description="When it is queued again: the due time of a delay or a retry, the end of an open breaker, an "
        "estimate for a rate limit; null for concurrency and dependencies, which depend on when other jobs end"
    )


class Job(BaseModel):
    """Times are RFC 3339 UTC, durations seconds."""

    id: str
    function: str | None
    args: list[Any]
    kwargs: dict[str, Any]
    queue: str | None
    status: JobStatus
    description: str | None
    created_at: str | None
    enqueued_at: str | None
    scheduled_for: str | None
    waiting_for: WaitingFor | None = Field(description="Why it is scheduled or deferred; null in any other state")
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
    webhook: Webhook | None = Field(description="Its secret is never shown")
    links: Links


class AttemptError(BaseModel):
    type: str
    message: str


class Attempt(BaseModel):
    attempt: int
    started_at: str | None
    ended_at: str | None
    outcome: Literal["finished", "failed", "stopped", "retried"]
    worker: str | None
    error: AttemptError | None


class JobDetail(Job):
    history: list[Attempt] = Field(description="Attempts that have ended, newest first: at least the last ten")

    warnings: list[str] = Field(
        default_factory=list,
        description="In the response to an enqueue: queues that no worker serves; left out if there are none",
    )


class JobReference(BaseModel):
    """The answer to an API key without the scope `read` about a job that its request did not create."""

    id: str
    links: Links


class JobOrReference(RootModel[Job | JobReference]):
    """A job; only its reference, if the API key lacks the scope `read`."""


class JobDetailOrReference(RootModel[JobDetail | JobReference]):
    """A job with its history; only its reference, if the API key lacks the scope `read`."""


class JobLogQuery(Strict):
    cursor: str | None = None
    limit: int = Field(1000, ge=1, le=10_000)


class LogLine(BaseModel):
    id: str = Field(description="As `cursor`: the lines after this one")
    at: str
    attempt: int
    source: str = Field(description="`stdout`, `stderr`, or the name of a logger")
    level: str | None = Field(description="Null for what was printed")
    text: str
    trace_id: str = Field("", description="Left out where traces are off")


class JobLog(BaseModel):
    lines: list[LogLine]
    next_cursor: str | None


class Jobs(BaseModel):
    jobs: list[Job]
    next_cursor: str | None


class Ids(BaseModel):
    ids: list[str]
    warnings: list[str] = Field(
        default_factory=list, description="Queues that no worker serves; left out if there are none"
    )
