"""The service in one process: jobs run, and time passes, when the test says so."""

import contextlib
import math
import tempfile
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import time_machine
from pydantic import SecretStr

from app import limits
from app.access import api_keys
from app.api.application import create_app
from app.author import network
from app.author.hooks import Context
from app.lifecycle import actions, outbox
from app.redis.keys import registry_key
from app.rq_adapter import coroutines
from app.rq_adapter.rq_parts import override_catalog
from app.schedules import store
from app.schedules.lease import Lease
from app.schedules.reconcile import Reconciler
from app.schedules.runner import Runner
from app.settings import Settings, override_settings
from app.testing import in_process
from app.testing.functions import PatchableCatalog
from app.testing.network import Delivery, Mail, NetworkCollector, WebhookResponse
from app.testing.settings import make_settings
from app.views import listing
from app.worker.process_hooks import process_hooks
from app.workflows import store as workflows

CATALOG = PatchableCatalog()
"""Shared by all tests of this process: discovering jobs/ takes longer than most tests."""


class Refused(Exception):
    """The service rejects a job or a schedule. The message has the reasons; for a job, with a pointer to each value."""


@dataclass(frozen=True)
class Enqueued:
    """A job. Its properties are read from the service each time."""

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
        """The type, message and traceback of its error."""
        error: dict[str, str] | None = self.jobs.get(self.id)["error"]
        return error


class Jobs:
    """The service under test. `client` is Flask's test client of the API; `redis` and `settings` are those in use."""

    def __init__(
        self,
        clock: time_machine.Traveller,
        schedules: Iterable[dict[str, Any]],
        settings: Settings,
        collector: NetworkCollector,
        process: contextlib.ExitStack,
        context: Context | None,
    ) -> None:
        """`process` ends when the test does. `context` replaces what the hooks of jobs/ would open."""
        self._process, self._context, self._has_started = process, context, False
        self._clock, self._catalog, self._collector = clock, CATALOG, collector
        self.settings = settings
        self.redis = in_process.Redis(self)
        app_settings, self._headers = _with_api_key(settings)
        self.client = create_app(app_settings, self.redis, self._catalog, has_workers=False).test_client()
        self._declare(schedules)

    def _declare(self, schedules: Iterable[dict[str, Any]]) -> None:
        """Store the schedules. Raises Refused if one of them cannot run."""
        with self._leading() as lease:
            Reconciler(self.redis, self._catalog, self.settings, lease).reconcile(schedules, datetime.now(UTC))
        if set_aside := store.unrunnable(self.redis):
            raise Refused("\n".join(f"schedule {name}: {reason}" for name, reason in set_aside.items()))

    def enqueue(self, function: str, *args: Any, **kwargs: Any) -> Enqueued:
        """Enqueue a job that calls a function. Raises Refused."""
        return self.enqueue_with({}, function, *args, **kwargs)

    def enqueue_with(self, options: dict[str, Any], function: str, *args: Any, **kwargs: Any) -> Enqueued:
        """Enqueue with options of `POST /jobs`, such as `{"delay": "5m", "retry": {"max": 2}}`. Raises Refused."""
        body = {**options, "function": function, "args": args, "kwargs": kwargs}
        answer = self.client.post("/api/v1/jobs", json=body, headers=self._headers)
        answer_body = answer.get_json()
        if answer.status_code >= 400:
            errors = [f"{error['pointer']}: {error['detail']}" for error in answer_body.get("errors", [])]
            raise Refused("\n".join([answer_body["detail"], *errors]))
        return Enqueued(answer_body["id"], self)

    def get(self, job_id: str) -> dict[str, Any]:
        """Return a job as `GET /jobs/{id}` does. Raises KeyError if it does not exist."""
        answer = self.client.get(f"/api/v1/jobs/{job_id}", headers=self._headers)
        if answer.status_code != 200:
            raise KeyError(job_id)
        job: dict[str, Any] = answer.get_json()
        return job

    @property
    def mails(self) -> list[Mail]:
        """Messages that jobs have sent with `app.author.mail`, oldest first."""
        return self._collector.mails

    @property
    def webhooks(self) -> list[Delivery]:
        """Every attempt to deliver a webhook, oldest first."""
        return self._collector.deliveries

    def answer_webhooks(self, url: str, status: int | OSError, headers: Mapping[str, str] | None = None) -> None:
        """Set the response to webhooks sent to this URL (default: 204). An OSError means no response."""
        self._collector.answer(url, WebhookResponse(status, headers or {}))

    @property
    def storage(self) -> Path:
        """The storage folder of the jobs."""
        return self.settings.storage_root

    def run(self, raise_errors: bool = False) -> None:
        """Run jobs until none is due now. With `raise_errors`, then raise the first exception of a job that failed."""
        errors: list[tuple[str, BaseException]] = []
        self._start_process()
        self._move_due()
        while in_process.run_burst(self.redis, self._queues(), errors):
            self._move_due()
        for job_id, error in errors if raise_errors else []:
            if self.get(job_id)["status"] == "failed":
                raise error

    def advance(self, *, raise_errors: bool = False, **duration: float) -> None:
        """Move the clock by a duration such as `minutes=5`, as in timedelta, and run what becomes due on the way."""
        until = time.time() + timedelta(**duration).total_seconds()
        self.run(raise_errors)
        while (due := self._next_due()) and due <= until:
            self._clock.move_to(due if due.is_integer() else due + 1e-6)  # datetime has microseconds at most
            self.run(raise_errors)
        self._clock.move_to(until)

    def _start_process(self) -> None:
        """Run the hooks of jobs/, as a worker does before its first job."""
        if not self._has_started:
            declared = self._catalog.current_hooks() if self._context is None else []
            self._process.enter_context(process_hooks(declared, context=self._context))
            self._has_started = True

    def _next_due(self) -> float | None:
        """Return when the next delayed job, retry, schedule or limit is due, in seconds since 1970."""
        now = time.time()
        keys = [*(registry_key("scheduled", name) for name in self._queues()), store.DUE_SCHEDULES]
        first_entries = [self.redis.zrangebyscore(key, f"({now}", "+inf", 0, 1, withscores=True) for key in keys]
        moments = [float(entries[0][1]) for entries in first_entries if entries] + [now + limits.sweep(self.redis)]
        return min((moment for moment in moments if now < moment < math.inf), default=None)

    def _move_due(self) -> None:
        """Do a step of the scheduler process."""
        now = datetime.now(UTC)
        with self._leading() as lease:
            runner = Runner(self.redis, self.settings, self._catalog, lease)
            runner.close_ended_runs()
            while runner.run_due(now)[0]:
                pass
        while actions.move_due(self.redis, now)[0]:
            pass
        workflows.sweep(self.redis, 0, parts=1)
        while outbox.follow_up(self.redis):
            pass
        limits.sweep(self.redis)

    @contextlib.contextmanager
    def _leading(self) -> Iterator[Lease]:
        lease = Lease(self.redis)
        lease.hold()
        yield lease
        lease.release()

    def _queues(self) -> list[str]:
        """Return all queues: first in the order of QUEUES, then the others."""
        first, existing = self.settings.queue_names, listing.queue_names(self.redis)
        return [name for name in first if name in existing] + [name for name in existing if name not in first]


def _with_api_key(settings: Settings) -> tuple[Settings, dict[str, str]]:
    """If the test sets API keys, add one to the settings, and return the request headers with it."""
    keys = settings.api_keys.get_secret_value()
    if not keys.strip():
        return settings, {}
    key, entry = api_keys.new("run_jobs", ["admin"])
    return settings.model_copy(update={"api_keys": SecretStr(f"{keys} {entry}")}), {"Authorization": f"Bearer {key}"}


@contextlib.contextmanager
def run_jobs(
    at: datetime | None = None,
    schedules: Iterable[dict[str, Any]] = (),
    settings: Mapping[str, Any] | None = None,
    allow_hosts: Collection[str] = (),
    context: Context | None = None,
) -> Iterator[Jobs]:
    """Run the service in this process, with an empty Redis, empty folders, and a clock that moves only on request.

    Args:
        at: the time of the clock; default: now.
        schedules: like SCHEDULES in scheduler.py.
        settings: settings that differ from the defaults, such as {"RESULT_TTL": 60}. The environment and `.env` are
            not read.
        allow_hosts: hosts, public or not, to which jobs may send requests. Webhooks and mail are never sent.
        context: what jobs receive as their Context; None: what the hooks `on_start` open, which are then called before
            the first job runs, and those for `on_stop` at the end.

    Raises:
        pydantic.ValidationError: names every invalid setting.
        Refused: names every schedule that cannot run.
    """
    start = at or datetime.now(UTC).replace(microsecond=0)  # RQ delays jobs to whole seconds
    with _temporary_folder() as folder:
        test_settings = make_settings(folder, settings or {}, allow_hosts)
        collector = NetworkCollector(test_settings, allow_hosts)
        with (
            override_settings(test_settings),
            override_catalog(CATALOG),
            network.replaced_by(collector),
            time_machine.travel(start, tick=False) as clock,
            contextlib.ExitStack() as process,
        ):
            process.callback(coroutines.close)
            yield Jobs(clock, schedules, test_settings, collector, process, context)


@contextlib.contextmanager
def _temporary_folder() -> Iterator[Path]:
    """Yield a temporary folder that contains a storage folder."""
    with tempfile.TemporaryDirectory(prefix="jobline-", ignore_cleanup_errors=True) as name:
        folder = Path(name).resolve()
        (folder / "storage").mkdir()
        yield folder
