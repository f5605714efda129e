"""Every HTTP shape, in one place: request bodies, queries and answers, as they stand in OpenAPI."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, model_validator

from app.fields import (
    ConcurrencyBody,
    Flag,
    Id,
    Instant,
    Keep,
    NodeName,
    QueueName,
    Rate,
    RateBody,
    RetryBody,
    Seconds,
    Share,
    Strict,
    Tag,
    UniqueBody,
    Wait,
    WebhookBody,
    WorkflowWebhookBody,
)
from app.schedules.rule import CatchUp, Overlap, Rule, When
from app.selection import Selection


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
    rate_limit: Rate | RateBody | None = Field(None, description="How many such jobs begin in a time")
    concurrency: Share | ConcurrencyBody | None = Field(None, description="How many such jobs run at once")
    unique: UniqueBody | None = None
    webhook: WebhookBody | None = None
    depends_on: Annotated[list[Id], Field(max_length=1000)] = Field(default_factory=list)
    at_front: Flag = False
    tags: Annotated[list[Tag], Field(max_length=32)] = Field(default_factory=list)
    description: Annotated[str, Field(max_length=1000)] | None = None

    @model_validator(mode="after")
    def _one_time(self) -> "JobOptions":
        if self.delay is not None and self.at is not None:
            raise ValueError("give delay or at, not both")
        return self


class JobBody(JobOptions):
    function: str
    args: list[Any] = Field(default_factory=list)
    kwargs: dict[str, Any] = Field(default_factory=dict)


class BulkBody(Strict):
    jobs: Annotated[list[JobBody], Field(min_length=1, max_length=10_000)]


class NeedBody(Strict):
    name: NodeName
    even_if_failed: Flag = False


class HookBody(JobBody):
    """A job of a workflow; what comes before it is said by `after`."""

    @model_validator(mode="after")
    def _is_of_a_workflow(self) -> "HookBody":
        for name in ("id", "depends_on", "unique", "at"):
            if getattr(self, name):
                raise ValueError(f"a job of a workflow has no {name}")
        return self


class NodeBody(HookBody):
    name: NodeName
    after: Annotated[list[NodeName | NeedBody], Field(max_length=10_000)] = []
    each: Annotated[list[Any], Field(min_length=1, max_length=10_000)] | None = Field(
        None, description="One job for each item, which is its last positional argument; its result is a list"
    )


class WorkflowBody(Strict):
    name: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    jobs: Annotated[list[NodeBody], Field(min_length=1, max_length=10_000)]
    on_error: Literal["continue", "stop"] = Field(
        "continue", description="When a job dies: the jobs that do not need it go on, or what has not begun is canceled"
    )
    on_success: HookBody | None = None
    on_failure: HookBody | None = None
    on_complete: HookBody | None = None
    webhook: WorkflowWebhookBody | None = None


class WorkflowPath(BaseModel):
    workflow_id: str


class WorkflowsQuery(Strict):
    status: Literal["running", "finished", "failed", "canceled"] | None = None
    name: str | None = None
    cursor: str | None = None
    limit: int = Field(50, ge=1, le=500)


class EventsQuery(Strict):
    queue: str | None = None
    function: str | None = None


class JobPath(BaseModel):
    job_id: str


class NamePath(BaseModel):
    name: str


class JobsQuery(Selection):
    cursor: str | None = None
    limit: int = Field(50, ge=1, le=500)


class RequeueBody(Strict):
    """What takes the place of what was; all else stays. `args` and `kwargs` each replace the whole of theirs."""

    args: list[Any] | None = None
    kwargs: dict[str, Any] | None = None
    queue: QueueName | None = None
    timeout: Seconds | None = None
    retry: RetryBody | None = Field(None, description="Retries, given anew")

    @model_validator(mode="before")
    @classmethod
    def _may_be_missing(cls, body: Any) -> Any:
        return {} if body is None else body


class AmendBody(Strict):
    """What is to be changed of a job that has not started."""

    delay: Wait | None = None
    at: Instant | None = Field(None, description="A moment that is past means now")
    at_front: Literal[True] | None = Field(None, description="To the head of its queue, at once or when it is due")
    queue: QueueName | None = None
    timeout: Seconds | None = None
    tags: Annotated[list[Tag], Field(max_length=32)] | None = Field(None, description="All of them")
    description: Annotated[str, Field(max_length=1000)] | None = None

    @model_validator(mode="after")
    def _something(self) -> "AmendBody":
        if self.delay is not None and self.at is not None:
            raise ValueError("give delay or at, not both")
        if all(value is None for _, value in self):
            raise ValueError("say what is to be changed")
        return self


class Bulk(Selection):
    """Which jobs, as in the list of jobs; newest first in each queue and state."""

    dry_run: Flag = Field(False, description="Count, and change nothing")
    limit: int | None = Field(None, ge=1, description="So many jobs at most in this request")
    cursor: str | None = Field(None, description="`next_cursor` of the request before, with the same filter")

    def selection(self) -> Selection:
        return Selection(**self.model_dump(include=set(Selection.model_fields)))


class BulkRequeue(Bulk):
    """Which jobs, as in the list of jobs; newest first in each queue and state."""

    status: Literal["failed", "stopped", "canceled"] = "failed"


class WithAll(Bulk):
    """Which jobs, as in the list of jobs; newest first in each queue and state."""

    all: Flag = Field(False, description="Needed where no filter is given")

    @model_validator(mode="after")
    def _not_by_mistake(self) -> "WithAll":
        if self.says_nothing() and not self.all:
            raise ValueError("give a filter, or all: true")
        return self


class BulkCancel(WithAll):
    """Which jobs, as in the list of jobs; newest first in each queue and state."""

    status: Literal["queued", "started", "scheduled", "deferred"] | None = Field(
        None, description="If it is not given, each of these"
    )


class BulkDelete(WithAll):
    """Without a status, jobs in any; those that run are skipped."""


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
    events: list[str]


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
    history: list[Attempt] = Field(description="Its attempts that have ended, newest first: the last ten, or more")


class BulkResult(BaseModel):
    matched: int
    skipped: int = Field(description="Matched, but no longer in a state for that")
    next_cursor: str | None = Field(description="Where to go on; null: all have been looked at")


class BulkRequeued(BulkResult):
    requeued: int


class BulkCanceled(BulkResult):
    canceled: int = Field(description="With those that run, whose workers have been told")


class BulkDeleted(BulkResult):
    deleted: int


class FailuresQuery(Strict):
    queue: str | None = None
    function: str | None = None
    since: Instant | None = Field(None, description="Failed at or after")


class Failure(BaseModel):
    function: str | None
    error: str = Field(description="The error's type")
    message: str = Field(description="Of the latest")
    count: int
    first_seen: str | None
    last_seen: str | None
    example: str = Field(description="The id of the latest job")
    queues: list[str]


class Failures(BaseModel):
    failures: list[Failure]
    complete: bool = Field(description="False: there are more failed jobs than were looked at, which were the newest")


class AuditQuery(Strict):
    actor: str | None = Field(None, description='The name of an API key, or "open"')
    action: str | None = Field(None, description='As "jobs.requeue"')
    since: Instant | None = None
    cursor: str | None = None
    limit: int = Field(100, ge=1, le=500)


class AuditEntry(BaseModel):
    id: str
    at: str
    actor: str
    action: str
    method: str
    route: str
    target: str = Field(description="The id or name in the path, or of what was made")
    status: int
    address: str
    details: dict[str, Any] = Field(description="Counts, and which jobs were meant")


class Audit(BaseModel):
    entries: list[AuditEntry]
    next_cursor: str | None


class Jobs(BaseModel):
    jobs: list[Job]
    next_cursor: str | None


class WorkflowCounts(BaseModel):
    total: int
    finished: int
    failed: int
    stopped: int
    canceled: int


class SelfLink(BaseModel):
    self: str


class WorkflowSummary(BaseModel):
    id: str
    name: str | None
    status: Literal["running", "finished", "failed", "canceled"]
    created_at: str
    ended_at: str | None
    counts: WorkflowCounts
    webhook: Webhook | None
    links: SelfLink


class Need(BaseModel):
    name: str
    even_if_failed: bool


class WorkflowJob(BaseModel):
    name: str
    id: str
    function: str
    status: str
    result: Any = Field(description="Of the jobs that nothing comes after")
    error: JobError | None
    after: list[Need]


class Workflow(WorkflowSummary):
    jobs: list[WorkflowJob]


class Workflows(BaseModel):
    workflows: list[WorkflowSummary]
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
    rate_limit: dict[str, Any] | None
    concurrency: dict[str, Any] | None
    breaker: dict[str, Any] | None
    unique: dict[str, Any] | None
    tags: list[str]
    webhook: Webhook | None
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
    paused: bool


class QueuePath(BaseModel):
    name: QueueName


class Deleted(BaseModel):
    deleted: int


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


class ScheduleBody(Rule):
    """All that is said of a schedule; its name is in the path."""


class PreviewBody(When):
    """When, and nothing else."""


class SchedulesQuery(Strict):
    cursor: str | None = None
    limit: int = Field(100, ge=1, le=500)


class DueTime(BaseModel):
    utc: str
    local: str = Field(description="In the schedule's time zone")


class Preview(BaseModel):
    text: str
    next_runs: list[DueTime]


class ScheduledRun(BaseModel):
    job_id: str
    scheduled_for: str
    status: str


class ScheduleCounts(BaseModel):
    runs: int
    skips: int = Field(description="Due while the last run was not over")
    misses: int = Field(description="Due while no scheduler ran, and not caught up")
    failures: int


class Schedule(Preview):
    """Times are RFC 3339 UTC, durations seconds."""

    name: str
    function: str
    args: list[Any]
    kwargs: dict[str, Any]
    queue: str | None
    cron: str | None
    interval: float | None
    at: str | None
    timezone: str
    start: str | None
    end: str | None
    jitter: float
    timeout: int | None
    retry: dict[str, Any] | None
    overlap: Overlap
    catch_up: CatchUp
    catch_up_window: int
    paused: bool
    reason: str | None = Field(description="Why it is paused, or cannot run")
    pause_on_failure: int | None
    max_runs: int | None
    description: str | None
    last_runs: list[ScheduledRun]
    counts: ScheduleCounts
    declared: bool


class ForeignEntry(BaseModel):
    id: str
    reason: str
    due: float


class Schedules(BaseModel):
    schedules: list[Schedule]
    next_cursor: str | None
    quarantined: list[ForeignEntry] = Field(description="Entries of a plain rq-scheduler, which are not run")


class WebhookQuery(Strict):
    url: str


class DisabledWebhook(BaseModel):
    url: str
    since: str


class DisabledWebhooks(BaseModel):
    disabled: list[DisabledWebhook]


class Health(BaseModel):
    status: str
    redis: str | None = None
    scheduler: float | None = Field(
        None, description="Seconds since the scheduler that leads has moved; null: none does"
    )
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
