"""The scheduler process: leads or stands by, runs schedules, enqueues delayed jobs, and does maintenance."""

import math
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import redis
import structlog
from redis.exceptions import RedisError, ResponseError
from rq_scheduler import Scheduler as RQScheduler

from app import limits, tracing
from app.alerts.watcher import Watcher
from app.catalog.catalog import Catalog
from app.lifecycle import actions, outbox
from app.lifecycle.empty_queues import EmptyQueueRemover
from app.lifecycle.leftovers import LeftoverRemover
from app.lifecycle.lost_workers import Sweeper
from app.lifecycle.orphans import Orphans
from app.metrics import store as metrics
from app.redis.client import seconds_now
from app.redis.keys import CLOCK_JUMP_SECONDS, SCHEDULER_WAKE, SCHEDULERS
from app.rq_adapter.rq_parts import Job, Queue
from app.schedules.clock import ClockSetbackMonitor, RedisClock
from app.schedules.lease import Lease, LeaseLost
from app.schedules.reconcile import Reconciler
from app.schedules.runner import Runner
from app.settings import Settings
from app.views.served import UnservedQueues
from app.worker.wake import Wake
from app.workflows import store as workflows

MAINTENANCE_INTERVAL_SECONDS = 0.5  # delayed jobs, open runs, orphans and the like
HEARTBEAT_INTERVAL_SECONDS = 1.0
HEARTBEAT_TTL_SECONDS = 60
STOP_TIMEOUT_SECONDS = 1.5
MAX_BACKOFF_SECONDS = 10.0  # between two attempts while Redis is unavailable

log = structlog.get_logger("jobline.scheduler")


class Scheduler(RQScheduler):
    """`rq_scheduler.Scheduler` 0.14 with JSON, the same keys and lock, and a `run` that loses and repeats no run.

    Entries that its other methods write (`enqueue_at`, `cron` and others) are not run, but quarantined and logged.

    Args:
        declared: schedules made by `cron`, `every` and `once`.
        clock: returns seconds since 1970; default: the clock of Redis.
    """

    job_class = Job
    queue_class = Queue

    def __init__(
        self,
        connection: redis.Redis,
        settings: Settings,
        catalog: Catalog,
        declared: Iterable[dict[str, Any]] = (),
        clock: Callable[[], float] | None = None,
    ) -> None:
        super().__init__(connection=connection, interval=1, job_class=Job, queue_class=Queue)
        self.settings, self.catalog, self.declared = settings, catalog, list(declared)
        self.clock = clock or RedisClock(connection)
        self.lease = Lease(connection)
        self.clock_monitor = ClockSetbackMonitor(connection, catalog, self.lease)
        self.runner = Runner(connection, settings, catalog, self.lease)
        self.reconciler = Reconciler(connection, catalog, settings, self.lease)
        self.sweeper, self.orphans = Sweeper(connection), Orphans(connection)
        self.leftovers, self.unserved = LeftoverRemover(connection, self.clock), UnservedQueues(connection)
        self.alerts = Watcher(connection, catalog, settings)
        self.empty_queues = EmptyQueueRemover(connection, settings.queue_names)
        self._stop = self._registered = self._reconciled = False
        self._next_heartbeat_at = self._next_maintenance_at = 0.0
        self._maintenance_passes = 0
        self._unreadable = set[str]()
        """Queues already logged as unreadable."""
        self._metrics_fail = False
        self._clock_offset: float | None = None

    def run(self, burst: bool = False) -> None:
        """Run until SIGTERM or Ctrl-C, or with `burst` until nothing is due. Retries errors of Redis with backoff."""
        tracing.start("jobline-scheduler")
        source, backoff = Path(sys.argv[0]), 0.0
        modified_at = _modified_at(source)
        with Wake() as wake:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, self._request_stop)
            threading.Thread(target=self._listen, args=[wake], daemon=True).start()
            while not self._stop:
                try:
                    pause, backoff = self.step(), 0.0
                except RedisError as error:
                    pause = backoff = min(2 * backoff + 0.25, MAX_BACKOFF_SECONDS)
                    log.warning("redis is away", error=f"{type(error).__name__}: {error}", again_in=backoff)
                if (burst and pause and not backoff) or self._is_changed(source, modified_at):
                    break
                wake.wait(pause)
        self._shut_down()
        if self._is_changed(source, modified_at):
            os.execv(sys.executable, [sys.executable, *sys.argv])  # noqa: S606 - this program, with its new source

    def acquire_lock(self) -> bool:
        return self.lease.hold()

    def remove_lock(self) -> None:
        self.lease.release()

    def step(self) -> float:
        """Do what is due. Returns the seconds until the next step. Raises RedisError."""
        self._check_clock_jump()
        if not self._registered:
            self._heartbeat()
        self.sweeper.sweep()
        try:
            pause = self._lead() if self.lease.hold() else MAINTENANCE_INTERVAL_SECONDS
        except LeaseLost:
            log.warning("another scheduler leads now")
            pause = MAINTENANCE_INTERVAL_SECONDS
        self._heartbeat()
        return pause

    def _lead(self) -> float:
        if self.catalog.is_stale() or not self._reconciled:
            self.catalog.refresh()
            self.reconciler.reconcile(self.declared, self._now())
            self._reconciled = True
        if time.monotonic() >= self._next_maintenance_at:
            self._next_maintenance_at = time.monotonic() + MAINTENANCE_INTERVAL_SECONDS
            self.clock_monitor.check(self.clock())
            self.runner.close_ended_runs()
            self._move_delayed()
            while self.lease.hold() and outbox.follow_up(self.connection):
                pass
            self._maintenance_passes += 1
            workflows.sweep(self.connection, self._maintenance_passes)
            self.orphans.sweep(self._now())
            self.leftovers.sweep()
            self.unserved.check()
            self._sweep_metrics()
            self._check_alerts()
            self.empty_queues.sweep()
        until_limit = limits.sweep(self.connection)
        due, following = self.runner.run_due(self._now())
        if due:
            return 0.0
        until_run = math.inf if following is None else following - self.clock()
        return max(0.0, min(self._next_maintenance_at - time.monotonic(), until_limit, until_run))

    def _move_delayed(self) -> None:
        """Enqueue delayed jobs and retries that are due."""
        moved = 1
        while moved and self.lease.hold():
            moved, unreadable = actions.move_due(self.connection, self._now())
            for queue in sorted(set(unreadable) - self._unreadable):
                log.error("a queue cannot be read, and its delayed jobs stay where they are", queue=queue)
            self._unreadable.update(unreadable)

    def _sweep_metrics(self) -> None:
        try:
            metrics.sweep(self.connection)
        except ResponseError as error:  # a key of another type: it holds up nothing else
            if not self._metrics_fail:
                log.warning("metrics are not collected", error=str(error))
            self._metrics_fail = True

    def _check_alerts(self) -> None:
        try:
            self.alerts.check()
        except ResponseError as error:  # a key of another type
            log.warning("alerts are not checked", error=str(error))

    def _heartbeat(self) -> None:
        """Record a heartbeat. Called after a step, so that a scheduler whose every step fails does not seem alive."""
        if time.monotonic() < self._next_heartbeat_at:
            return
        if not self._registered:
            self.register_birth()
            self._registered = True
        fields = {"hostname": socket.gethostname(), "pid": os.getpid(), "last_heartbeat": seconds_now(self.connection)}
        with self.connection.pipeline() as pipeline:
            pipeline.hset(self.key, mapping={**fields, "leads": int(self.lease.held)})
            pipeline.expire(self.key, HEARTBEAT_TTL_SECONDS)
            pipeline.sadd(SCHEDULERS, self.key)
            pipeline.execute()
        self._next_heartbeat_at = time.monotonic() + HEARTBEAT_INTERVAL_SECONDS

    def _check_clock_jump(self) -> None:
        """Log a clock jump. A jump forward only makes the scheduler late; for a jump back see clock.py."""
        offset = self.clock() - time.monotonic()
        if self._clock_offset is not None and abs(offset - self._clock_offset) > CLOCK_JUMP_SECONDS:
            log.warning("the clock has jumped", seconds=round(offset - self._clock_offset, 3))
        self._clock_offset = offset

    def _is_changed(self, source: Path, modified_at: float) -> bool:
        """Return whether the source file was replaced. While an editor replaces it, there may be no file: 0.0."""
        return self.settings.reload and _modified_at(source) not in (modified_at, 0.0)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self.clock(), UTC)

    def _listen(self, wake: Wake) -> None:
        """Wake the main loop when a schedule may be due sooner. Runs in a thread for the life of the process."""
        subscription = self.connection.pubsub()
        while True:
            try:
                subscription.subscribe(SCHEDULER_WAKE)
                while True:
                    if subscription.get_message(timeout=MAX_BACKOFF_SECONDS):
                        wake.ring()
            except RedisError:
                time.sleep(MAINTENANCE_INTERVAL_SECONDS)  # `run` logs it

    def _request_stop(self, *_: object) -> None:
        """Stop after the current step, or exit in mid-step after a timeout: no step needs to be completed."""
        self._stop = True
        end = threading.Timer(STOP_TIMEOUT_SECONDS, os._exit, [0])
        end.daemon = True
        end.start()

    def _shut_down(self) -> None:
        tracing.stop()
        try:
            self.lease.release()
            if self._registered:
                self.register_death()
        except RedisError as error:
            log.warning("redis is away", error=f"{type(error).__name__}: {error}")


def _modified_at(file: Path) -> float:
    return file.stat().st_mtime if file.is_file() else 0.0
