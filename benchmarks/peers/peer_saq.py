"""SAQ on Redis with default settings."""

import asyncio
import os
import time
from typing import Any

from saq import Queue

SECONDS = float(os.environ.get("JOB_SECONDS", "0"))
queue = Queue.from_url(os.environ["REDIS_URL"])


async def noop(_: dict[str, Any], *, i: int) -> int:
    if SECONDS:
        await asyncio.sleep(SECONDS)
    return i


async def stamp_task(_: dict[str, Any]) -> float:
    return time.time()


settings = {"queue": queue, "functions": [noop, stamp_task], "concurrency": int(os.environ.get("CONCURRENCY", "10"))}


async def open() -> None:
    await queue.connect()


async def fill(first: int, last: int) -> None:
    for start in range(first, last, 20):
        await asyncio.gather(*(queue.enqueue("noop", i=i, timeout=0) for i in range(start, min(last, start + 20))))


async def stamp() -> Any:
    return await queue.enqueue("stamp_task")


async def stamped(job: Any) -> float:
    await job.refresh(20)
    return job.result
