"""One attempt at a job: its function is called, within its timeout, and nothing is written to Redis."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import redis
import rq
import structlog
from rq.job import _job_stack
from rq.timeouts import JobTimeoutException

from app import log as log_fields
from app import tracing
from app.redis.keys import job_key
from app.rq_adapter.rq_parts import Job
from app.rq_adapter.shared_loop import SharedLoop
from app.serializer import dumps_checked
from app.settings import get_settings
from app.worker.claimed import Claimed
from app.worker.reporter import Reporter
from app.worker.rq_worker import RqWorker

NO_SPAN = nullcontext()

log = structlog.get_logger("jobline.worker")


class JobAborted(BaseException):
    """Raised in a job whose end its worker has written already: it was stopped, or overran its timeout."""


class ResultTooLarge(Exception):
    """The result exceeds RESULT_LIMIT."""


class Attempt:
    """Runs the jobs of one place. `result` is the JSON result of the last one, None if it had none."""

    def __init__(self, worker: RqWorker, reporter: Reporter, place: int = 0) -> None:
        self.worker, self.reporter, self.place = worker, reporter, place
        self.limit = get_settings().result_limit
        self.result: bytes | None = None

    def run(self, job: Job, claimed: Claimed, timeout: int) -> BaseException | None:
        """Call the function of a job. Returns what it raised; None if it returned: see `job.outcome` and `result`."""
        self._begin(job, claimed)
        try:
            with self.worker.death_penalty_class(timeout, JobTimeoutException, job_id=job.id):
                job.outcome = self._traced(job, claimed) if tracing.is_enabled() else job._execute()
            self._keep_result(job.outcome)
        except BaseException as error:
            return error
        finally:
            self._end()
        return None

    async def run_on(self, loop: SharedLoop, job: Job, claimed: Claimed, timeout: int) -> BaseException | None:
        """Call the `async def` function of a job, on the loop. Returns as `run`."""
        self._begin(job, claimed)
        try:
            with (
                self.worker.death_penalty_class(timeout, JobTimeoutException, job_id=job.id),
                self._span(claimed) if tracing.is_enabled() else NO_SPAN,
            ):
                job.outcome = await job.execute_on(loop)
            self._keep_result(job.outcome)
        except BaseException as error:
            return error
        finally:
            self._end()
        return None

    def _traced(self, job: Job, claimed: Claimed) -> Any:
        with self._span(claimed):
            return job._execute()

    @contextmanager
    def _span(self, claimed: Claimed) -> Iterator[None]:
        """A span around the call of the function. Its trace id is in the log."""
        try:
            sent = self.worker.connection.hget(job_key(claimed.id), tracing.TRACEPARENT)
        except redis.RedisError:
            sent = None
        fields = log_fields.fields_by_place.get(self.place, {})
        attempt = fields.get("attempt", 1)
        with tracing.processing(claimed.queue, claimed.id, claimed.function, attempt, sent) as span:
            if span:
                fields["trace_id"] = tracing.trace_id(span)
            yield

    def _begin(self, job: Job, claimed: Claimed) -> None:
        self.result = None
        self.reporter.running[self.place] = claimed
        _job_stack.push(job)

    def _end(self) -> None:
        _job_stack.pop()
        del self.reporter.running[self.place]

    def _keep_result(self, outcome: Any) -> None:
        """Raises TypeError for what has no JSON form, ResultTooLarge and TooDeep."""
        if outcome is None or isinstance(outcome, rq.Retry):
            return
        dumped = dumps_checked(outcome)
        if len(dumped) > self.limit:
            raise ResultTooLarge(f"the result is {len(dumped)} bytes, RESULT_LIMIT is {self.limit}")
        self.result = dumped

    def handle_failure(self, job: Job, error: BaseException) -> tuple[str, bool]:
        """Call RQ's exception handlers. Returns the traceback, as text that UTF-8 can encode, and whether to retry."""
        try:
            self.worker.handle_exception(job, type(error), error, error.__traceback__)
        except Exception:
            log.exception("an exception handler has failed")
        text = "".join(traceback.format_exception(error)).encode(errors="replace").decode()
        return text, job.__dict__.get("retries_left") != 0  # retry_by_options has looked at the exception
