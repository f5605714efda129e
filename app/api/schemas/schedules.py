"""Schedules: rules that enqueue jobs at set times."""

from typing import Any

from pydantic import BaseModel, Field

from app.api.schemas.jobs import JobStatus
from app.api.schemas.system import UNREADABLE, UnreadableName
from app.catalog.fields import Strict
from app.schedules.rule import CatchUp, Overlap, Rule, When


class ScheduleBody(Rule):
    """A schedule; its name is in the path."""


class PreviewBody(When):
    """A rule without its function."""


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
    status: JobStatus


class ScheduleCounts(BaseModel):
    runs: int
    skips: int = Field(description="Runs skipped because the last one had not ended")
    misses: int = Field(description="Runs missed while no scheduler ran")
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


class RejectedSchedule(BaseModel):
    """An entry of scheduler.py that is set aside because it is invalid."""

    name: str = Field(description="Its name, else that of its function, else its index in the list")
    function: str | None
    reason: str


class Schedules(BaseModel):
    schedules: list[Schedule]
    next_cursor: str | None
    quarantined: list[ForeignEntry] = Field(description="Entries of a plain rq-scheduler, which are not run")
    rejected: list[RejectedSchedule] = Field(description="Entries of scheduler.py that are set aside, and why")
    unreadable: list[UnreadableName] = Field(default_factory=list, description=UNREADABLE)
