"""Run a claimed job and report its end.

Plain jobs (no callbacks, RQ webhooks, group or repeats) are run here. Their ends are sent to Redis and not waited for.
All other jobs are run by RQ's own methods (rq_fallback.py).
"""

import re
import time
import zlib
from collections.abc import Callable

import redis
import rq
import structlog

from app import log
from app.author import progress
from app.catalog.catalog import function_name
from app.lifecycle import outbox
from app.redis.hash_values import int_of
from app.rq_adapter.rq_parts import NOTHING, Follows, Job
from app.rq_adapter.shared_loop import SharedLoop
from app.worker.attempt import Attempt, JobAborted
from app.worker.claimed import Claimed, Failed, Finished, Reports
from app.worker.reporter import Reporter
from app.worker.rq_fallback import RqFallback
from app.worker.rq_worker import RqWorker

DATE = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z")  # what rq.utils.utcparse (RQ 2.12) takes

logger = structlog.get_logger("jobline.worker")


class JobRunner:
    """Runs the jobs of one place in a work horse, one after the other."""

    def __init__(
        self, worker: RqWorker, reports: Reports, reporter: Reporter, give_up: Callable[[], bool], place: int = 0
    ) -> None:
        """`give_up` is asked, while Redis is away, whether to stop trying; `place`: see app/author/place.py."""
        self.worker, self.reports, self.reporter, self.place = worker, reports, reporter, place
        self.connection = worker.connection
        self.attempt = Attempt(worker, reporter, place)
        self.rq_fallback = RqFallback(worker, reports, self.attempt, give_up)

    def run(self, claimed: Claimed, timeout: int, started_at: float, job: Job | None = None) -> None:
        """Run a job whose start has been reported, and report its end. `job` is what `as_plain` says, if known."""
        self._begin(claimed)
        job = job or self.as_plain(claimed)
        if job is None:
            self.rq_fallback.run(claimed, started_at)
            self._end(claimed)
        else:
            claimed.function = log.fields_by_place[self.place]["function"] = function_name(job.func_name)
            error = self.attempt.run(job, claimed, timeout)
            self.finish(job, claimed, error, started_at)

    async def run_on(self, loop: SharedLoop, job: Job, claimed: Claimed, timeout: int) -> BaseException | None:
        """Run a plain job of an `async def` function on the loop. Returns what it raised. Call `finish` then."""
        self._begin(claimed)
        claimed.function = log.fields_by_place[self.place]["function"] = function_name(job.func_name)
        return await self.attempt.run_on(loop, job, claimed, timeout)

    def finish_waits(self, job: Job, claimed: Claimed, error: BaseException | None) -> bool:
        """Whether `finish` may wait for Redis."""
        return bool(
            error or claimed.has_followers or isinstance(job.outcome, rq.Retry) or self.reporter.has_unsent(claimed)
        )

    def finish(self, job: Job, claimed: Claimed, error: BaseException | None, started_at: float) -> None:
        """Report the end of a plain job that has run."""
        self._report(job, claimed, error, started_at, time.time())
        self._end(claimed)

    def _begin(self, claimed: Claimed) -> None:
        attempt = (int_of(claimed.attempts) or 0) + 1
        log.fields_by_place[self.place] = {"job_id": claimed.id, "queue": claimed.queue, "attempt": attempt}

    def _end(self, claimed: Claimed) -> None:
        if claimed.limits:
            self.reports.releases(claimed)
        if claimed.webhook or claimed.workflow_webhook:
            self._follow_up()
        log.fields_by_place[self.place] = {}
        if progress.latest:
            progress.latest.pop(claimed.id, None)

    def _follow_up(self) -> None:
        """Enqueue the deliveries that the end asks for. The scheduler does what is not done here."""
        try:
            self.reports.settle()
            outbox.follow_up(self.connection)
        except redis.RedisError as error:
            logger.warning("what follows the job is put off", error=f"{type(error).__name__}: {error}")

    def as_plain(self, claimed: Claimed) -> Job | None:
        """The job if it is plain, else None."""
        if (
            claimed.success_callback_name or claimed.failure_callback_name or claimed.stopped_callback_name
            or claimed.webhooks or claimed.group_id or claimed.repeats_left or claimed.result_ttl == b"0"
            or not claimed.data or not DATE.fullmatch(claimed.created_at or b"")
        ):  # fmt: skip
            return None
        try:
            follows = NOTHING
            if claimed.has_followers:
                follows = Follows(claimed.workflow is not None, claimed.webhook is not None)
            return Job.begun(claimed.id, self.connection, claimed.queue, claimed.call(), follows)
        except (zlib.error, ValueError, TypeError):
            return None  # RQ's own way reads older forms too, and fails the rest with its reason

    def _report(
        self, job: Job, claimed: Claimed, error: BaseException | None, started_at: float, ended_at: float
    ) -> None:
        """A job that returned a `Retry` is ended RQ's own way."""
        if isinstance(error, JobAborted):
            return
        if self.reporter.is_used:
            self.reporter.settle(claimed)
        if error is not None and not self.worker.disable_default_exception_handler:
            self._fail(job, claimed, error, started_at, ended_at)
        elif error is not None or isinstance(job.outcome, rq.Retry):
            self.rq_fallback.end(job, claimed, started_at, error)
        else:
            ttl = int(claimed.result_ttl) if claimed.result_ttl else self.worker.default_result_ttl
            self.reports.ended(Finished(claimed, self.attempt.result, ttl, started_at, ended_at))
            logger.info("job finished", seconds=round(ended_at - started_at, 6))

    def _fail(self, job: Job, claimed: Claimed, error: BaseException, started_at: float, ended_at: float) -> None:
        """Report an attempt that raised: the job is retried, or a dead letter."""
        logger.warning("job failed", error=log.safe_repr(error))
        text, may_retry = self.attempt.handle_failure(job, error)
        self.reports.failed(Failed(claimed, text, may_retry, job.retry_after, started_at, ended_at))
