"""Workflows: graphs of jobs."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, RootModel, model_validator

from app.api.schemas.jobs import JobBody, JobError, JobStatus, Webhook
from app.api.schemas.system import UNREADABLE, UnreadableId
from app.catalog.fields import Flag, NodeName, Strict, WorkflowWebhookBody


class NeedBody(Strict):
    name: NodeName
    even_if_failed: Flag = False


class HookBody(JobBody):
    """A job of a workflow. `after` names the jobs it depends on."""

    @model_validator(mode="after")
    def _check_allowed_fields(self) -> "HookBody":
        for name in ("id", "depends_on", "unique", "at"):
            if getattr(self, name):
                raise ValueError(f"a job of a workflow has no {name}")
        return self


class NodeBody(HookBody):
    name: NodeName
    after: Annotated[list[NodeName | NeedBody], Field(max_length=10_000)] = []
    each: Annotated[list[Any], Field(min_length=1, max_length=10_000)] | None = Field(
        None, description="One job for each item, which becomes its last positional argument; the result is a list"
    )


class WorkflowBody(Strict):
    name: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    jobs: Annotated[list[NodeBody], Field(min_length=1, max_length=10_000)]
    on_error: Literal["continue", "stop"] = Field(
        "continue",
        description="When a job fails: continue with those that do not depend on it, or cancel all not yet started",
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
    warnings: list[str] = Field(
        default_factory=list,
        description="In the response to its submission: queues that no worker serves; left out if there are none",
    )


class Need(BaseModel):
    name: str
    even_if_failed: bool


class WorkflowJob(BaseModel):
    name: str
    id: str
    function: str
    status: JobStatus
    result: Any = Field(description="Result of a job that no other job depends on")
    error: JobError | None
    after: list[Need]


class Workflow(WorkflowSummary):
    jobs: list[WorkflowJob]


class WorkflowReference(BaseModel):
    """The answer to an API key without the scope `read` about a workflow that its request did not create."""

    id: str
    links: SelfLink


class WorkflowOrReference(RootModel[Workflow | WorkflowReference]):
    """A workflow; only its reference, if the API key lacks the scope `read`."""


class Workflows(BaseModel):
    workflows: list[WorkflowSummary]
    next_cursor: str | None
    unreadable: list[UnreadableId] = Field(default_factory=list, description=UNREADABLE)
