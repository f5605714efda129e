"""schedules: how late runs are queued with many schedules, and what very many of them cost."""

import time
from datetime import UTC, datetime, timedelta

import orjson
import psutil

from benchmarks.lab import Lab, wait_until
from benchmarks.report import Column
from benchmarks.workers import Worker

PROGRAM = "many.py"
SOURCE = """
from datetime import datetime, timedelta
from app.redis.client import connect
from app.rq_adapter.rq_parts import catalog
from app.schedules import every
from app.schedules.process import Scheduler
from app.settings import get_settings

BEGIN = datetime.fromisoformat("{begin}")
SCHEDULES = [
    every("bench.noop", name=f"s{{n}}", minutes=1, args=[n], start=BEGIN + timedelta(seconds={spread} * n / {count}))
    for n in range({count})
]
Scheduler(connect(get_settings()), get_settings(), catalog(), SCHEDULES).run()
"""


ROWS = (Worker("jobline", "jobline", ("python", PROGRAM)),)
TITLE = "Schedules: lateness of runs with many, each once a minute; and the cost of ten times as many"
COLUMNS = (
    Column("schedules", "schedules"),
    Column("late, p50 ms", "p50_ms", 1),
    Column("late, p99 ms", "p99_ms", 1),
    Column("all due at once: p50 ms", "herd_p50_ms", 0),
    Column("the last of them, ms", "herd_max_ms", 0),
    Column("very many", "very_many"),
    Column("stored after s", "stored_s", 1),
    Column("Redis MB", "redis_mb", 0),
    Column("process MB", "process_mb", 0),
    Column("process MB without", "bare_mb", 0),
)
EACH_ROUND = False
QUEUE, DUE_SCHEDULES = "rq:queue:default", "rq:scheduler:scheduled_jobs"
LIMIT = 120.0  # seconds
WATCH = 20.0  # seconds


def measure(lab: Lab, case: Worker) -> dict[str, object]:
    many = 10 * lab.sizes.schedules
    together = _lateness(lab, case, many, spread=0)
    return {
        "schedules": many,
        **_lateness(lab, case, many, spread=60),
        "herd_p50_ms": together["p50_ms"],
        "herd_max_ms": together["max_ms"],
        **_cost(lab, case, 10 * many),
    }


def _lateness(lab: Lab, case: Worker, count: int, spread: float) -> dict[str, object]:
    """Of runs whose due moments are spread over so many seconds."""
    begin = _write(lab, count, ahead=15, spread=spread)
    with lab.started(case.peer, case.command):
        wait_until(lambda: lab.server.client.llen(QUEUE) > 0, LIMIT)
        time.sleep(WATCH)
    with lab.server.client.pipeline(transaction=False) as pipeline:
        for job_id in lab.server.client.lrange(QUEUE, 0, -1):
            pipeline.hmget(b"rq:job:" + job_id, "enqueued_at", "meta")
        found = sorted(_late(*fields) for fields in pipeline.execute())
    return {
        "runs": len(found),
        "expected_runs": round(count * WATCH / spread) if spread else count,
        "begun": begin.isoformat(),
        "p50_ms": 1000 * found[len(found) // 2],
        "p99_ms": 1000 * found[int(0.99 * len(found))],
        "max_ms": 1000 * found[-1],
    }


def _cost(lab: Lab, case: Worker, count: int) -> dict[str, object]:
    _write(lab, 1, ahead=3600)
    bare = _run(lab, case, 1)["process_mb"]
    _write(lab, count, ahead=3600)
    before = lab.server.memory()
    found = _run(lab, case, count)
    return {"very_many": count, **found, "bare_mb": bare, "redis_mb": (found.pop("memory") - before) / 1e6}


def _run(lab: Lab, case: Worker, count: int) -> dict[str, float]:
    with lab.started(case.peer, case.command) as (command,):
        seconds = wait_until(lambda: lab.server.client.zcard(DUE_SCHEDULES) >= count, LIMIT)
        process = psutil.Process(command.process.pid).memory_full_info().uss
        return {"stored_s": seconds or -1, "process_mb": process / 1e6, "memory": lab.server.memory()}


def _write(lab: Lab, count: int, ahead: float, spread: float = 60) -> datetime:
    lab.server.empty()
    begin = datetime.now(UTC) + timedelta(seconds=ahead)
    (lab.folder / PROGRAM).write_text(SOURCE.format(begin=begin, count=count, spread=spread))
    return begin


def _late(enqueued_at: bytes, meta: bytes) -> float:
    due = datetime.fromisoformat(orjson.loads(meta)["scheduled_for"])
    return (datetime.fromisoformat(enqueued_at.decode()) - due).total_seconds()
