"""Monitor one work horse: renew its lease, enforce timeouts, give back what it cannot begin, recover what it held."""

import contextlib
import math
import time
from collections.abc import Callable
from datetime import UTC, datetime

import redis
import structlog
from rq import worker_registration
from rq.exceptions import NoSuchJobError
from rq.worker import WorkerStatus

from app.lifecycle import recovery
from app.lifecycle.executions import Execution, held_by
from app.lifecycle.lost_workers import LEASE_RENEWAL_SECONDS
from app.lifecycle.recovery import EXECUTION_TTL_SECONDS, Outcome, Raw
from app.metrics.shared_counters import CountersReader
from app.redis.client import rq_timestamp
from app.redis.scripts import Script
from app.rq_adapter.rq_parts import Job
from app.settings import get_settings
from app.worker.horse_process import HorseProcess, Life, why
from app.worker.rq_worker import RqWorker
from app.worker.shared_status import Leaving, Running
from app.worker.wake import Wake

METRICS_INTERVAL_SECONDS = 1.0  # between two looks at what the horse has counted
METRICS_RETRY_SECONDS = 10.0
CHECK_INTERVAL_SECONDS = 1.0  # seconds
HELD_UP_AFTER_SECONDS = 0.01  # seconds without a move, and what the horse has claimed and not begun is given back
LAST_REPORT_WAIT_SECONDS = 0.02  # seconds for what a dead horse had sent to arrive
STALLED_AFTER_SECONDS = 15.0  # seconds; an idle horse that has not moved for so long is replaced

BEAT = Script("worker/beat")

log = structlog.get_logger("jobline.worker")

Decision = Callable[[Raw], Outcome]


def by_policy_as_begun(job: Raw) -> Outcome:
    return recovery.policy({**job, b"status": b"started"})


def returned(_: Raw) -> Outcome:
    return Outcome.RETURNED


def stopped(_: Raw) -> Outcome:
    return Outcome.STOPPED


class HorseMonitor:
    """The parent's side of one horse. The constructor forks it; `step` says when it has ended and holds nothing."""

    def __init__(self, worker: RqWorker, wake: Wake, life: Life, places: int = 1, number: int = 0) -> None:
        """`places`: how many jobs the horse runs at once; `number`: how many horses the worker has had before."""
        self.worker, self.wake, self.connection = worker, wake, worker.connection
        self.number, self.has_successor = number, False
        self._beat_at = self._count_at = 0.0
        self._decision: tuple[str, Decision] | None = None
        self._grace_ends_at = 0.0
        self._unheld = set[str]()
        """Executions that were not this worker's at the last beat."""
        self._cut_off = dict[str, float]()
        """Maps each execution that was ended by force to the deadline (time.monotonic) for its job to stop."""
        self._is_concurrent, self._is_deaf = places > 1, False
        self._executions_to_return: dict[str, int] = {}  # executions, and how many times still
        self.returned = 0
        """Number of jobs that may be back in their queues. The horse may have left because it saw these empty."""
        self.horse = HorseProcess(life, places)
        self._usage = worker.usage
        self._counters = CountersReader(self.horse.status_board.counters)

    @property
    def leaving(self) -> Leaving:
        return self.horse.status_board.leaving

    def stop(self, job_id: str) -> bool:
        """Stop a job, as RQ's command stop-job. Returns whether the horse runs it. Raises redis.RedisError."""
        running = [] if self.horse.settled else self.horse.status_board.running
        job = next((job for job in running if job.job_id == job_id), None)
        if job:
            self._kill(job, "Job stopped by user, work-horse terminated.", stopped)
        return job is not None

    @property
    def begun(self) -> int:
        """How many jobs the horse has begun."""
        return self.horse.status_board.begun

    @property
    def may_be_succeeded(self) -> bool:
        """Whether it claims no more jobs, and another horse may do so while its jobs end."""
        return self._is_concurrent and (self._is_deaf or self.leaving is Leaving.RECYCLED)

    def step(self) -> bool:
        """Do what is due. Returns whether the horse has ended, and what it held is recovered."""
        if self.horse.ended():
            self._settle()
            return True
        now = time.monotonic()
        self._act_on_requests()
        try:
            self._give_back()
            if now >= self._beat_at:
                self._beat_at = now + LEASE_RENEWAL_SECONDS
                self._beat()
            self._enforce_limits()
            self.worker.sweeper.sweep()
            if self.worker.should_run_maintenance_tasks:
                self.worker.run_maintenance_tasks()
        except redis.RedisError as error:
            log.warning("redis is away", error=f"{type(error).__name__}: {error}")
        self._write_metrics(now)
        return False

    def _write_metrics(self, now: float) -> None:
        if now >= self._count_at:
            self._count_at = now + METRICS_INTERVAL_SECONDS
            try:
                self._counters.write(self.connection)
            except redis.RedisError as error:
                log.warning("metrics are put off", error=f"{type(error).__name__}: {error}")
                self._count_at = now + METRICS_RETRY_SECONDS

    def end(self) -> None:
        """Kill the work horse, and give its running job back to its queue."""
        if not self.horse.settled:
            self._decision = ("the worker was stopped", returned)
            self.horse.kill()
            self.horse.wait()
            self._settle()

    def sleep(self) -> None:
        """Sleep until something happens, for CHECK_INTERVAL_SECONDS at most.

        Gives prefetched jobs back as soon as the horse is held up by its job.
        """
        until = time.monotonic() + CHECK_INTERVAL_SECONDS
        while self.wake.wait(until - time.monotonic(), self.horse.prefetched.fileno()):
            ticks, until_move = self.horse.status_board.ticks, time.monotonic() + HELD_UP_AFTER_SECONDS
            self.wake.wait(HELD_UP_AFTER_SECONDS)
            if self.horse.status_board.ticks == ticks and time.monotonic() >= until_move:
                self._take_prefetched()
                return
            if time.monotonic() >= until:
                return

    def _act_on_requests(self) -> None:
        horse = self.horse
        if not self.worker.stop_requested:
            return
        if not horse.status_board.stop_ordered:
            horse.order_to_stop()
            self._grace_ends_at = time.monotonic() + get_settings().shutdown_grace
            with contextlib.suppress(redis.RedisError):
                self.worker.set_shutdown_requested_date()
        elif time.monotonic() >= self._grace_ends_at:
            log.warning("SHUTDOWN_GRACE is over", job_ids=[job.job_id for job in horse.status_board.running])
            self._decision = ("SHUTDOWN_GRACE is over", returned)
            horse.kill()

    def _beat(self) -> None:
        worker, now = self.worker, datetime.now(UTC)
        running = [job for job in self.horse.status_board.running if job.execution_id not in self._cut_off]
        moves = (running and not self._is_concurrent) or self.horse.seconds_since_move() < 2 * LEASE_RENEWAL_SECONDS
        jobs = [(job.queue, job.job_id, job.execution_id, time.monotonic() - job.since) for job in running]
        known, *held = BEAT(
            self.connection,
            [word for job in jobs for word in job],
            worker=worker.name,
            now=rq_timestamp(now),
            worker_kept=worker.worker_ttl + 60,
            horse_moves=int(bool(moves)),
            now_seconds=now.timestamp(),
            execution_kept=EXECUTION_TTL_SECONDS,
            **self._usage.read(self.horse.pid),
        )
        worker.last_heartbeat = now
        if not known:
            with self.connection.pipeline() as pipeline:
                pipeline.hset(worker.key, mapping=worker.serialize())
                worker_registration.register(worker, pipeline)
                pipeline.execute()
        lost = [job for job, is_held in zip(running, held, strict=True) if not is_held]
        for job in lost:
            if job.execution_id in self._unheld:  # twice: it may just have ended
                self._kill(job, "it was taken from this worker", returned)
        self._unheld = {job.execution_id for job in lost}

    def _enforce_limits(self) -> None:
        running, grace, now = self.horse.status_board.running, get_settings().timeout_grace, time.monotonic()
        for job in running:
            if job.timeout > 0 and now > job.since + job.timeout + grace and job.execution_id not in self._cut_off:
                reason = f"JobTimeoutException: killed: it did not end within {grace} s of its timeout, {job.timeout} s"
                self._kill(job, reason, recovery.as_a_failure)
        if not running and self.horse.seconds_since_move() > STALLED_AFTER_SECONDS:
            log.error("the work horse does not move: it is replaced")
            self.horse.kill()
        self._replace_if_deaf({job.execution_id for job in running}, now)

    def _kill(self, job: Running, reason: str, decision: Decision) -> None:
        """End a job by force. Where others run beside it, its end is written and it is asked to abort."""
        if not self._is_concurrent:
            if self.horse.kill_if_running(job):
                self._decision = (reason, decision)
            return
        execution = Execution(job.queue, job.job_id, job.execution_id)
        recovery.recover(self.connection, execution, reason, decision)
        self._cut_off[job.execution_id] = time.monotonic() + get_settings().timeout_grace
        self.horse.abort(job)

    def _replace_if_deaf(self, running: set[str], now: float) -> None:
        """Replace the horse if a job goes on after its end: others have SHUTDOWN_GRACE, and then are given back."""
        self._cut_off = {execution: until for execution, until in self._cut_off.items() if execution in running}
        if self._grace_ends_at == 0.0 and any(now > until for until in self._cut_off.values()):
            log.warning("a job cannot be stopped: the work horse is replaced")
            self._is_deaf = True
            self.horse.order_to_stop()
            self._grace_ends_at = now + get_settings().shutdown_grace
        others = running - self._cut_off.keys()
        if self._cut_off and self._grace_ends_at and (not others or now > self._grace_ends_at):
            self._decision = ("another job of its work horse could not be stopped", returned)
            self.horse.kill()

    def _settle(self) -> None:
        """Recover what the ended horse held. Tries again while Redis is away."""
        time.sleep(LAST_REPORT_WAIT_SECONDS)
        while not self.horse.settled:
            try:
                if not self.has_successor:
                    recovery.fence(self.connection, self.worker.name)  # nothing is claimed for it any more
                self._recover()
                if not self.has_successor:
                    self.worker.set_current_job_id(None)
                    self.worker.set_state(WorkerStatus.IDLE)
                self._write_metrics(math.inf)
                self.horse.close()
            except redis.RedisError as error:
                log.warning("redis is away", error=f"{type(error).__name__}: {error}")
                if self.worker.stop_requested:
                    return  # its lease runs out, and another worker recovers the job
                self.wake.wait(CHECK_INTERVAL_SECONDS)

    def _recover(self) -> None:
        horse, running = self.horse, {job.execution_id for job in self.horse.status_board.running}
        reason, decision = self._decision or (
            f"WorkHorseTerminated: Work-horse terminated unexpectedly; {why(horse.status or 0)}",
            by_policy_as_begun,
        )
        self._take_prefetched()
        self._give_back()
        for execution in held_by(self.connection, self.worker.name, self.number):
            if execution.id in running:
                with contextlib.suppress(NoSuchJobError):
                    job = Job.fetch(execution.job_id, connection=self.connection)
                    self.worker.handle_work_horse_killed(job, horse.pid, horse.status, None)
                recovery.recover(self.connection, execution, reason, decision)
                self.worker.increment_failed_job_count()
            else:  # not begun; or ended, and its end was lost on the way
                recovery.recover(self.connection, execution, recovery.LOST, recovery.policy)
            self.returned += 1

    def _take_prefetched(self) -> None:
        self._executions_to_return |= dict.fromkeys(self.horse.prefetched.take_all(), 2)

    def _give_back(self) -> None:
        """Give back what the horse claimed and did not begin. Twice, because a claim may still have been under way."""
        self.returned += recovery.give_back(self.connection, list(self._executions_to_return))
        self._executions_to_return = {
            execution: times - 1 for execution, times in self._executions_to_return.items() if times > 1
        }
