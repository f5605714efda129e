"""The work horse: one long-lived process that runs job after job, and nothing else.

A plain job (no callbacks, webhooks, group or repeats) is run here, and its beginning and its end are sent to Redis
and not waited for; every other takes RQ's own `perform_job`.
"""

import re
import resource
import socket
import sys
import threading
import time
import traceback
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import redis
import rq
import structlog
from rq.exceptions import NoSuchJobError
from rq.executions import Execution
from rq.job import _job_stack
from rq.timeouts import JobTimeoutException
from rq.worker import DequeueStrategy

from app import log, recovery
from app.catalog import name_of
from app.quarantine import quarantine
from app.redis import registry_key
from app.rq_parts import Job, Queue, catalog
from app.serializer import JSON
from app.settings import get_settings
from app.worker.bells import Bells
from app.worker.board import Board, Leaving
from app.worker.box import Box
from app.worker.claims import Claimed, Claims, Finished, Nothing, new_execution, stamp

if TYPE_CHECKING:
    from app.worker.parent import Worker

LOOK_EVERY = 1.0  # seconds between two looks around while idle
MOST_AT_ONCE = 16  # jobs claimed in one round trip
BATCH_TIME = 0.005  # seconds
FEW = 8  # jobs left of a batch when the next is claimed
MOST_THREADS = 32  # left behind by jobs, before a fresh horse takes over
DATE = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z")  # what rq.utils.utcparse (RQ 2.12) takes

logger = structlog.get_logger("jobline.worker")


class ResultTooLarge(Exception):
    """The result exceeds RESULT_LIMIT."""


@dataclass(frozen=True)
class Limits:
    """When a worker has done enough: `rq worker --burst --max-jobs --max-idle-time`."""

    burst: bool = False
    jobs: int | None = None
    idle: int | None = None
    """Seconds."""


class Horse:
    """Lives from its fork until `run` returns. `parent` is the line on which its parent rings, and breaks off."""

    def __init__(self, worker: "Worker", board: Board, box: Box, parent: socket.socket, limits: Limits) -> None:
        self.worker, self.board, self.box, self.parent, self.limits = worker, board, box, parent, limits
        self.settings, self.connection = get_settings(), worker.connection
        self.queues = {queue.name: queue for queue in worker.queues}
        self.claims = Claims(self.connection, worker.name, give_up=self._give_up)
        self.bells = Bells(self.connection, self.claims, list(self.queues), parent.fileno())
        self.performed, self.idle_since = 0, time.monotonic()
        self.stowed: dict[str, Claimed] = {}
        self.asked_ahead = False
        self.batch, self.pace, self.began_at = 1, BATCH_TIME, 0.0  # seconds from one job's beginning to the next
        self.threads, self.memory = threading.active_count(), _memory()

    def run(self) -> Leaving:
        """Work until there is a reason to leave."""
        leaving: Leaving | None = None
        while not leaving:
            claimed = self._take() or self._claim()
            if isinstance(claimed, Leaving):
                leaving = claimed
            elif claimed:
                self._perform(claimed)
                leaving = self._reason_to_leave()
        self.claims.settle()
        recovery.give_back(self.connection, self.box.take_all())
        return leaving

    def _take(self) -> Claimed | None:
        """The next of those that were claimed together, unless the parent has taken it to give it back."""
        while self.stowed or self.asked_ahead:
            execution_id = self.box.take()
            if execution_id is None:
                self.stowed, self.batch = {}, 1
                self.claims.claimed_ahead()  # the parent has given them back
                self.asked_ahead = False
            elif execution_id in self.stowed:
                return self.stowed.pop(execution_id)
            elif self.asked_ahead:
                self.asked_ahead = False
                self.stowed = {claimed.execution_id: claimed for claimed in self.claims.claimed_ahead()}
                if execution_id in self.stowed:
                    return self.stowed.pop(execution_id)
        return None

    def _claim(self) -> Claimed | Leaving | None:
        """The first of some jobs, of which the others are kept for `_take`; or a reason to leave."""
        found = self.claims.claim(self._order(), self._how_many())
        waited = self._wait(found) if isinstance(found, Nothing) else found
        if not isinstance(waited, list):
            return waited
        if catalog().stale():  # changed while it waited: the next horse runs them
            recovery.give_back(self.connection, [claimed.execution_id for claimed in waited])
            return Leaving.RECYCLED
        self.worker.reorder_queues(self.queues[waited[0].queue])
        if len(waited) > 1:
            self.stowed = {claimed.execution_id: claimed for claimed in waited[1:]}
            self.box.put(list(self.stowed))
        return waited[0]

    def _claim_ahead(self) -> None:
        """While the last few of a batch run, the next is claimed; it lies in the box like any other."""
        if self.batch == MOST_AT_ONCE and len(self.stowed) == FEW and not self.asked_ahead:
            executions = [new_execution() for _ in range(self._how_many())]
            self.claims.claim_ahead(self._order(), executions)
            self.box.put(executions)
            self.asked_ahead = True

    def _wait(self, found: Nothing) -> list[Claimed] | Leaving | None:
        """Until a job is queued, and so is claimed; None: claim again. An idle horse claims by its bells alone."""
        if self.limits.burst and found is not Nothing.UNLEASED:
            return Leaving.SUSPENDED if found is Nothing.SUSPENDED else Leaving.EMPTY
        self.batch, self.pace, self.began_at = 1, BATCH_TIME, 0.0
        while True:
            leaving = self._reason_to_leave()
            if leaving:
                return leaving
            self.board.clear()
            may_claim = found in (Nothing.EMPTY, Nothing.BUSY)
            try:
                answer = self.bells.wait(LOOK_EVERY, self._order() if may_claim else [])
            except redis.RedisError:
                return None  # the next claim waits for Redis
            if isinstance(answer, list):
                return answer
            if not may_claim:
                return None
            found = answer
            if not self._parent_lives():
                return Leaving.STOPPED

    def _how_many(self) -> int:
        """One, and more while jobs prove so short that a batch of them is over in BATCH_TIME."""
        if self.limits.jobs is not None or self.worker._dequeue_strategy != DequeueStrategy.DEFAULT:
            return 1
        self.batch = max(1, min(2 * self.batch, MOST_AT_ONCE, int(BATCH_TIME / self.pace)))
        return min(self.batch, max(1, self.settings.horse_jobs - self.performed))

    def _give_up(self) -> bool:
        """Asked while Redis is away."""
        self.board.clear()
        return self.board.stop_ordered

    def _order(self) -> list[str]:
        return [queue.name for queue in self.worker._ordered_queues]

    def _reason_to_leave(self) -> Leaving | None:
        if self.board.stop_ordered:
            return Leaving.STOPPED
        if self.limits.jobs is not None and self.performed >= self.limits.jobs:
            return Leaving.ENOUGH
        if self.limits.idle is not None and time.monotonic() - self.idle_since >= self.limits.idle:
            return Leaving.IDLE
        if (
            self.performed >= self.settings.horse_jobs
            or _memory() - self.memory > self.settings.horse_growth
            or threading.active_count() - self.threads > MOST_THREADS
            or catalog().stale()
        ):
            return Leaving.RECYCLED
        return None

    def _parent_lives(self) -> bool:
        try:
            return self.parent.recv(64, socket.MSG_DONTWAIT) != b""
        except BlockingIOError:
            return True

    def _perform(self, claimed: Claimed) -> None:
        """Run a job, and see to its end."""
        self.performed += 1
        try:
            if claimed.data is None:
                raise ValueError("its key is no hash, or has no data")
            claimed.id = claimed.raw_id.decode()
            timeout = int(claimed.timeout or Queue.DEFAULT_TIMEOUT)
            self.board.show(claimed.queue, claimed.id, claimed.execution_id, timeout)
        except ValueError as error:  # UnicodeDecodeError is one
            quarantine(self.connection, claimed.raw_id, claimed.queue, error, claimed.execution_id)
            return
        now = time.time()
        if self.began_at:
            self.pace += (max(1e-6, now - self.began_at) - self.pace) / 4
        self.began_at = now
        self._claim_ahead()
        self.claims.begins(claimed, stamp(now))
        log.about = {"job_id": claimed.id, "queue": claimed.queue, "attempt": int(claimed.attempts or 0) + 1}
        job = self._plain(claimed)
        if job is None or not self._run(job, claimed, timeout, now):
            self._end_as_rq(claimed, now, job)
        log.about = {}
        self.board.clear()
        self.idle_since = time.monotonic()

    def _plain(self, claimed: Claimed) -> Job | None:
        """The job, if it needs nothing of RQ but to be run."""
        if (
            claimed.success_callback or claimed.failure_callback or claimed.stopped_callback
            or claimed.webhooks or claimed.group_id or claimed.repeats_left or claimed.result_ttl == b"0"
            or not claimed.data or not DATE.fullmatch(claimed.created_at or b"")
        ):  # fmt: skip
            return None
        try:
            call = JSON.loads(zlib.decompress(claimed.data))
            return Job.begun(claimed.id, self.connection, claimed.queue, call)
        except (zlib.error, ValueError, TypeError):
            return None  # RQ's own way reads older forms too, and fails the rest with its reason

    def _run(self, job: Job, claimed: Claimed, timeout: int, started_at: float) -> bool:
        """Whether it succeeded; else RQ's own way follows."""
        _job_stack.push(job)
        try:
            log.about["function"] = name_of(job.func_name)
            with self.worker.death_penalty_class(timeout, JobTimeoutException, job_id=job.id):
                job.outcome = job._execute()
            if isinstance(job.outcome, rq.Retry):
                return False
            result = None if job.outcome is None else self._dumped(job.outcome)
        except BaseException as error:
            job.outcome = error
            return False
        finally:
            _job_stack.pop()
        ended_at = time.time()
        ttl = int(claimed.result_ttl) if claimed.result_ttl else self.worker.default_result_ttl
        self.claims.ended(Finished(claimed, result, ttl, started_at, ended_at))
        logger.info("job finished", seconds=round(ended_at - started_at, 6))
        return True

    def _dumped(self, result: Any) -> bytes:
        """Raises TypeError for what has no JSON form, and ResultTooLarge."""
        dumped = JSON.dumps(result)
        if len(dumped) > self.settings.result_limit:
            raise ResultTooLarge(f"the result is {len(dumped)} bytes, RESULT_LIMIT is {self.settings.result_limit}")
        return dumped

    def _end_as_rq(self, claimed: Claimed, begun_at: float, job: Job | None) -> None:
        """All that is not a plain success: RQ ends the job that ran, or runs the one that is not plain."""
        try:
            self.claims.settle()  # RQ writes on another connection
            self.worker.execution = Execution(claimed.execution_id, claimed.id, self.connection, self.worker.name)
            self.worker.execution.created_at = started_at = datetime.fromtimestamp(begun_at, UTC)
            if job is None:
                self._run_as_rq(claimed)
            elif isinstance(job.outcome, rq.Retry):
                self._retry(job, claimed, started_at)
            else:
                self._fail(job, claimed, started_at)
        except NoSuchJobError:
            logger.warning("deleted while it ran")
        except redis.RedisError as error:
            logger.warning("redis does not take its end", error=str(error))
        except Exception as error:
            logger.exception("unreadable job", job_id=claimed.id)
            quarantine(self.connection, claimed.raw_id, claimed.queue, error, claimed.execution_id)
        self._make_sure(claimed)

    def _run_as_rq(self, claimed: Claimed) -> None:
        job = self.worker.job_class.fetch(claimed.id, connection=self.connection, serializer=self.worker.serializer)
        log.about["function"] = name_of(job.func_name)
        self.worker.perform_job(job, self.queues[claimed.queue])

    def _fail(self, job: Job, claimed: Claimed, started_at: datetime) -> None:
        """As the end of rq.Worker.perform_job (RQ 2.12) for a job without callbacks."""
        error, queue = job.outcome, self.queues[claimed.queue]
        exc_info = (type(error), error, error.__traceback__)
        logger.warning("job failed", error=repr(error))
        job.started_at = started_at
        self.worker.handle_execution_ended(job, queue, job.failure_callback_timeout)
        self.worker.handle_exception(job, *exc_info)
        exc_string = "".join(traceback.format_exception(*exc_info))
        self.worker.handle_job_failure(job=job, queue=queue, exc_string=exc_string)

    def _retry(self, job: Job, claimed: Claimed, started_at: datetime) -> None:
        queue = self.queues[claimed.queue]
        job.started_at = started_at
        self.worker.handle_execution_ended(job, queue, job.success_callback_timeout)
        self.worker.handle_job_retry(
            job, queue, job.outcome, queue.started_job_registry, execution=self.worker.execution
        )

    def _make_sure(self, claimed: Claimed) -> None:
        """RQ's ways end a job with several writes, and swallow their failure: see that it has ended, or recover it."""
        member = f"{claimed.id}:{claimed.execution_id}"
        while True:
            try:
                if self.connection.zscore(registry_key("wip", claimed.queue), member) is not None:
                    recovery.recover(
                        self.connection, claimed.queue, claimed.id, claimed.execution_id,
                        "Redis did not take its end", recovery.policy,
                    )  # fmt: skip
            except redis.RedisError:
                if self._give_up():
                    raise
                time.sleep(LOOK_EVERY)
            else:
                return


def _memory() -> int:
    """The most memory that this process has had, in bytes."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most
