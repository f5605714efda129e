"""The rules: what is wrong with a service at this moment."""

from collections.abc import Iterator
from typing import NamedTuple

import redis

from app.catalog.catalog import Catalog
from app.metrics import store
from app.metrics.measures import Measures
from app.redis.client import seconds_now
from app.redis.keys import OUTBOX, breaker_key
from app.schedules import store as schedules
from app.settings import Settings
from app.views import listing, served

FAILURE_SECONDS = 600  # in which the share of failures is counted
MIN_ENDS = 20  # jobs of a function that must have ended in this time


class Alert(NamedTuple):
    """Something that is wrong. Its name is the same for as long as it lasts."""

    name: str
    text: str
    look_at: str
    """A path of the API that says more."""
    at_once: bool = False
    """It is told at the first look, and not only at the second."""


def current(connection: redis.Redis, catalog: Catalog, settings: Settings) -> list[Alert]:
    """Everything that is wrong now. Raises redis.RedisError."""
    return [
        *_queues(connection, settings),
        *_schedules(connection, settings),
        *_breakers(connection, catalog),
        *_redis(connection, settings),
        *_failures(connection, settings),
    ]


def _queues(connection: redis.Redis, settings: Settings) -> Iterator[Alert]:
    queues, _ = listing.queues(connection)
    waiting = [queue for queue in queues if queue["counts"]["queued"] and not queue["paused"]]
    served_queues, now = served.served_queues(connection), seconds_now(connection)
    for queue in waiting:
        name, queued = queue["name"], queue["counts"]["queued"]
        if name not in served_queues:
            yield Alert(
                f"no_worker:{name}", f"{queued} jobs wait on queue {name}, and no worker takes them", "/workers"
            )
        elif listing.age(queue, now) > settings.alert_wait:
            yield Alert(
                f"queue_waits:{name}",
                f"The next job of queue {name} has waited for more than {settings.alert_wait} s; {queued} are queued",
                f"/queues/{name}",
            )


def _schedules(connection: redis.Redis, settings: Settings) -> Iterator[Alert]:
    now = seconds_now(connection)
    for state in schedules.watched(connection):
        if state.lateness(now) > settings.alert_lag:
            text = (
                f"The run of schedule {state.name} that was due at {state.due:%Y-%m-%d %H:%M:%S} UTC is not queued yet"
            )
            yield Alert(f"schedule_late:{state.name}", text, f"/schedules/{state.name}")


def _breakers(connection: redis.Redis, catalog: Catalog) -> Iterator[Alert]:
    for function in catalog.offered.values():
        if function.options.breaker and connection.exists(breaker_key(function.name, "open")):
            text = f"The circuit breaker of {function.name} is open: its jobs wait"
            yield Alert(f"breaker_open:{function.name}", text, f"/failures?function={function.name}")


def _redis(connection: redis.Redis, settings: Settings) -> Iterator[Alert]:
    try:
        memory = connection.info("memory")
    except redis.ResponseError:  # it may be forbidden
        memory = {}
    used, limit = int(memory.get("used_memory", 0)), int(memory.get("maxmemory", 0))
    if limit and used > settings.alert_memory * limit:
        text = f"Redis uses {used / limit:.0%} of its memory. When it is full, new jobs are refused"
        yield Alert("redis_full", text, "/queues")
    waiting = connection.xlen(OUTBOX)
    if waiting > settings.alert_outbox:
        yield Alert("outbox_grows", f"The webhooks of {waiting} ended jobs are not enqueued yet", "/workers")


def _failures(connection: redis.Redis, settings: Settings) -> Iterator[Alert]:
    now = int(seconds_now(connection))
    starts = range(now - now % 60 - FAILURE_SECONDS, now + 1, 60)
    functions = dict[str, Measures]()
    for _, (name, _), measured in store.read(connection, 60, starts, lambda series: bool(series[0])):
        functions.setdefault(name, Measures()).merge_json(measured)
    for name, measures in functions.items():
        bad = measures.counts["failed"] + measures.counts["lost"]
        ended = bad + measures.counts["finished"]
        if ended >= MIN_ENDS and bad > settings.alert_failures * ended:
            text = f"{bad} of {ended} jobs of {name} failed in the last {FAILURE_SECONDS // 60} minutes"
            yield Alert(f"function_fails:{name}", text, f"/failures?function={name}")
