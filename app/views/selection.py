"""The filter for the list of jobs and for bulk actions."""

from datetime import UTC, datetime
from typing import Annotated, Any

import orjson
from pydantic import BeforeValidator, Field

from app.catalog.fields import Instant, Strict
from app.states import ENDED, Status

Text = Annotated[str | None, BeforeValidator(lambda value: None if value == "" else value)]
"""An empty string is the same as None."""


class Selection(Strict):
    """Jobs that meet all conditions; a condition that is None is met by every job."""

    status: Status | None = None
    queue: Text = None
    function: Text = None
    error: Text = Field(default=None, description="The type of the error that ended it, with or without its module")
    tag: Text = None
    q: Text = Field(default=None, description="Text in the description or the arguments")
    since: Instant | None = Field(default=None, description="Ended at or after; of a job that has not ended: created")
    until: Instant | None = Field(default=None, description="Ended before; of a job that has not ended: created")

    def is_empty(self) -> bool:
        return all(getattr(self, name) is None for name in Selection.model_fields)

    def matches(self, job: dict[str, Any]) -> bool:
        """Whether a job, as returned by app.views.job_view, meets all conditions."""
        return (
            self.status in (None, job["status"])
            and self.queue in (None, job["queue"])
            and self.function in (None, job["function"])
            and (self.tag is None or self.tag in job["tags"])
            and (self.error is None or _has_type(job["error"], self.error))
            and ((self.since is None and self.until is None) or self._in_time(job))
            and (self.q is None or self.q.lower() in _text(job))
        )

    def _in_time(self, job: dict[str, Any]) -> bool:
        text = (job["ended_at"] if job["status"] in ENDED else None) or job["created_at"]
        if text is None:
            return False
        at = datetime.fromisoformat(text)
        at = at if at.tzinfo else at.replace(tzinfo=UTC)
        return (self.since is None or at >= self.since) and (self.until is None or at < self.until)


def _has_type(error: dict[str, str] | None, type_name: str) -> bool:
    return error is not None and type_name in (error["type"], error["type"].rpartition(".")[2])


def _text(job: dict[str, Any]) -> str:
    return f"{job['description']} {orjson.dumps([job['args'], job['kwargs']]).decode()}".lower()
