"""A schedule and how it stands: what its hash in Redis says."""

from datetime import datetime
from typing import Annotated, NamedTuple

from pydantic import BaseModel, Field, PrivateAttr

from app.catalog.fields import MAX_INSTANT, Instant
from app.schedules.rule import Schedule
from app.serializer import JSON, text_of

LAST_RUNS = 5
Count = Annotated[int, Field(ge=0, le=2**53)]


class Unreadable(Exception):
    """What Redis holds is no schedule."""


class Run(NamedTuple):
    job_id: str
    due: Annotated[float, Field(ge=0, le=MAX_INSTANT.timestamp())]
    """Seconds since 1970."""
    outcome: str = ""
    """Its state when it had ended."""


class State(BaseModel):
    """Moments are UTC."""

    schedule: Schedule
    declared: bool = False
    first: Instant | None = None
    """Where an interval begins."""
    due: Instant | None = None
    """The next due moment; None if it is paused, broken or over."""
    paused: str = ""
    """Why."""
    broken: str = ""
    """Why it cannot run."""
    runs: Count = 0
    skips: Count = 0
    misses: Count = 0
    failures: Count = 0
    failures_in_a_row: Count = 0
    buffered: Instant | None = None
    """The due moment of the run that waits until the last one is over."""
    last_runs: list[Run] = []
    """The newest first."""
    _recovered: bool = PrivateAttr(False)

    @property
    def recovered(self) -> bool:
        """Whether it was broken when it was read, and is no more."""
        return self._recovered

    @property
    def name(self) -> str:
        return self.schedule.name

    def resume(self, now: datetime) -> None:
        """Go on from now: what was due while it was paused is not missed."""
        self._recovered = bool(self.broken)
        self.paused = self.broken = ""
        self.failures_in_a_row = 0
        self.first = self.first or self.schedule.first(now)
        over = self.schedule.max_runs is not None and self.runs >= self.schedule.max_runs
        late = None if self.runs else self.schedule.at
        self.due = None if over else self.schedule.after(now, self.first) or late

    def pause(self, why: str) -> None:
        self.paused, self.due = why, None

    def set_aside(self, why: str) -> None:
        """It cannot run, until it is put or looked at anew."""
        self.broken, self.due = why, None

    def ran(self, job_id: str, due: datetime) -> None:
        self.runs += 1
        self.last_runs = [Run(job_id, due.timestamp()), *self.last_runs][:LAST_RUNS]

    def ended(self, outcomes: dict[str, str]) -> None:
        """How runs ended, by their jobs' ids."""
        self.last_runs = [run._replace(outcome=outcomes.get(run.job_id, run.outcome)) for run in self.last_runs]
        for outcome in outcomes.values():
            if outcome == "failed":
                self.failures += 1
                self.failures_in_a_row += 1
            elif outcome == "finished":
                self.failures_in_a_row = 0

    def hash(self) -> dict[str, str]:
        return {
            "rule": self.schedule.model_dump_json(exclude={"name"}, exclude_defaults=True),
            "state": self.model_dump_json(exclude={"schedule"}, exclude_defaults=True),
        }

    @classmethod
    def of(cls, name: str, raw: dict[bytes, bytes]) -> "State":
        """Raises Unreadable."""
        try:
            schedule = Schedule.model_validate({**JSON.loads(raw[b"rule"]), "name": name})
            return cls(schedule=schedule, **JSON.loads(raw[b"state"]))
        except (KeyError, TypeError, ValueError) as error:  # pydantic's is a ValueError
            raise Unreadable(f"{type(error).__name__}: {text_of(error)}") from None
