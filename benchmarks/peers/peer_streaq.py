"""streaQ with default settings."""

import os
import time
from typing import Any

from streaq import Worker

worker = Worker(redis_url=os.environ["REDIS_URL"])


@worker.task
async def noop(i: int) -> int:
    return i


@worker.task
async def stamp_task() -> float:
    return time.time()


async def open() -> None:
    await worker.__aenter__()


async def fill(first: int, last: int) -> None:
    for start in range(first, last, 1000):
        await worker.enqueue_many([noop.enqueue(i) for i in range(start, min(last, start + 1000))])


async def stamp() -> Any:
    return await stamp_task.enqueue()


async def stamped(task: Any) -> float:
    return (await task.result(timeout=20)).result
