"""arq, tuned: by default it polls every half a second and runs 10 jobs at once."""

import asyncio
import os
import time
from typing import Any

from arq import create_pool
from arq.connections import ArqRedis, RedisSettings

SECONDS = float(os.environ.get("JOB_SECONDS", "0"))
SETTINGS = RedisSettings.from_dsn(os.environ["REDIS_URL"])
pools: list[ArqRedis] = []


async def noop(_: dict[str, Any], i: int) -> int:
    if SECONDS:
        await asyncio.sleep(SECONDS)
    return i


async def stamp_task(_: dict[str, Any]) -> float:
    return time.time()


class WorkerSettings:
    """What `arq` runs."""

    functions = [noop, stamp_task]
    redis_settings = SETTINGS
    max_jobs = int(os.environ.get("CONCURRENCY", "100"))
    poll_delay = 0.01


async def open() -> None:
    pools.append(await create_pool(SETTINGS))


async def fill(first: int, last: int) -> None:
    for start in range(first, last, 20):
        await asyncio.gather(*(pools[0].enqueue_job("noop", i) for i in range(start, min(last, start + 20))))


async def stamp() -> Any:
    return await pools[0].enqueue_job("stamp_task")


async def stamped(job: Any) -> float:
    return await job.result(timeout=20)
