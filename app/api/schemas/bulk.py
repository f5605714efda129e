"""Bulk changes of jobs that match a filter."""

from typing import Literal

from pydantic import BaseModel, Field, model_validator

from app.catalog.fields import Flag
from app.views.selection import Selection


class Bulk(Selection):
    """A filter of jobs, as for the list of jobs. Jobs are changed newest first in each queue and status."""

    dry_run: Flag = Field(False, description="Count matching jobs, and change nothing")
    limit: int | None = Field(None, ge=1, description="Maximum number of jobs in this request")
    cursor: str | None = Field(None, description="`next_cursor` of the previous response to the same filter")

    def selection(self) -> Selection:
        return Selection(**self.model_dump(include=set(Selection.model_fields)))


class BulkRequeue(Bulk):
    """A filter of jobs, as for the list of jobs. Jobs are changed newest first in each queue and status."""

    status: Literal["failed", "stopped", "canceled"] = "failed"


class WithAll(Bulk):
    """A filter of jobs, as for the list of jobs. Jobs are changed newest first in each queue and status."""

    all: Flag = Field(False, description="Required to be true if there is no filter")

    @model_validator(mode="after")
    def _check_filter_or_all(self) -> "WithAll":
        if self.is_empty() and not self.all:
            raise ValueError("give a filter, or all: true")
        return self


class BulkCancel(WithAll):
    """A filter of jobs, as for the list of jobs. Jobs are changed newest first in each queue and status."""

    status: Literal["queued", "started", "scheduled", "deferred"] | None = Field(
        None, description="Default: all of these"
    )


class BulkDelete(WithAll):
    """A filter of jobs; default: in any status. Running jobs are skipped."""


class BulkResult(BaseModel):
    matched: int
    skipped: int = Field(description="Matching jobs whose status no longer allows the change")
    next_cursor: str | None = Field(description="Where the next request goes on; null: all jobs were handled")


class BulkRequeued(BulkResult):
    requeued: int


class BulkCanceled(BulkResult):
    canceled: int = Field(description="Including running jobs that are being stopped")


class BulkDeleted(BulkResult):
    deleted: int
