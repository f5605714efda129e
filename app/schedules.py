"""When: declared schedules kept in rq-scheduler's layout, and RQ's delayed jobs and retries moved in time.

A schedule is data; each run of it is a fresh job, enqueued through app/queueing like every job. Advancing a schedule
and enqueueing its run are one transaction, keyed by the due time: two schedulers never run it twice.
"""

import signal
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import redis
import structlog
from cronsim import CronSim, CronSimError
from redis.exceptions import RedisError, WatchError
from rq_scheduler import Scheduler as RQScheduler

from app import listing, queueing
from app.catalog import Catalog
from app.errors import JoblineError
from app.recovery import Sweeper
from app.rq_parts import Job, Queue
from app.serializer import JSON
from app.settings import Settings

EVERY = 0.5  # seconds between two looks at what is due
LONGEST_WAIT = 10.0  # seconds between two tries while Redis is away
PREFIX = "schedule-"

log = structlog.get_logger("jobline.scheduler")


@dataclass(frozen=True)
class Schedule:
    """`cron` (five fields, in `timezone`) or `interval` (seconds): when to call `function`."""

    name: str
    function: str
    cron: str | None = None
    interval: int | None = None
    timezone: str = "UTC"
    args: list[Any] = field(default_factory=list)
    kwargs: dict[str, Any] = field(default_factory=dict)
    queue: str | None = None

    @property
    def id(self) -> str:
        return PREFIX + self.name

    def next_after(self, moment: datetime) -> datetime:
        if self.interval:
            return datetime.fromtimestamp(moment.timestamp() + self.interval, UTC)
        assert self.cron is not None
        return next(CronSim(self.cron, moment.astimezone(ZoneInfo(self.timezone)))).astimezone(UTC)

    def check(self, catalog: Catalog) -> None:
        """Raises NotFound, Invalid, CronSimError, ZoneInfoNotFoundError: a schedule that could never run."""
        catalog.get(self.function).check(self.args, self.kwargs)
        self.next_after(datetime.now(UTC))


def cron(expression: str, function: str, *, name: str | None = None, timezone: str = "UTC", **call: Any) -> Schedule:
    return Schedule(name or function, function, cron=expression, timezone=timezone, **call)


def every(
    function: str, *, name: str | None = None, seconds: int = 0, minutes: int = 0, hours: int = 0, **call: Any
) -> Schedule:
    return Schedule(name or function, function, interval=seconds + 60 * minutes + 3600 * hours, **call)


class Scheduler(RQScheduler):
    """`rq_scheduler.Scheduler` 0.14 on JSON, with declared schedules, and without its loss and doubling of runs."""

    job_class = Job
    queue_class = Queue

    def __init__(self, connection: redis.Redis, settings: Settings, catalog: Catalog) -> None:
        super().__init__(connection=connection, interval=1, job_class=Job, queue_class=Queue)
        self.settings, self.catalog = settings, catalog
        self.schedules: list[Schedule] = []
        self.declared: dict[str, Schedule] = {}
        self._stop = threading.Event()

    def reconcile(self, schedules: Iterable[Schedule]) -> None:
        """Make what is stored what is declared: changed ones updated, removed ones removed, none doubled.

        A schedule that could never run is reported, and stops no other.

        Raises:
            ValueError: two schedules have one name.
        """
        found = list(schedules)
        if len({schedule.id for schedule in found}) != len(found):
            raise ValueError("two schedules have one name: give them names")
        self.declared = {schedule.id: schedule for schedule in found if self._can_run(schedule)}
        stored = {entry.decode() for entry in self.connection.zrange(self.scheduled_jobs_key, 0, -1)}
        with self.connection.pipeline() as pipeline:
            for gone in {entry for entry in stored if entry.startswith(PREFIX)} - set(self.declared):
                pipeline.zrem(self.scheduled_jobs_key, gone)
                pipeline.delete(Job.key_for(gone))
            for entry, schedule in self.declared.items():
                rule = JSON.dumps([schedule.cron, schedule.interval, schedule.timezone])
                known = self.connection.hget(Job.key_for(entry), "jobline_rule")
                template = self._template(schedule)
                pipeline.hset(Job.key_for(entry), mapping={**template.hash(), "jobline_rule": rule})
                if known != rule or entry not in stored:
                    due = schedule.next_after(datetime.now(UTC))
                    pipeline.zadd(self.scheduled_jobs_key, {entry: due.timestamp()})
            pipeline.execute()

    def _can_run(self, schedule: Schedule) -> bool:
        try:
            schedule.check(self.catalog)
        except (JoblineError, CronSimError, ZoneInfoNotFoundError) as error:
            log.error("schedule refused", schedule=schedule.name, reason=str(error))  # noqa: TRY400 - the reason is enough
            return False
        return True

    def enqueue_jobs(self) -> list[str]:
        """Run what is due; returns the ids of the jobs made. Late runs of one schedule are run once."""
        now = datetime.now(UTC)
        due = self.connection.zrangebyscore(self.scheduled_jobs_key, "-inf", now.timestamp(), withscores=True)
        made = [self._run(entry.decode(errors="replace"), score, now) for entry, score in due]
        return [job_id for job_id in made if job_id]

    def _run(self, entry: str, score: float, now: datetime) -> str | None:
        schedule = self.declared.get(entry)
        if schedule is None:
            return None  # another scheduler's, or a plain rq-scheduler's: pickled, and not ours to run
        due = datetime.fromtimestamp(score, UTC)
        following = schedule.next_after(due if schedule.interval else now)
        if following <= now:
            following = schedule.next_after(now)
        job = self._template(schedule, due)
        try:
            with self.connection.pipeline() as pipeline:
                pipeline.watch(self.scheduled_jobs_key)
                if pipeline.zscore(self.scheduled_jobs_key, entry) != score:
                    return None
                pipeline.multi()
                pipeline.zadd(self.scheduled_jobs_key, {entry: following.timestamp()})
                queueing.write(pipeline, job)
                pipeline.execute()
        except WatchError:
            return None
        log.info("schedule ran", schedule=schedule.name, job_id=job.id, due=due.isoformat())
        return job.id

    def _template(self, schedule: Schedule, due: datetime | None = None) -> queueing.NewJob:
        function = self.catalog.get(schedule.function)
        said: dict[str, Any] = {"queue": schedule.queue}
        if due is None:
            said |= {"id": schedule.id, "status": "scheduled"}
        else:
            said["meta"] = {"schedule": schedule.name, "scheduled_for": due.isoformat().replace("+00:00", "Z")}
        return queueing.prepare(function, self.settings, schedule.args, schedule.kwargs, **said)

    def move_delayed(self) -> int:
        """Move RQ's delayed jobs and retries that are due; returns how many."""
        now = datetime.now(UTC)
        return sum(queueing.move_due(self.connection, name, now) for name in listing.queue_names(self.connection))

    def run(self, burst: bool = False) -> None:
        """Until SIGTERM or Ctrl-C; an error of Redis is waited out."""
        signal.signal(signal.SIGTERM, lambda *_: self._stop.set())
        signal.signal(signal.SIGINT, lambda *_: self._stop.set())
        wait, born = EVERY, False
        sweeper = Sweeper(self.connection)
        while not self._stop.is_set():
            try:
                if not born:
                    self.register_birth()
                    self.reconcile(self.schedules)
                    born = True
                self.heartbeat()
                self.enqueue_jobs()
                self.move_delayed()
                sweeper.sweep()
                wait = EVERY
            except RedisError as error:
                wait = min(2 * wait, LONGEST_WAIT)
                log.warning("redis is away", error=type(error).__name__, again_in=wait)
            if burst:
                break
            self._stop.wait(wait - time.time() % wait if wait == EVERY else wait)
        if born:
            self.register_death()
