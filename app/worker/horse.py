"""The work horse: a long-lived process that runs job after job.

Plain jobs (no callbacks, RQ webhooks, group or repeats) are run here. Their starts and ends are sent to Redis and not
waited for. All other jobs are run by RQ's own methods (rq_fallback.py).
"""

import re
import resource
import socket
import sys
import threading
import time
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import redis
import rq
import structlog

from app import log
from app.author import progress
from app.catalog.catalog import function_name
from app.lifecycle import outbox, recovery
from app.lifecycle.quarantine import quarantine
from app.rq_adapter.rq_parts import NOTHING, Follows, Job, Queue, catalog
from app.settings import get_settings
from app.worker.attempt import Attempt
from app.worker.next_job import NextJob
from app.worker.prefetched import PrefetchedExecutions
from app.worker.progress_reporter import Reporter
from app.worker.redis_session import Claimed, Failed, Finished, Nothing, RedisSession
from app.worker.rq_fallback import RqFallback
from app.worker.shared_status import Leaving, SharedStatus

if TYPE_CHECKING:
    from app.worker.parent import Worker

CHECK_INTERVAL_SECONDS = 1.0  # seconds between two looks around while idle
MAX_LEFTOVER_THREADS = 32  # left behind by jobs, before a fresh horse takes over
DATE = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z")  # what rq.utils.utcparse (RQ 2.12) takes

logger = structlog.get_logger("jobline.worker")


@dataclass(frozen=True)
class Limits:
    """When a worker exits: `rq worker --burst --max-jobs --max-idle-time`."""

    burst: bool = False
    jobs: int | None = None
    idle: int | None = None
    """Seconds."""


class Horse:
    """Lives from its fork until `run` returns. `parent` is a socket: the parent writes to wake the horse."""

    def __init__(
        self, worker: "Worker", board: SharedStatus, box: PrefetchedExecutions, parent: socket.socket, limits: Limits
    ) -> None:
        self.worker, self.status_board, self.prefetched, self.parent, self.limits = worker, board, box, parent, limits
        self.settings, self.connection = get_settings(), worker.connection
        self.session = RedisSession(self.connection, worker.name, self._give_up, worker.connection_class)
        self.next_job = NextJob(worker, self.session, box, parent.fileno(), one_by_one=limits.jobs is not None)
        self.reporter = Reporter(self.connection, worker.connection_class)
        self.attempt = Attempt(worker, self.reporter)
        self.rq_fallback = RqFallback(worker, self.session, self.attempt, give_up=self._give_up)
        self.performed, self.idle_since = 0, time.monotonic()
        self.threads, self.memory = threading.active_count(), _memory()

    def run(self) -> Leaving:
        """Run jobs until there is a reason to exit; which one."""
        progress.report_to(self.reporter.update)
        try:
            return self._work()
        finally:
            progress.report_to(None)
            self.reporter.close()

    def _work(self) -> Leaving:
        leaving: Leaving | None = None
        while not leaving:
            next_one = self.next_job.next()
            found = self._wait(next_one) if isinstance(next_one, Nothing) else next_one
            if not isinstance(found, Claimed):
                leaving = found
            elif catalog().is_stale():  # the next horse runs it
                recovery.give_back(self.connection, [found.execution_id])
                leaving = Leaving.RECYCLED
            else:
                self._perform(found)
                leaving = self._reason_to_leave()
        self.session.settle()
        recovery.give_back(self.connection, self.prefetched.take_all())
        return leaving

    def _wait(self, found: Nothing) -> Claimed | Leaving | None:
        """Wait for a job or a reason to exit. None: ask for the next job again."""
        if found is Nothing.AGAIN:
            return None
        if self.limits.burst and found is not Nothing.UNLEASED:
            return Leaving.SUSPENDED if found is Nothing.SUSPENDED else Leaving.EMPTY
        self.next_job.reset_batch()
        while True:
            leaving = self._reason_to_leave()
            if leaving:
                return leaving
            self.status_board.clear()
            may_claim = found in (Nothing.EMPTY, Nothing.BUSY, Nothing.PAUSED)
            try:
                answer = self.next_job.wait(CHECK_INTERVAL_SECONDS, may_claim)
            except redis.RedisError:
                return None  # what is asked next waits for Redis
            if isinstance(answer, Claimed):
                return answer
            if not may_claim:
                return None
            found = answer
            if not self._parent_lives():
                return Leaving.STOPPED

    def _give_up(self) -> bool:
        """Whether to stop trying, while Redis is away."""
        self.status_board.clear()
        return self.status_board.stop_ordered

    def _reason_to_leave(self) -> Leaving | None:
        if self.status_board.stop_ordered:
            return Leaving.STOPPED
        if self.limits.jobs is not None and self.performed >= self.limits.jobs:
            return Leaving.ENOUGH
        if self.limits.idle is not None and time.monotonic() - self.idle_since >= self.limits.idle:
            return Leaving.IDLE
        if (
            self.performed >= self.settings.horse_jobs
            or _memory() - self.memory > self.settings.horse_growth
            or threading.active_count() - self.threads > MAX_LEFTOVER_THREADS
            or catalog().is_stale()
        ):
            return Leaving.RECYCLED
        return None

    def _parent_lives(self) -> bool:
        try:
            return self.parent.recv(64, socket.MSG_DONTWAIT) != b""
        except BlockingIOError:
            return True

    def _perform(self, claimed: Claimed) -> None:
        """Run a claimed job to its end."""
        self.performed += 1
        try:
            if claimed.data is None:
                raise ValueError("its key is no hash, or has no data")
            timeout = int(claimed.timeout or Queue.DEFAULT_TIMEOUT)
            self.status_board.show(claimed.queue, claimed.id, claimed.execution_id, timeout)
        except (ValueError, TypeError) as error:
            quarantine(self.connection, claimed.raw_id, claimed.queue, error, claimed.execution_id)
            if claimed.limits:
                self.session.releases(claimed)
            return
        now = time.time()
        self.next_job.begins(now)
        self.session.begins(claimed, now)
        log.context = {"job_id": claimed.id, "queue": claimed.queue, "attempt": int(claimed.attempts or 0) + 1}
        job = self._as_plain(claimed)
        if job is None:
            self.rq_fallback.run(claimed, now)
        else:
            self._run(job, claimed, timeout, now)
        if claimed.limits:
            self.session.releases(claimed)
        if claimed.webhook or claimed.workflow_webhook:
            self._follow_up()
        log.context = {}
        self.status_board.clear()
        self.idle_since = time.monotonic()

    def _follow_up(self) -> None:
        """Enqueue the deliveries that the end asks for. The scheduler does what is not done here."""
        try:
            self.session.settle()
            outbox.follow_up(self.connection)
        except redis.RedisError as error:
            logger.warning("what follows the job is put off", error=f"{type(error).__name__}: {error}")

    def _as_plain(self, claimed: Claimed) -> Job | None:
        """The job if it is plain, else None."""
        if (
            claimed.success_callback_name or claimed.failure_callback_name or claimed.stopped_callback_name
            or claimed.webhooks or claimed.group_id or claimed.repeats_left or claimed.result_ttl == b"0"
            or not claimed.data or not DATE.fullmatch(claimed.created_at or b"")
        ):  # fmt: skip
            return None
        try:
            call = self.worker.serializer.loads(zlib.decompress(claimed.data))
            has_followers = claimed.has_followers
            follows = Follows(claimed.workflow is not None, claimed.webhook is not None) if has_followers else NOTHING
            return Job.begun(claimed.id, self.connection, claimed.queue, call, follows)
        except (zlib.error, ValueError, TypeError):
            return None  # RQ's own way reads older forms too, and fails the rest with its reason

    def _run(self, job: Job, claimed: Claimed, timeout: int, started_at: float) -> None:
        """Run a plain job, and report its end. One that returned a `Retry` is ended RQ's own way."""
        log.context["function"] = function_name(job.func_name)
        error = self.attempt.run(job, claimed, timeout)
        ended_at = time.time()
        self.reporter.settle()
        if error is not None and not self.worker.disable_default_exception_handler:
            self._fail(job, claimed, error, started_at, ended_at)
        elif error is not None or isinstance(job.outcome, rq.Retry):
            self.rq_fallback.end(job, claimed, started_at, error)
        else:
            ttl = int(claimed.result_ttl) if claimed.result_ttl else self.worker.default_result_ttl
            self.session.ended(Finished(claimed, self.attempt.result, ttl, started_at, ended_at))
            logger.info("job finished", seconds=round(ended_at - started_at, 6))

    def _fail(self, job: Job, claimed: Claimed, error: BaseException, started_at: float, ended_at: float) -> None:
        """Report an attempt that raised: the job is retried, or a dead letter."""
        logger.warning("job failed", error=log.safe_repr(error))
        text, may_retry = self.attempt.handle_failure(job, error)
        self.session.failed(Failed(claimed, text, may_retry, job.retry_after, started_at, ended_at))


def _memory() -> int:
    """Peak memory of this process, in bytes."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most
