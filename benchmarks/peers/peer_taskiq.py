"""taskiq and taskiq-redis: RedisStreamBroker, RedisAsyncResultBackend, defaults; results expire, as with the others."""

import asyncio
import os
import time
from typing import Any

from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

SECONDS = float(os.environ.get("JOB_SECONDS", "0"))
URL = os.environ["REDIS_URL"]
broker = RedisStreamBroker(URL).with_result_backend(RedisAsyncResultBackend(URL, result_ex_time=3600, prefix_str="res"))


@broker.task(task_name="noop")
async def noop(i: int) -> int:
    if SECONDS:
        await asyncio.sleep(SECONDS)
    return i


@broker.task(task_name="stamp")
async def stamp_task() -> float:
    return time.time()


async def open() -> None:
    await broker.startup()


async def fill(first: int, last: int) -> None:
    for start in range(first, last, 20):
        await asyncio.gather(*(noop.kiq(i) for i in range(start, min(last, start + 20))))


async def stamp() -> Any:
    return await stamp_task.kiq()


async def stamped(task: Any) -> float:
    return (await task.wait_result(timeout=20)).return_value
