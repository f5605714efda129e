"""The work horse: a long-lived process that runs job after job. It sends starts and ends, and waits for no answer."""

import resource
import socket
import sys
import threading
import time
from dataclasses import dataclass

import redis
import structlog

from app.author import progress
from app.lifecycle import recovery
from app.lifecycle.quarantine import quarantine
from app.rq_adapter.rq_parts import Queue, catalog
from app.settings import get_settings
from app.worker.claimed import Claimed, Nothing
from app.worker.job_output import captured
from app.worker.job_runner import JobRunner
from app.worker.next_job import NextJob
from app.worker.prefetched import PrefetchedExecutions
from app.worker.redis_session import RedisSession
from app.worker.reporter import Reporter
from app.worker.rq_worker import RqWorker
from app.worker.shared_status import Leaving, SharedStatus
from app.worker.timeouts import Alarm

CHECK_INTERVAL_SECONDS = 1.0  # seconds between two looks around while idle
GROWTH_CHECK_INTERVAL_SECONDS = 0.005  # seconds between two looks at what jobs change in this process
MAX_LEFTOVER_THREADS = 32  # left behind by jobs, before a fresh horse takes over

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
        self,
        worker: RqWorker,
        board: SharedStatus,
        box: PrefetchedExecutions,
        parent: socket.socket,
        limits: Limits,
        number: int = 0,
    ) -> None:
        """`number`: how many horses the worker has had before."""
        self.worker, self.status_board, self.prefetched, self.parent, self.limits = worker, board, box, parent, limits
        self.settings, self.connection = get_settings(), worker.connection
        self.session = RedisSession(
            self.connection, worker.name, self._give_up, worker.connection_class, number, board.counters
        )
        self.next_job = NextJob(worker, self.session, box, parent.fileno(), one_by_one=limits.jobs is not None)
        self.reporter = Reporter(self.connection, worker.connection_class)
        self.runner = JobRunner(worker, self.session, self.reporter, give_up=self._give_up)
        self.performed, self.idle_since = 0, time.monotonic()
        self.threads = self.memory = 0
        """Number of threads, and peak memory in bytes, before the first job. Growth has the horse replaced."""
        self._next_growth_check_at = 0.0

    def run(self) -> Leaving:
        """Run jobs until there is a reason to exit; which one."""
        progress.report_to(self.reporter.update)
        self.threads, self.memory = threading.active_count(), _memory()
        Alarm.is_installed = False
        try:
            with captured(self.reporter, self.settings):
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
        if self.performed >= self.settings.horse_jobs or self._is_spent():
            return Leaving.RECYCLED
        return None

    def _is_spent(self) -> bool:
        """Whether a fresh horse should take over. Looks every GROWTH_CHECK_INTERVAL_SECONDS: short jobs cost less."""
        now = time.monotonic()
        if now < self._next_growth_check_at:
            return False
        self._next_growth_check_at = now + GROWTH_CHECK_INTERVAL_SECONDS
        Alarm.is_installed = False  # a job may have installed a handler of its own
        return (
            _memory() - self.memory > self.settings.horse_growth
            or threading.active_count() - self.threads > MAX_LEFTOVER_THREADS
            or catalog().is_stale()
        )

    def _parent_lives(self) -> bool:
        try:
            return self.parent.recv(64, socket.MSG_DONTWAIT) != b""
        except BlockingIOError:
            return True

    def _show(self, claimed: Claimed, place: int = 0) -> int | None:
        """Show a claimed job as running. Returns its timeout in seconds; None: unreadable, and quarantined."""
        try:
            if claimed.data is None:
                raise ValueError("its key is no hash, or has no data")
            timeout = int(claimed.timeout or Queue.DEFAULT_TIMEOUT)
            self.status_board.show(claimed.queue, claimed.id, claimed.execution_id, timeout, place)
        except (ValueError, TypeError) as error:
            quarantine(self.connection, claimed.raw_id, claimed.queue, error, claimed.execution_id)
            if claimed.limits:
                self.session.releases(claimed)
            return None
        return timeout

    def _perform(self, claimed: Claimed) -> None:
        """Run a claimed job to its end."""
        self.performed += 1
        timeout = self._show(claimed)
        if timeout is None:
            return
        now = time.time()
        self.next_job.begins(now)
        self.session.begins(claimed, now)
        self.runner.run(claimed, timeout, now)
        self.status_board.clear()
        self.idle_since = time.monotonic()


def _memory() -> int:
    """Peak memory of this process, in bytes."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most
