"""ArdiQ with default settings."""

import os
import time
from typing import Any

from ardiq import Ardiq

app = Ardiq(redis_url=os.environ["REDIS_URL"], queue_name="peer")


@app.task(name="noop")
async def noop(i: int) -> int:
    return i


@app.task(name="stamp")
async def stamp_task() -> float:
    return time.time()


async def fill(first: int, last: int) -> None:
    for start in range(first, last, 1000):
        await app.enqueue_many([noop.prepare(i) for i in range(start, min(last, start + 1000))])


async def stamp() -> Any:
    return await stamp_task.enqueue()


async def stamped(job: Any) -> float:
    return (await job.result(timeout=20)).value
