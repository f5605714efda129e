"""The worker process that `rq worker` starts: it never runs job code, and keeps one work horse after the other.

RQ 2.12's `work` is replaced, for a job of its own is no longer the unit of its loop; all of RQ's hooks are kept.
"""

import random
import signal
import socket
import threading
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
from rq.worker import DequeueStrategy

from app import limits
from app.catalog.catalog import function_name
from app.lifecycle import callback_processes
from app.lifecycle.lost_workers import Sweeper
from app.redis.keys import LEASES, registry_key
from app.redis.pipelined import PipelinedConnection
from app.rq_adapter import coroutines
from app.rq_adapter.coroutines import RETRY_TIMEOUT_SECONDS, Ring
from app.rq_adapter.rq_parts import Job, Queue, catalog
from app.serializer import JSON
from app.settings import get_settings
from app.worker.concurrent_horse import ConcurrentHorse
from app.worker.horse import Horse, Limits
from app.worker.horse_monitor import HorseMonitor
from app.worker.prefetched import PrefetchedExecutions
from app.worker.shared_status import Leaving, SharedStatus
from app.worker.wake import Wake

RETIRING_CHECK_SECONDS = 0.2
MAX_BACKOFF_SECONDS = 10.0  # seconds before a horse is replaced that has not begun a job

log = structlog.get_logger("jobline.worker")


class Alarm(UnixSignalDeathPenalty):
    """RQ's, with one system call less each way, and none for a job without a timeout; it reaches coroutines too."""

    def handle_death_penalty(self, signum: int, frame: Any) -> None:  # noqa: ARG002 - RQ's signature
        error = self._exception(f"Task exceeded maximum timeout value ({self._timeout} seconds)")
        ring = coroutines.ring(error)
        if ring is Ring.RAISE:
            raise error
        if ring is Ring.AGAIN:
            signal.setitimer(signal.ITIMER_REAL, RETRY_TIMEOUT_SECONDS)

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
    connection_class = PipelinedConnection
    death_penalty_class = Alarm
    log_result_lifespan = False

    def __init__(self, queues: Any, *args: Any, **kwargs: Any) -> None:
        queues = queues if isinstance(queues, list | tuple) else [queues]
        names = [queue if isinstance(queue, str) else queue.name for queue in queues]
        kwargs |= {"serializer": JSON, "job_class": Job, "queue_class": Queue}
        kwargs["log_job_description"] = False  # it shows arguments, which may be secret
        super().__init__(names, *args, **kwargs)
        self.execution: Execution | None = None
        self.rq_lock = threading.Lock()
        """Held while methods of `rq.Worker` work on `execution`."""
        self.monitor: HorseMonitor | None = None
        self.wake, self.sweeper = Wake(), Sweeper(self.connection)
        self.concurrency = get_settings().concurrency
        self._retiring = list[HorseMonitor]()
        """Of horses whose jobs end while the next one is at work; one at most."""
        self._returned = 0

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
        self._stop_requested, self.monitor, self._retiring = False, None, []
        self.bootstrap(logging_level, date_format, log_format)
        self._dequeue_strategy = dequeue_strategy
        if with_scheduler:
            self._start_scheduler(burst, logging_level, date_format, log_format)
        try:
            with self.wake:
                self._install_signal_handlers()
                return self._keep_a_horse(Limits(burst, max_jobs, max_idle_time)) > 0
        finally:
            self._stop_requested = True
            for monitor in (*self._retiring, *([self.monitor] if self.monitor else [])):
                monitor.end()
            callback_processes.wait()
            self.teardown()

    def _keep_a_horse(self, limits: Limits) -> int:
        """Keep one horse at work, and a second one while its jobs end; the number of jobs they began."""
        done, backoff, number = 0, 0.0, 0
        while True:
            catalog().refresh()
            left = replace(limits, jobs=None if limits.jobs is None else limits.jobs - done)
            self.monitor = HorseMonitor(
                self, self.wake, partial(self._be_horse, left, number), self.concurrency, number
            )
            self._horse_pid = self.monitor.horse.pid
            leaving = self._watch(self.monitor)
            done, number = done + self.monitor.begun, number + 1
            if leaving is Leaving.EMPTY:
                self._await_retiring()
            goes_on = leaving in (Leaving.DIED, Leaving.RECYCLED)
            goes_on = goes_on or (leaving is Leaving.EMPTY and self.monitor.returned + self._returned > 0)  # not empty
            self._returned = 0
            if self.stop_requested or not goes_on or done == limits.jobs:
                self._await_retiring()
                self._say_why(leaving, limits, done)
                return done
            backoff = 0.0 if self.monitor.begun else min(2 * backoff + 0.1, MAX_BACKOFF_SECONDS)
            self.wake.wait(backoff)

    def _watch(self, monitor: HorseMonitor) -> Leaving:
        """Watch a horse until it has ended, or until the next one may begin; why it leaves."""
        while not monitor.step():
            self._step_retiring()
            if monitor.may_be_succeeded and not self._retiring and not self.stop_requested:
                monitor.has_successor = True
                self._retiring.append(monitor)
                return Leaving.RECYCLED
            monitor.sleep()
        return monitor.leaving

    def _step_retiring(self) -> None:
        for monitor in list(self._retiring):
            if monitor.step():
                self._retiring.remove(monitor)
                self._returned += monitor.returned

    def _await_retiring(self) -> None:
        while self._retiring:
            self._step_retiring()
            self.wake.wait(RETIRING_CHECK_SECONDS)

    def _be_horse(
        self, limits: Limits, number: int, board: SharedStatus, box: PrefetchedExecutions, line: socket.socket
    ) -> int:
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self.setup_work_horse_signals()
            random.seed()
            self._is_horse = True
            horse_class = self.horse_class if self.concurrency == 1 else ConcurrentHorse
            board.leaving = horse_class(self, board, box, line, limits, number).run()
        except BaseException:
            log.exception("the work horse fell")
            return 1
        finally:
            coroutines.close()
        return 0

    def _say_why(self, leaving: Leaving, limits: Limits, done: int) -> None:
        said = {
            Leaving.EMPTY: "done, quitting",
            Leaving.IDLE: f"idle for {limits.idle} seconds, quitting",
            Leaving.ENOUGH: f"finished executing {done} jobs, quitting",
            Leaving.SUSPENDED: "suspended in burst mode, exiting",
        }
        self.log.info("Worker %s: %s", self.name, said.get(leaving, "stopping on request"))

    @property
    def stop_requested(self) -> bool:
        return self._stop_requested

    # RQ's hooks

    def _shutdown(self) -> None:
        """In the handler of the first signal; the keeper acts on it."""
        self._stop_requested = True
        if self.scheduler:
            self.stop_scheduler()

    def handle_payload(self, message: Any) -> None:
        """In RQ's thread for commands. A stop is left to the keeper, which can tell whether the job still runs."""
        payload = parse_payload(message)
        if payload["command"] == "stop-job" and self.monitor:
            job_id = payload.get("job_id")
            holders = [monitor for monitor in self._retiring if monitor.runs(job_id)]
            (holders or [self.monitor])[0].jobs_to_stop.append(job_id)
            self.wake.ring()
        else:
            super().handle_payload(message)

    def kill_horse(self, sig: signal.Signals = signal.SIGKILL) -> None:  # noqa: ARG002 - RQ's signature
        if self.monitor:
            self.monitor.horse.kill()

    def wait_for_horse(self) -> tuple[int | None, int | None, Any]:
        if not self.monitor:
            return None, None, None
        horse = self.monitor.horse
        horse.wait()
        return horse.pid, horse.status, None

    def clean_registries(self) -> None:
        """As rq.Worker.clean_registries (RQ 2.12), but for the started registry, which is the sweeper's.

        RQ goes by wall time there, and settles an execution in several steps, while a sweeper may settle it too.
        """
        for queue in self.queues:
            if queue.acquire_maintenance_lock():
                for registry in (queue.finished_job_registry, queue.failed_job_registry, queue.deferred_job_registry):
                    registry.cleanup()
                worker_registration.clean_worker_registry(queue)
                queue.intermediate_queue.cleanup(self, queue)
                queue.release_maintenance_lock()
        self.last_cleaned_at = datetime.now(UTC)

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
            _set_failure_ttl(job)
            job.reason = exc_string
            job.failed_attempt = {
                "exc_string": exc_string,
                "worker_name": self.name,
                "execution_id": self.execution and self.execution.id,
                "execution_started_at": self.execution and self.execution.created_at,
                "execution_ended_at": job.ended_at,
            }
            super().handle_job_failure(job, queue, started_job_registry, exc_string)

    def handle_job_retry(self, job: Any, queue: Any, *args: Any, **kwargs: Any) -> None:
        if self._still_holds(job):
            _set_failure_ttl(job)
            super().handle_job_retry(job, queue, *args, **kwargs)

    def _still_holds(self, job: Any) -> bool:
        """Whether its execution is still ours to end: one that was recovered meanwhile is another worker's.

        Nor is that of a job which was deleted: RQ's writes would make its keys anew, and nothing would remove them.
        """
        if self.execution is None:
            return True
        with self.connection.pipeline(transaction=False) as pipeline:
            pipeline.zscore(registry_key("wip", job.origin), f"{job.id}:{self.execution.id}")
            pipeline.exists(job.key)
            score, exists = pipeline.execute()
        return score is not None and bool(exists)

    def handle_exception(self, job: Any, *exc_info: Any) -> None:
        """RQ calls this just before it decides on a retry."""
        if isinstance(job, Job):
            job.retry_by_options(exc_info[1])
            if function := catalog().functions.get(function_name(job.func_name)):
                try:
                    limits.count_failure(self.connection, function)
                except redis.RedisError as error:
                    log.warning("a failure is not counted by its breaker", error=f"{type(error).__name__}: {error}")
        super().handle_exception(job, *exc_info)


def _set_failure_ttl(job: Any) -> None:
    """RQ 2.12 keeps the results of a failed job for ever, if it was enqueued without a failure_ttl."""
    if job.failure_ttl is None:
        job.failure_ttl = get_settings().failure_ttl
