"""ticks: three schedulers, one of them killed again and again, and every due moment accounted for."""

import random
import time
from collections import Counter
from datetime import UTC, datetime, timedelta

import orjson
from rq_scheduler import Scheduler as Stock

from benchmarks.lab import Lab, wait_until
from benchmarks.processes import Command
from benchmarks.report import Column
from benchmarks.workers import Worker

QUEUE = "rq:queue:default"
DUE_SCHEDULES = "rq:scheduler:scheduled_jobs"


PROGRAM = "ticks.py"
SOURCE = """
from app.redis.client import connect
from app.rq_adapter.rq_parts import catalog
from app.schedules import every
from app.schedules.process import Scheduler
from app.settings import get_settings

SCHEDULES = [
    every("bench.noop", name=f"s{{n}}", seconds=1, args=[n], start="{begin}", end="{end}", catch_up="all")
    for n in range({schedules})
]
Scheduler(connect(get_settings()), get_settings(), catalog(), SCHEDULES).run()
"""


STOCK = Worker("rq-scheduler 3", "jobline", ("rqscheduler", "-u", "{url}", "-i", "1"))
ROWS = (Worker("jobline 3", "jobline", ("python", PROGRAM)), STOCK)
TITLE = "Ticks: schedules of a run a second, three schedulers, SIGKILL of one of them again and again"
COLUMNS = (
    Column("due", "due"),
    Column("kills", "kills"),
    Column("runs", "runs"),
    Column("doubled", "doubled"),
    Column("dropped", "dropped"),
    Column("schedules lost", "lost"),
    Column("seconds", "seconds"),
)
EACH_ROUND = False
SCHEDULERS = 3
TICKS = 10  # of each schedule
LEAD = 5.0  # seconds before the first
LONGEST = 1.5  # seconds between two kills, at random


def measure(lab: Lab, case: Worker) -> dict[str, object]:
    schedules, redis = lab.sizes.schedules, lab.server.client
    lab.server.empty()
    begin = datetime.now(UTC) + timedelta(seconds=LEAD)
    (_fill_stock if case is STOCK else _fill)(lab, schedules, begin)
    with lab.started(case.peer, case.command, SCHEDULERS) as commands:
        kills = _kill(lab, case, commands)
    runs = _runs_of_stock(lab) if case is STOCK else _runs(lab)
    per_schedule = Counter(name for name, _ in runs.elements())
    expected = schedules * TICKS
    if case is STOCK:  # whose runs do not say for when they were: all above the number that was asked for are doubled
        doubled = sum(max(0, count - TICKS) for count in per_schedule.values())
        dropped = expected - sum(min(TICKS, count) for count in per_schedule.values())
    else:
        doubled = sum(count - 1 for count in runs.values())
        dropped = expected - len(runs)
    return {
        "due": expected,
        "seed": lab.seed,
        "kills": kills,
        "runs": runs.total(),
        "doubled": doubled,
        "dropped": dropped,
        "lost": sum(count < TICKS for count in per_schedule.values()) + schedules - len(per_schedule),
        "still scheduled": redis.zcard(DUE_SCHEDULES),
        "seconds": round((datetime.now(UTC) - begin).total_seconds(), 1),
    }


def _fill(lab: Lab, schedules: int, begin: datetime) -> None:
    text = SOURCE.format(schedules=schedules, begin=begin, end=begin + timedelta(seconds=TICKS - 1))
    (lab.folder / PROGRAM).write_text(text)


def _fill_stock(lab: Lab, schedules: int, begin: datetime) -> None:
    scheduler = Stock("default", connection=lab.server.client)
    for _ in range(schedules):
        scheduler.schedule(begin.replace(tzinfo=None), "time.time", interval=1, repeat=TICKS, result_ttl=-1)


def _kill(lab: Lab, case: Worker, commands: list[Command]) -> int:
    """Until nothing is scheduled any more, or the patience is over; how many were killed."""
    dice, crew, kills = random.Random(lab.seed), list(commands), 0
    time.sleep(LEAD)
    end = time.monotonic() + lab.sizes.ticks_seconds
    while lab.server.client.zcard(DUE_SCHEDULES) and time.monotonic() < end:
        wait_until(lambda: lab.server.client.zcard(DUE_SCHEDULES) == 0, dice.uniform(0, LONGEST))
        place = dice.randrange(SCHEDULERS)
        crew[place].kill_all()
        crew[place] = lab.start(case.peer, case.command)
        commands.append(crew[place])
        kills += 1
    return kills


def _runs(lab: Lab) -> Counter[tuple[str, str]]:
    """(schedule, due moment) of each run."""
    redis, found = lab.server.client, Counter[tuple[str, str]]()
    with redis.pipeline(transaction=False) as pipeline:
        for job_id in redis.lrange(QUEUE, 0, -1):
            pipeline.hget(b"rq:job:" + job_id, "meta")
        for meta in map(orjson.loads, pipeline.execute()):
            found[meta["schedule"], meta["scheduled_for"]] += 1
    return found


def _runs_of_stock(lab: Lab) -> Counter[tuple[str, str]]:
    """(schedule, ""): a run is the schedule's own job, queued once more."""
    return Counter((job_id.decode(), "") for job_id in lab.server.client.lrange(QUEUE, 0, -1))
