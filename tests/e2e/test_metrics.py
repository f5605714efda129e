"""What a real worker counts: each end once, whoever ends the job, and also what a killed work horse has counted."""

import os
import signal
import subprocess
from collections import Counter
from typing import Any

import psutil
import pytest
import redis

from app.lifecycle import actions
from app.metrics import store
from tests.conftest import RQ_WORKER, Project, status, until
from tests.scripts.hand import put, put_by_path

SOURCE = """
import os
import signal
import time
import rq

def add(a: int, b: int) -> int:
    return a + b

async def wait(seconds: float) -> None:
    import asyncio
    await asyncio.sleep(seconds)

def fail() -> None:
    raise ValueError("no")

def again() -> object:
    return rq.Retry(max=1)

def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
"""


def counts(connection: redis.Redis) -> dict[str, Counter[str]]:
    store.sweep(connection)
    found: dict[str, Counter[str]] = {}
    for (function, _), measures in store.totals(connection).items():
        found.setdefault(function, Counter()).update(measures.counts)
    return {function: Counter({k: n for k, n in counted.items() if k != "api"}) for function, counted in found.items()}


@pytest.fixture
def metered(project: Project) -> Project:
    project.write("metered", SOURCE)
    return project


def enqueue(connection: redis.Redis, name: str, *args: object, **fields: Any) -> str:
    return put_by_path(connection, f"jobs.metered.{name}", *args, **fields)


@pytest.mark.parametrize("concurrency", ["1", "20"])
def test_each_end_is_counted_once(metered: Project, valkey: redis.Redis, concurrency: str) -> None:
    for _ in range(50):
        enqueue(valkey, "add", 1, 2)
        enqueue(valkey, "wait", 0.05)
    enqueue(valkey, "fail")
    enqueue(valkey, "fail", retry_waits=[0])
    enqueue(valkey, "again")
    with_callback = enqueue(valkey, "add", 1, 2)
    valkey.hset(f"rq:job:{with_callback}", "success_callback_name", "jobs.metered.add")
    canceled = enqueue(valkey, "add", 1, 2)
    actions.cancel(valkey, canceled)
    metered.work("default", CONCURRENCY=concurrency)
    assert counts(valkey) == {
        "metered.add": {"finished": 50, "failed": 1, "canceled": 1},  # the callback takes other arguments
        "metered.wait": {"finished": 50},
        "metered.fail": {"failed": 2, "retried": 1},
        "metered.again": {"retried": 1, "failed": 1},
    }
    totals = store.totals(valkey)
    waits = totals["metered.wait", "default"]
    assert waits.run.count == waits.wait.count == 50
    assert waits.run.quantile(0.5) == pytest.approx(0.05, rel=0.2)
    assert sum(totals["metered.add", "default"].wait.counts.values()) == 51


def test_what_a_killed_work_horse_has_counted_is_kept_and_its_job_is_lost(
    metered: Project, valkey: redis.Redis
) -> None:
    for _ in range(20):
        enqueue(valkey, "add", 1, 2)
    enqueue(valkey, "die")
    metered.work("default")
    assert counts(valkey) == {"metered.add": {"finished": 20}, "metered.die": {"lost": 1}}


def test_what_was_counted_before_the_worker_died_is_kept_but_for_a_second(
    metered: Project, valkey: redis.Redis, started: list[subprocess.Popen[bytes]]
) -> None:
    worker = metered.start(*RQ_WORKER, "default")
    started.append(worker)
    enqueue(valkey, "add", 1, 2)
    until(lambda: counts(valkey).get("metered.add") == {"finished": 1})
    for process in [*psutil.Process(worker.pid).children(recursive=True), psutil.Process(worker.pid)]:
        os.kill(process.pid, signal.SIGKILL)
    assert counts(valkey)["metered.add"] == {"finished": 1}


def test_metrics_that_redis_refuses_hold_up_no_job(metered: Project, valkey: redis.Redis) -> None:
    valkey.set("jobline:metrics:unmerged", "of another type")
    job = enqueue(valkey, "add", 1, 2)
    output = metered.work("default")
    assert status(valkey, job) == "finished"
    assert "metrics are put off" in output


def test_a_job_of_stock_rq_has_metrics_too(metered: Project, valkey: redis.Redis) -> None:
    put(valkey, "job")
    valkey.hdel("rq:job:job", "function")
    metered.work("default")
    assert counts(valkey)["demo.add"] == {"finished": 1}
