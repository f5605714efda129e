"""A schedule and its state, as stored in its Redis hash."""

from datetime import datetime
from typing import Annotated, NamedTuple

from pydantic import BaseModel, Field, PrivateAttr

from app.catalog.fields import MAX_INSTANT, Instant
from app.schedules.rule import Schedule
from app.serializer import JSON, text_of

LAST_RUNS = 5
Count = Annotated[int, Field(ge=0, le=2**53)]


class Unreadable(Exception):
    """The hash in Redis is not a valid schedule."""


class Run(NamedTuple):
    job_id: str
    due: Annotated[float, Field(ge=0, le=MAX_INSTANT.timestamp())]
    """Seconds since 1970."""
    outcome: str = ""
    """The final status of its job; empty until it has ended."""


class State(BaseModel):
    """A schedule with its counters and due times (UTC)."""

    schedule: Schedule
    declared: bool = False
    first: Instant | None = None
    """The start of an interval: its runs are due at whole multiples from here."""
    due: Instant | None = None
    """The next due moment; None if the schedule is paused, broken or over."""
    paused: str = ""
    """Why it is paused; empty if it is not."""
    broken: str = ""
    """Why it cannot run; empty if it can."""
    runs: Count = 0
    skips: Count = 0
    misses: Count = 0
    failures: Count = 0
    failures_in_a_row: Count = 0
    buffered: Instant | None = None
    """The due moment of the run that waits until the last one has ended."""
    last_runs: list[Run] = []
    """Newest first."""
    _recovered: bool = PrivateAttr(False)

    @property
    def recovered(self) -> bool:
        """Whether it was broken when read, and can run again."""
        return self._recovered

    @property
    def name(self) -> str:
        return self.schedule.name

    def lateness(self, now: float) -> float:
        """Seconds by which the next run is late at `now` (seconds since 1970); 0 if it is not, or there is none."""
        return max(0.0, now - self.due.timestamp()) if self.due else 0.0

    def resume(self, now: datetime) -> None:
        """Continue from now. Runs that were due during the pause do not count as missed."""
        self._recovered = bool(self.broken)
        self.paused = self.broken = ""
        self.failures_in_a_row = 0
        self.first = self.first or self.schedule.first(now)
        over = self.schedule.max_runs is not None and self.runs >= self.schedule.max_runs
        late = None if self.runs else self.schedule.at
        self.due = None if over else self.schedule.after(now, self.first) or late

    def pause(self, reason: str) -> None:
        self.paused, self.due = reason, None

    def set_aside(self, reason: str) -> None:
        """Mark it as broken: it does not run until it is replaced, or passes the next check."""
        self.broken, self.due = reason, None

    def add_run(self, job_id: str, due: datetime) -> None:
        self.runs += 1
        self.last_runs = [Run(job_id, due.timestamp()), *self.last_runs][:LAST_RUNS]

    def record_outcomes(self, outcomes: dict[str, str]) -> None:
        """Record how runs ended: final status by job id."""
        self.last_runs = [run._replace(outcome=outcomes.get(run.job_id, run.outcome)) for run in self.last_runs]
        for outcome in outcomes.values():
            if outcome == "failed":
                self.failures += 1
                self.failures_in_a_row += 1
            elif outcome == "finished":
                self.failures_in_a_row = 0

    def to_hash(self) -> dict[str, str]:
        return {
            "rule": self.schedule.model_dump_json(exclude={"name"}, exclude_defaults=True),
            "state": self.model_dump_json(exclude={"schedule"}, exclude_defaults=True),
        }

    @classmethod
    def parse(cls, name: str, raw: dict[bytes, bytes]) -> "State":
        """Read the hash of a schedule. Raises Unreadable."""
        try:
            schedule = Schedule.model_validate({**JSON.loads(raw[b"rule"]), "name": name})
            return cls(schedule=schedule, **JSON.loads(raw[b"state"]))
        except (KeyError, TypeError, ValueError) as error:  # pydantic's ValidationError is a ValueError
            raise Unreadable(f"{type(error).__name__}: {text_of(error)}") from None
