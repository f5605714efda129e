"""The service in one process: what is enqueued is run when the test says so, and time passes when it says so."""

import contextlib
import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import time_machine
from pydantic import SecretStr

from app import changes, coroutines, limits, listing, outcome, rq_parts
from app.redis import registry_key
from app.schedules import store
from app.schedules.lease import Lease
from app.schedules.reconcile import Reconciler
from app.schedules.runner import Runner
from app.settings import get_settings
from app.testing import in_process
from app.web import create_app
from app.workflows import store as workflows


class Refused(Exception):
    """The API does not take this job; says why, with a pointer to each bad value."""


@dataclass(frozen=True)
class Enqueued:
    """A job; what is asked of it is so at that moment."""

    id: str
    jobs: "Jobs"

    @property
    def status(self) -> str:
        return str(self.jobs.get(self.id)["status"])

    @property
    def result(self) -> Any:
        return self.jobs.get(self.id)["result"]

    @property
    def error(self) -> dict[str, str] | None:
        """Its type, message and traceback."""
        found: dict[str, str] | None = self.jobs.get(self.id)["error"]
        return found


class Jobs:
    """What `run_jobs` gives. `client` is Flask's test client on the API, `redis` the Redis."""

    def __init__(self, clock: time_machine.Traveller, schedules: Iterable[dict[str, Any]]) -> None:
        self._clock, self._catalog = clock, rq_parts.catalog()
        self.settings = get_settings().model_copy(update={"api_keys": SecretStr("")})
        self.redis = in_process.Redis(self)
        self.client = create_app(self.settings, self.redis, self._catalog, has_workers=False).test_client()
        with self._leading() as lease:
            Reconciler(self.redis, self._catalog, self.settings, lease).reconcile(schedules, datetime.now(UTC))

    def enqueue(self, function: str, *args: Any, **kwargs: Any) -> Enqueued:
        """Enqueue a call. Raises Refused."""
        return self.enqueue_with({}, function, *args, **kwargs)

    def enqueue_with(self, options: dict[str, Any], function: str, *args: Any, **kwargs: Any) -> Enqueued:
        """The same, with options of `POST /jobs`: `{"delay": "5m", "retry": {"max": 2}}`. Raises Refused."""
        body = {**options, "function": function, "args": args, "kwargs": kwargs}
        answer = self.client.post("/api/v1/jobs", json=body)
        said = answer.get_json()
        if answer.status_code >= 400:
            errors = [f"{error['pointer']}: {error['detail']}" for error in said.get("errors", [])]
            raise Refused("\n".join([said["detail"], *errors]))
        return Enqueued(said["id"], self)

    def get(self, job_id: str) -> dict[str, Any]:
        """As `GET /jobs/{id}`. Raises KeyError if there is none."""
        answer = self.client.get(f"/api/v1/jobs/{job_id}")
        if answer.status_code != 200:
            raise KeyError(job_id)
        found: dict[str, Any] = answer.get_json()
        return found

    def run(self, raise_errors: bool = False) -> None:
        """Run jobs until nothing is due now; with `raise_errors`, then raise what the first to fail for good raised."""
        errors: list[tuple[str, BaseException]] = []
        self._move_due()
        while in_process.work(self.redis, self._queues(), errors):
            self._move_due()
        for job_id, error in errors if raise_errors else []:
            if self.get(job_id)["status"] == "failed":
                raise error

    def advance(self, *, raise_errors: bool = False, **duration: float) -> None:
        """Move the clock by, say, `minutes=5`, as timedelta has it, and run what comes due, each at its time."""
        until = time.time() + timedelta(**duration).total_seconds()
        self.run(raise_errors)
        while (due := self._next_due()) and due <= until:
            self._clock.move_to(due if due.is_integer() else due + 1e-6)  # datetime leaves out what is below it
            self.run(raise_errors)
        self._clock.move_to(until)

    def _next_due(self) -> float | None:
        """The first moment to come when a delayed job, a retry, a schedule or a limit is due, in seconds since 1970."""
        now = time.time()
        keys = [*(registry_key("scheduled", name) for name in self._queues()), store.ALARMS]
        found = [self.redis.zrangebyscore(key, f"({now}", "+inf", 0, 1, withscores=True) for key in keys]
        moments = [float(entries[0][1]) for entries in found if entries] + [now + limits.look(self.redis)]
        return min((moment for moment in moments if now < moment < math.inf), default=None)

    def _move_due(self) -> None:
        """What the scheduler process does."""
        now = datetime.now(UTC)
        with self._leading() as lease:
            runner = Runner(self.redis, self.settings, self._catalog, lease)
            runner.settle()
            while runner.run_due(now)[0]:
                pass
        for name in self._queues():
            while changes.move_due(self.redis, name, now):
                pass
        workflows.sweep(self.redis, 0, parts=1)
        while outcome.follow_up(self.redis):
            pass
        limits.look(self.redis)

    @contextlib.contextmanager
    def _leading(self) -> Iterator[Lease]:
        lease = Lease(self.redis)
        lease.hold()
        yield lease
        lease.release()

    def _queues(self) -> list[str]:
        """All that there are: in the order of QUEUES, then the others."""
        first, there_are = self.settings.queue_names, listing.queue_names(self.redis)
        return [name for name in first if name in there_are] + [name for name in there_are if name not in first]


@contextlib.contextmanager
def run_jobs(at: datetime | None = None, schedules: Iterable[dict[str, Any]] = ()) -> Iterator[Jobs]:
    """A service with an empty Redis, and a clock that stands still at `at` (default: now) until it is told to move.

    `schedules`: as SCHEDULES in scheduler.py.
    """
    start = at or datetime.now(UTC).replace(microsecond=0)  # RQ delays jobs to whole seconds
    try:
        with time_machine.travel(start, tick=False) as clock:
            yield Jobs(clock, schedules)
    finally:
        coroutines.close()
