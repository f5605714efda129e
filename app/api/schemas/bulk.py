"""Many jobs at once, by a filter."""

from typing import Literal

from pydantic import BaseModel, Field, model_validator

from app.catalog.fields import Flag
from app.views.selection import Selection


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
    def _check_filter_or_all(self) -> "WithAll":
        if self.is_empty() and not self.all:
            raise ValueError("give a filter, or all: true")
        return self


class BulkCancel(WithAll):
    """Which jobs, as in the list of jobs; newest first in each queue and state."""

    status: Literal["queued", "started", "scheduled", "deferred"] | None = Field(
        None, description="If it is not given, each of these"
    )


class BulkDelete(WithAll):
    """Without a status, jobs in any; those that run are skipped."""


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
