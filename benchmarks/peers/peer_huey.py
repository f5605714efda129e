"""Huey: RedisHuey with default options."""

import os
import time
from typing import Any

from huey import RedisHuey

SECONDS = float(os.environ.get("JOB_SECONDS", "0"))
huey = RedisHuey("peer", url=os.environ["REDIS_URL"])


@huey.task()
def noop(i: int) -> int:
    if SECONDS:
        time.sleep(SECONDS)
    return i


@huey.task()
def stamp_task() -> float:
    return time.time()


def fill(first: int, last: int) -> None:
    for i in range(first, last):
        noop(i)


def stamp() -> Any:
    return stamp_task()


def stamped(result: Any) -> float:
    return result.get(blocking=True, timeout=20)
