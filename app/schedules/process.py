"""The scheduler process: leads or stands by, runs schedules on time, moves RQ's delayed jobs, and sweeps."""

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
from redis.exceptions import RedisError
from rq_scheduler import Scheduler as RQScheduler

from app import limits
from app.catalog.catalog import Catalog
from app.lifecycle import actions, outbox
from app.lifecycle.empty_queues import EmptyQueueRemover
from app.lifecycle.leftovers import LeftoverRemover
from app.lifecycle.orphans import Orphans
from app.lifecycle.recovery import Sweeper
from app.redis.client import seconds_now
from app.redis.errors import raise_transient
from app.redis.keys import CLOCK_JUMP_SECONDS, SCHEDULER_WAKE, SCHEDULERS
from app.rq_adapter.rq_parts import Job, Queue
from app.schedules.clock import PutBack, RedisClock
from app.schedules.lease import Lease, LeaseLost
from app.schedules.reconcile import Reconciler
from app.schedules.runner import Runner
from app.settings import Settings
from app.views import listing
from app.views.served import UnservedQueues
from app.worker.wake import Wake
from app.workflows import store as workflows

LOOK_EVERY = 0.5  # seconds between two looks at delayed jobs, open runs and orphans
BEAT_EVERY = 1.0
KEEP = 60  # seconds that a scheduler is known without a heartbeat
STOP_WITHIN = 1.5  # seconds
LONGEST_WAIT = 10.0  # seconds between two tries while Redis is away

log = structlog.get_logger("jobline.scheduler")


class Scheduler(RQScheduler):
    """`rq_scheduler.Scheduler` 0.14 on JSON: its keys, its lock, and a `run` that loses and doubles nothing.

    What its other methods write (`enqueue_at`, `cron`...) is the old way: `run` does not execute it, and says so.

    `declared` are schedules as `cron`, `every` and `once` make them; `clock` gives seconds since 1970; the
    clock of Redis, if it is not given.
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
        self.put_back = PutBack(connection, catalog, self.lease)
        self.runner = Runner(connection, settings, catalog, self.lease)
        self.reconciler = Reconciler(connection, catalog, settings, self.lease)
        self.sweeper, self.orphans = Sweeper(connection), Orphans(connection)
        self.leftovers, self.unserved = LeftoverRemover(connection, self.clock), UnservedQueues(connection)
        self.empty_queues = EmptyQueueRemover(connection, settings.queue_names)
        self._stop = self._born = self._reconciled = False
        self._beat_at = self._look_at = 0.0
        self._looks = 0
        self._unreadable = set[str]()
        """Queues that were logged as such."""
        self._ahead: float | None = None

    def run(self, burst: bool = False) -> None:
        """Until SIGTERM or Ctrl-C, or with `burst` until nothing is due; an error of Redis is waited out."""
        source, wait = Path(sys.argv[0]), 0.0
        written = _written(source)
        with Wake() as wake:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, self._ask_to_stop)
            threading.Thread(target=self._listen, args=[wake], daemon=True).start()
            while not self._stop:
                try:
                    pause, wait = self.step(), 0.0
                except RedisError as error:
                    pause = wait = min(2 * wait + 0.25, LONGEST_WAIT)
                    log.warning("redis is away", error=f"{type(error).__name__}: {error}", again_in=wait)
                if (burst and pause and not wait) or self._is_changed(source, written):
                    break
                wake.wait(pause)
        self._leave()
        if self._is_changed(source, written):
            os.execv(sys.executable, [sys.executable, *sys.argv])  # noqa: S606 - this program, as it is now

    def acquire_lock(self) -> bool:
        return self.lease.hold()

    def remove_lock(self) -> None:
        self.lease.release()

    def step(self) -> float:
        """Do what is due; seconds until there may be more to do. Raises RedisError."""
        self._watch_the_clock()
        if not self._born:
            self._beat()
        self.sweeper.sweep()
        try:
            pause = self._lead() if self.lease.hold() else LOOK_EVERY
        except LeaseLost:
            log.warning("another scheduler leads now")
            pause = LOOK_EVERY
        self._beat()
        return pause

    def _lead(self) -> float:
        if self.catalog.stale() or not self._reconciled:
            self.catalog.refresh()
            self.reconciler.reconcile(self.declared, self._now())
            self._reconciled = True
        if time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + LOOK_EVERY
            self.put_back.look(self.clock())
            self.runner.settle()
            self._move_delayed()
            while self.lease.hold() and outbox.follow_up(self.connection):
                pass
            self._looks += 1
            workflows.sweep(self.connection, self._looks)
            self.orphans.sweep(self._now())
            self.leftovers.sweep()
            self.unserved.check()
            self.empty_queues.sweep()
        until_limit = limits.sweep(self.connection)
        due, following = self.runner.run_due(self._now())
        if due:
            return 0.0
        until_run = math.inf if following is None else following - self.clock()
        return max(0.0, min(self._look_at - time.monotonic(), until_limit, until_run))

    def _move_delayed(self) -> None:
        """RQ's delayed jobs, and retries that wait."""
        for queue in listing.queue_names(self.connection):
            try:
                while self.lease.hold() and actions.move_due(self.connection, queue, self._now()):
                    pass
            except redis.ResponseError as error:
                raise_transient([error])
                if queue not in self._unreadable:
                    self._unreadable.add(queue)
                    log.exception("a queue cannot be read, and its delayed jobs stay where they are", queue=queue)

    def _beat(self) -> None:
        """Say that it moves: once it has done a step, so that one which fails at every step does not seem to move."""
        if time.monotonic() < self._beat_at:
            return
        if not self._born:
            self.register_birth()
            self._born = True
        said = {"hostname": socket.gethostname(), "pid": os.getpid(), "last_heartbeat": seconds_now(self.connection)}
        with self.connection.pipeline() as pipeline:
            pipeline.hset(self.key, mapping={**said, "leads": int(self.lease.held)})
            pipeline.expire(self.key, KEEP)
            pipeline.sadd(SCHEDULERS, self.key)
            pipeline.execute()
        self._beat_at = time.monotonic() + BEAT_EVERY

    def _watch_the_clock(self) -> None:
        """One that is put forward is a late scheduler; for one that is put back see clock.py."""
        ahead = self.clock() - time.monotonic()
        if self._ahead is not None and abs(ahead - self._ahead) > CLOCK_JUMP_SECONDS:
            log.warning("the clock has jumped", seconds=round(ahead - self._ahead, 3))
        self._ahead = ahead

    def _is_changed(self, source: Path, written: float) -> bool:
        """While an editor puts it in place there is no file for a moment."""
        return self.settings.reload and _written(source) not in (written, 0.0)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self.clock(), UTC)

    def _listen(self, wake: Wake) -> None:
        """Ring whenever something may be due sooner, as long as the process lives."""
        heard = self.connection.pubsub()
        while True:
            try:
                heard.subscribe(SCHEDULER_WAKE)
                while True:
                    if heard.get_message(timeout=LONGEST_WAIT):
                        wake.ring()
            except RedisError:
                time.sleep(LOOK_EVERY)  # `run` says so

    def _ask_to_stop(self, *_: object) -> None:
        """No step is left half done, whenever it ends: a Redis that is silent does not hold it up."""
        self._stop = True
        end = threading.Timer(STOP_WITHIN, os._exit, [0])
        end.daemon = True
        end.start()

    def _leave(self) -> None:
        try:
            self.lease.release()
            if self._born:
                self.register_death()
        except RedisError as error:
            log.warning("redis is away", error=f"{type(error).__name__}: {error}")


def _written(file: Path) -> float:
    return file.stat().st_mtime if file.is_file() else 0.0
