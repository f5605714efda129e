"""The worker process that `rq worker` starts: it never runs job code, and keeps one work horse at work.

It beats for the worker and its job, listens to commands, enforces the hard limit, sweeps after workers that died, and
recovers its own horse's job at once when the horse dies. RQ 2.12's `work` is replaced; all of its hooks are kept.
"""

import contextlib
import random
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import redis
import rq
import structlog
from rq import worker_registration
from rq.command import parse_payload
from rq.defaults import DEFAULT_LOGGING_DATE_FORMAT, DEFAULT_LOGGING_FORMAT
from rq.executions import Execution
from rq.timeouts import UnixSignalDeathPenalty
from rq.utils import utcformat
from rq.worker import DequeueStrategy

from app import recovery
from app.recovery import RENEW_EVERY, SWEEP_EVERY, Outcome, Raw, Sweeper
from app.redis import LEASES, registry_key, script
from app.rq_parts import Job, Queue, catalog
from app.serializer import JSON
from app.settings import get_settings
from app.worker.board import Board, Leaving, Running
from app.worker.box import Box
from app.worker.claims import KEEP
from app.worker.horse import Horse, Limits
from app.worker.process import HorseProcess, why

LOOK_EVERY = 1.0  # seconds
HELD_UP_AFTER = 0.01  # seconds without a move, and what the horse has claimed and not begun is given back
LAST_WORDS = 0.02  # seconds for what a dead horse had sent to arrive
STILL_AFTER = 15.0  # an idle horse that has not moved for so long is replaced
LONGEST_BACKOFF = 10.0  # before a horse is replaced that has not begun a job

log = structlog.get_logger("jobline.worker")


class Alarm(UnixSignalDeathPenalty):
    """RQ's, with one system call less each way, and none for a job without a timeout."""

    def setup_death_penalty(self) -> None:
        if self._timeout > 0:
            signal.signal(signal.SIGALRM, self.handle_death_penalty)
            signal.setitimer(signal.ITIMER_REAL, self._timeout)

    def cancel_death_penalty(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)


class Worker(rq.Worker):
    """`rq.Worker` 2.12 with one long-lived horse, on JSON and the catalogue."""

    job_class = Job
    queue_class = Queue
    horse_class = Horse
    death_penalty_class = Alarm
    log_result_lifespan = False

    def __init__(self, queues: Any, *args: Any, **kwargs: Any) -> None:
        queues = queues if isinstance(queues, list | tuple) else [queues]
        names = [queue if isinstance(queue, str) else queue.name for queue in queues]
        kwargs |= {"serializer": JSON, "job_class": Job, "queue_class": Queue}
        kwargs["log_job_description"] = False  # it shows arguments, which may be secret
        super().__init__(names, *args, **kwargs)
        self.execution: Execution | None = None
        self._horse: HorseProcess | None = None
        self._buried: HorseProcess | None = None
        self._verdict: tuple[str, Callable[[Raw], Outcome]] | None = None
        self._job_to_stop: str | None = None
        self._alarm: socket.socket | None = None
        self._grace_ends_at = 0.0
        self._not_held: Running | None = None
        self._to_give_back: list[str] = []

    def work(
        self,
        burst: bool = False,
        logging_level: str | None = None,
        date_format: str = DEFAULT_LOGGING_DATE_FORMAT,
        log_format: str = DEFAULT_LOGGING_FORMAT,
        max_jobs: int | None = None,
        max_idle_time: int | None = None,
        with_scheduler: bool = False,
        dequeue_strategy: DequeueStrategy = DequeueStrategy.DEFAULT,
    ) -> bool:
        """As rq.Worker.work: until a limit or a signal; whether any job was run."""
        self.bootstrap(logging_level, date_format, log_format)
        self._dequeue_strategy = dequeue_strategy
        if with_scheduler:
            self._start_scheduler(burst, logging_level, date_format, log_format)
        try:
            with self._waking():
                self._install_signal_handlers()
                return self._keep_a_horse(Limits(burst, max_jobs, max_idle_time)) > 0
        except SystemExit:  # a second signal
            self._verdict = ("the worker was stopped at once", lambda _: Outcome.RETURNED)
            raise
        finally:
            self._end_horse()
            self.teardown()

    def _keep_a_horse(self, limits: Limits) -> int:
        """One horse after the other; the number of jobs they began."""
        done, backoff = 0, 0.0
        while True:
            catalog().refresh()
            left = replace(limits, jobs=None if limits.jobs is None else limits.jobs - done)
            self._horse = horse = HorseProcess(partial(self._be_horse, left))
            self._horse_pid = horse.pid
            self._watch(horse)
            leaving, begun = horse.board.leaving, horse.board.begun
            if leaving is Leaving.DIED:
                self._bury(horse)
            self._forget_current_job()
            horse.close()
            done += begun
            if self._stop_requested or leaving not in (Leaving.DIED, Leaving.RECYCLED) or done == limits.jobs:
                self._say_why(leaving, limits, done)
                return done
            backoff = 0.0 if begun else min(2 * backoff + 0.1, LONGEST_BACKOFF)
            self._wait(backoff)

    def _be_horse(self, limits: Limits, board: Board, box: Box, line: socket.socket) -> int:
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self.setup_work_horse_signals()
            random.seed()
            self._is_horse = True
            board.leaving = self.horse_class(self, board, box, line, limits).run()
        except BaseException:
            log.exception("the work horse fell")
            return 1
        return 0

    def _say_why(self, leaving: Leaving, limits: Limits, done: int) -> None:
        said = {
            Leaving.EMPTY: "done, quitting",
            Leaving.IDLE: f"idle for {limits.idle} seconds, quitting",
            Leaving.ENOUGH: f"finished executing {done} jobs, quitting",
            Leaving.SUSPENDED: "suspended in burst mode, exiting",
        }
        self.log.info("Worker %s: %s", self.name, said.get(leaving, "stopping on request"))

    # -- watching

    def _watch(self, horse: HorseProcess) -> None:
        """Until the horse has ended."""
        beat_at = sweep_at = 0.0
        sweeper = Sweeper(self.connection, catalog())
        while not horse.ended():
            now = time.monotonic()
            self._act_on_requests(horse)
            try:
                if self._to_give_back:
                    self._empty(horse.box)
                if now >= beat_at:
                    beat_at = now + RENEW_EVERY
                    self._beat(horse)
                self._enforce_limits(horse)
                if now >= sweep_at:
                    sweep_at = now + SWEEP_EVERY
                    sweeper.sweep()
                if self.should_run_maintenance_tasks:
                    self.run_maintenance_tasks()
            except redis.RedisError as error:
                log.warning("redis is away", error=f"{type(error).__name__}: {error}")
            self._wait(LOOK_EVERY, horse)

    def _act_on_requests(self, horse: HorseProcess) -> None:
        running, job_id = horse.board.running, self._job_to_stop
        if job_id:
            self._job_to_stop = None
            if running and running.job_id == job_id:
                self._kill(horse, running, "Job stopped by user, work-horse terminated.", lambda _: Outcome.STOPPED)
            else:
                self.log.info("Not working on job %s, command ignored.", job_id)
        if self._stop_requested and not horse.board.stop_ordered:
            horse.order_to_stop()
            self._grace_ends_at = time.monotonic() + get_settings().shutdown_grace
            with contextlib.suppress(redis.RedisError):
                self.set_shutdown_requested_date()
        if self._stop_requested and time.monotonic() >= self._grace_ends_at:
            log.warning("SHUTDOWN_GRACE is over", job_id=running and running.job_id)
            self._verdict = ("SHUTDOWN_GRACE is over", lambda _: Outcome.RETURNED)
            horse.kill()

    def _beat(self, horse: HorseProcess) -> None:
        running, now = horse.board.running, datetime.now(UTC)
        args = [self.name, utcformat(now), self.worker_ttl + 60]
        if running:
            spent = time.monotonic() - running.since
            args += [running.queue, running.job_id, running.execution_id, now.timestamp(), KEEP, spent]
        known, held = script(self.connection, "worker/beat")(keys=[self.key, LEASES], args=args)
        self.last_heartbeat = now
        if not known:
            with self.connection.pipeline() as pipeline:
                pipeline.hset(self.key, mapping=self.serialize())
                worker_registration.register(self, pipeline)
                pipeline.execute()
        if running and not held and self._not_held == running:  # twice: it may just have ended
            self._kill(horse, running, "it was taken from this worker", lambda _: Outcome.RETURNED)
        self._not_held = None if held else running
        if running or horse.still_for() < 2 * RENEW_EVERY:
            self.connection.hset(self.key, "horse_moved_at", utcformat(now))

    def _enforce_limits(self, horse: HorseProcess) -> None:
        running, grace = horse.board.running, get_settings().timeout_grace
        if running and running.timeout > 0 and time.monotonic() > running.since + running.timeout + grace:
            reason = f"JobTimeoutException: killed: it did not end within {grace} s of its timeout, {running.timeout} s"
            self._kill(horse, running, reason, _as_a_failure)
        elif not running and horse.still_for() > STILL_AFTER:
            log.error("the work horse does not move: it is replaced")
            horse.kill()

    def _kill(self, horse: HorseProcess, running: Running, reason: str, decide: Callable[[Raw], Outcome]) -> None:
        if horse.kill_if_running(running):
            self._verdict = (reason, decide)

    # -- after a horse

    def _bury(self, horse: HorseProcess) -> None:
        """Recover what the dead horse held."""
        reason, decide = self._verdict or (
            f"WorkHorseTerminated: Work-horse terminated unexpectedly; {why(horse.status or 0)}",
            lambda job: recovery.policy(catalog(), {**job, b"status": b"started"}),
        )
        self._verdict, self._buried = None, horse
        time.sleep(LAST_WORDS)
        while True:
            try:
                self._settle(horse, reason, decide)
            except redis.RedisError as error:
                log.warning("redis is away", error=f"{type(error).__name__}: {error}")
                if self._stop_requested:
                    return  # its lease runs out, and another worker recovers the job
                self._wait(LOOK_EVERY)
            else:
                return

    def _settle(self, horse: HorseProcess, reason: str, decide: Callable[[Raw], Outcome]) -> None:
        running = horse.board.running
        self._empty(horse.box)
        for queue, job_id, execution in recovery.held_by(self.connection, self.name):
            if running and execution == running.execution_id:
                self._tell_handler(job_id, horse)
                recovery.recover(self.connection, queue, job_id, execution, reason, decide)
                self.increment_failed_job_count()
            else:  # not begun; or ended, and its end was lost on the way
                recovery.recover(self.connection, queue, job_id, execution, recovery.LOST, self._policy)

    def _policy(self, job: Raw) -> Outcome:
        return recovery.policy(catalog(), job)

    def _empty(self, box: Box) -> None:
        """Give back what the horse had claimed and not begun; kept here until Redis has taken it."""
        self._to_give_back += box.take_all()
        if self._to_give_back:
            for queue in self.queue_names():
                recovery.give_back(self.connection, queue, self._to_give_back)
            self._to_give_back = []

    def _forget_current_job(self) -> None:
        with contextlib.suppress(redis.RedisError):
            self.set_current_job_id(None)

    def _tell_handler(self, job_id: str, horse: HorseProcess) -> None:
        """RQ's hook for a killed horse."""
        with contextlib.suppress(rq.exceptions.NoSuchJobError):
            self.handle_work_horse_killed(Job.fetch(job_id, connection=self.connection), horse.pid, horse.status, None)

    def _end_horse(self) -> None:
        """At the worker's own end: whatever ended it, no horse is left, and no job is held."""
        horse = self._horse
        if horse:
            if not horse.ended():
                horse.kill()
                horse.wait()
            if horse.board.leaving is Leaving.DIED and horse is not self._buried:
                self._stop_requested = True
                self._bury(horse)
                self._forget_current_job()
                horse.close()
            self._horse, self._horse_pid = None, 0

    # -- RQ's hooks

    def _shutdown(self) -> None:
        """In the handler of the first signal; `_watch` acts on it."""
        self._stop_requested = True
        if self.scheduler:
            self.stop_scheduler()

    def handle_payload(self, message: Any) -> None:
        """In RQ's thread for commands. A stop is left to `_watch`, which can tell whether the job still runs."""
        payload = parse_payload(message)
        if payload["command"] == "stop-job":
            self._job_to_stop = payload.get("job_id")
            self._ring()
        else:
            super().handle_payload(message)

    def kill_horse(self, sig: signal.Signals = signal.SIGKILL) -> None:  # noqa: ARG002 - RQ's signature
        if self._horse:
            self._horse.kill()

    def wait_for_horse(self) -> tuple[int | None, int | None, Any]:
        if not self._horse:
            return None, None, None
        self._horse.wait()
        return self._horse.pid, self._horse.status, None

    def register_birth(self) -> None:
        super().register_birth()
        self.connection.zincrby(LEASES, 1, self.name)

    def register_death(self) -> None:
        super().register_death()
        self.connection.zrem(LEASES, self.name)

    def cleanup_execution(self, job: Any, pipeline: Any) -> None:
        """RQ forgets the execution here, so that a second try after a WatchError would leave it behind (rq#2424)."""
        execution = self.execution
        super().cleanup_execution(job, pipeline)
        self.execution = execution

    def handle_job_success(self, job: Any, queue: Any, started_job_registry: Any) -> None:
        if self._still_holds(job):
            super().handle_job_success(job, queue, started_job_registry)

    def handle_job_failure(self, job: Any, queue: Any, started_job_registry: Any = None, exc_string: str = "") -> None:
        if self._still_holds(job):
            super().handle_job_failure(job, queue, started_job_registry, exc_string)

    def handle_job_retry(self, job: Any, queue: Any, *args: Any, **kwargs: Any) -> None:
        if self._still_holds(job):
            super().handle_job_retry(job, queue, *args, **kwargs)

    def _still_holds(self, job: Any) -> bool:
        """Whether its execution is still ours to end: one that was recovered meanwhile is another worker's."""
        if self.execution is None:
            return True
        member = f"{job.id}:{self.execution.id}"
        return self.connection.zscore(registry_key("wip", job.origin), member) is not None

    def handle_exception(self, job: Any, *exc_info: Any) -> None:
        """RQ calls this just before it decides on a retry."""
        job.retry_by_options(exc_info[1])
        super().handle_exception(job, *exc_info)

    # -- waking up

    @contextlib.contextmanager
    def _waking(self) -> Iterator[None]:
        """Signals (its child's end too) and `_ring` end a `_wait` at once."""
        ear, self._alarm = socket.socketpair()
        for end in (ear, self._alarm):
            end.setblocking(False)
        old_fd = signal.set_wakeup_fd(self._alarm.fileno(), warn_on_full_buffer=False)
        old_handler = signal.signal(signal.SIGCHLD, lambda *_: None)
        self._ear = ear
        try:
            yield
        finally:
            signal.set_wakeup_fd(old_fd)
            signal.signal(signal.SIGCHLD, old_handler)
            ear.close()
            self._alarm.close()

    def _ring(self) -> None:
        if self._alarm:
            with contextlib.suppress(OSError):
                self._alarm.send(b"!")

    def _wait(self, seconds: float, horse: HorseProcess | None = None) -> None:
        """Until something happens; meanwhile no job waits in the horse's box while the horse is held up."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            heard, _, _ = select.select([self._ear.fileno(), *([horse.box.fileno()] if horse else [])], [], [], left)
            if not heard:
                return
            if self._ear.fileno() in heard:
                with contextlib.suppress(BlockingIOError):
                    self._ear.recv(4096)
                return
            assert horse
            ticks = horse.board.ticks
            if not select.select([self._ear], [], [], HELD_UP_AFTER)[0] and horse.board.ticks == ticks:
                with contextlib.suppress(redis.RedisError):
                    self._empty(horse.box)


def _as_a_failure(job: Raw) -> Outcome:
    """As an exception of the job: by its retries alone."""
    return Outcome.RETRIED if recovery.retries_left(job) > 0 else Outcome.FAILED
