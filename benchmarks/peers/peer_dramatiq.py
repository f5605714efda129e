"""Dramatiq on Redis with its Results middleware."""

import os
import time
from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

SECONDS = float(os.environ.get("JOB_SECONDS", "0"))
URL = os.environ["REDIS_URL"]
broker = RedisBroker(url=URL)
broker.add_middleware(Results(backend=RedisBackend(url=URL), store_results=True))
dramatiq.set_broker(broker)


@dramatiq.actor(actor_name="noop")
def noop(i: int) -> int:
    if SECONDS:
        time.sleep(SECONDS)
    return i


@dramatiq.actor(actor_name="stamp")
def stamp_actor() -> float:
    return time.time()


def fill(first: int, last: int) -> None:
    for i in range(first, last):
        noop.send(i)


def stamp() -> Any:
    return stamp_actor.send()


def stamped(message: Any) -> float:
    return message.get_result(block=True, timeout=20_000)
