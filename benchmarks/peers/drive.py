"""The producer side of every peer, in the peer's own environment: drive.py MODULE OPERATION ...

It answers one line of JSON. Operations: `fill N`, and `latency N SECONDS_APART`, which answers the milliseconds from
enqueue to start of each job. A module offers fill(first, last), stamp() -> handle,
stamped(handle) -> time of start, and perhaps open(); each of them plain, or a coroutine.
"""

import asyncio
import importlib
import inspect
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from types import ModuleType
from typing import Any


async def fill(peer: ModuleType, count: str) -> int:
    await _settled(peer.fill(0, int(count)))
    return int(count)


async def latency(peer: ModuleType, count: str, apart: str) -> list[float]:
    handles, due = [], time.time()
    for _ in range(int(count)):
        due += float(apart)
        await asyncio.sleep(max(0, due - time.time()))
        enqueued = time.time()
        handles.append((enqueued, await _settled(peer.stamp())))
    return [1000 * (await _settled(peer.stamped(handle)) - enqueued) for enqueued, handle in handles]


async def _settled(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


async def main(module: str, operation: str, *words: str) -> None:
    peer = importlib.import_module(module)
    if hasattr(peer, "open"):
        await _settled(peer.open())
    operations: dict[str, Callable[..., Awaitable[Any]]] = {"fill": fill, "latency": latency}
    answer = await operations[operation](peer, *words)
    print(json.dumps(answer), flush=True)
    os._exit(0)  # ArdiQ's threads can crash an interpreter that ends in good order


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
