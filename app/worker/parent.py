"""The worker process that `rq worker` starts: it never runs job code, and keeps one work horse after the other.

RQ 2.12's `work` is replaced, for a job of its own is no longer the unit of its loop; all of RQ's hooks are kept.
"""

import random
import signal
import socket
from collections import deque
from dataclasses import replace
from functools import partial
from typing import Any

import redis
import structlog
from rq.command import parse_payload
from rq.defaults import DEFAULT_LOGGING_DATE_FORMAT, DEFAULT_LOGGING_FORMAT
from rq.worker import DequeueStrategy

from app import tracing
from app.lifecycle import callback_processes
from app.rq_adapter import coroutines
from app.rq_adapter.rq_parts import catalog
from app.settings import get_settings
from app.worker.concurrent_horse import ConcurrentHorse
from app.worker.horse import Horse, Limits
from app.worker.horse_monitor import HorseMonitor
from app.worker.prefetched import PrefetchedExecutions
from app.worker.process_hooks import process_hooks
from app.worker.rq_worker import RqWorker
from app.worker.shared_status import Leaving, SharedStatus
from app.worker.wake import Wake

RETIRING_CHECK_SECONDS = 0.2
MAX_BACKOFF_SECONDS = 10.0  # seconds before a horse is replaced that has not begun a job

log = structlog.get_logger("jobline.worker")


class Worker(RqWorker):
    """`rq.Worker` 2.12 with one long-lived horse, on JSON and the catalogue."""

    horse_class = Horse

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.monitor: HorseMonitor | None = None
        self.wake = Wake()
        self.concurrency = get_settings().concurrency
        self._retiring: HorseMonitor | None = None
        """The monitor of a horse that claims no more jobs, while its last jobs end beside the next horse."""
        self._returned = 0
        """How many jobs of such horses went back to their queues."""
        self._jobs_to_stop = deque[str]()
        """Ids, as RQ's command stop-job gives them: for the horse that runs the job when they are looked at."""

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
        """Run jobs until a limit is reached or a signal comes, as rq.Worker.work (RQ 2.12). Returns whether any ran."""
        self._stop_requested, self.monitor, self._retiring = False, None, None
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
            for monitor in (self._retiring, self.monitor):
                if monitor:
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
            self._stop_jobs()
            if monitor.may_be_succeeded and not self._retiring and not self.stop_requested:
                monitor.has_successor = True
                self._retiring = monitor
                return Leaving.RECYCLED
            monitor.sleep()
        return monitor.leaving

    def _step_retiring(self) -> None:
        if self._retiring and self._retiring.step():
            self._returned += self._retiring.returned
            self._retiring = None

    def _await_retiring(self) -> None:
        while self._retiring:
            self._step_retiring()
            self._stop_jobs()
            self.wake.wait(RETIRING_CHECK_SECONDS)

    def _stop_jobs(self) -> None:
        try:
            while self._jobs_to_stop:
                job_id = self._jobs_to_stop[0]
                if not any(monitor.stop(job_id) for monitor in (self._retiring, self.monitor) if monitor):
                    self.log.info("Not working on job %s, command ignored.", job_id)
                self._jobs_to_stop.popleft()
        except redis.RedisError as error:
            log.warning("redis is away", error=f"{type(error).__name__}: {error}")

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
            tracing.start("jobline-worker")
            horse = horse_class(self, board, box, line, limits, number)
            with process_hooks(catalog().hooks, board.tick):
                leaving = horse.run()
            board.leaving = leaving
        except BaseException:
            log.exception("the work horse fell")
            return 1
        finally:
            coroutines.close()
            tracing.stop()
        return 0

    def _say_why(self, leaving: Leaving, limits: Limits, done: int) -> None:
        reasons = {
            Leaving.EMPTY: "done, quitting",
            Leaving.IDLE: f"idle for {limits.idle} seconds, quitting",
            Leaving.ENOUGH: f"finished executing {done} jobs, quitting",
            Leaving.SUSPENDED: "suspended in burst mode, exiting",
        }
        self.log.info("Worker %s: %s", self.name, reasons.get(leaving, "stopping on request"))

    # RQ's hooks

    def _shutdown(self) -> None:
        """Note that the worker is to stop. RQ calls this in its signal handler; HorseMonitor.step acts on it."""
        self._stop_requested = True
        if self.scheduler:
            self.stop_scheduler()

    def handle_payload(self, message: Any) -> None:
        """Handle a command, in RQ's thread for them. A stop is left to the main thread."""
        payload = parse_payload(message)
        if payload["command"] == "stop-job" and self.monitor:
            self._jobs_to_stop.append(payload.get("job_id"))
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
