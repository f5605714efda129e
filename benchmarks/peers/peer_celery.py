"""Celery on Redis, results in Redis, JSON, everything else default."""

import os
import time
from typing import Any

from celery import Celery

SECONDS = float(os.environ.get("JOB_SECONDS", "0"))
app = Celery("peer", broker=os.environ["REDIS_URL"], backend=os.environ["REDIS_URL"])
app.conf.broker_connection_retry_on_startup = True


@app.task(name="noop")
def noop(i: int) -> int:
    if SECONDS:
        time.sleep(SECONDS)
    return i


@app.task(name="stamp")
def stamp_task() -> float:
    return time.time()


def fill(first: int, last: int) -> None:
    for i in range(first, last):
        app.send_task("noop", (i,), ignore_result=False)


def stamp() -> Any:
    return stamp_task.delay()


def stamped(result: Any) -> float:
    return result.get(timeout=20)
