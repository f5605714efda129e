"""Whether the processes of a host live, as seen in Redis."""

import socket
import time
from datetime import UTC, datetime

import redis

from app.hash_values import float_of
from app.redis_errors import raise_if_away
from app.redis_keys import SCHEDULERS, WORKERS

FRESH = 30.0  # seconds


class Unhealthy(Exception):
    """Says what does not move."""


def check_workers(connection: redis.Redis) -> None:
    """That each worker of this host has beaten lately, and seen its horse move.

    Raises:
        Unhealthy: one has not, there is none, or Redis is away.
    """
    try:
        found = [connection.hgetall(key) for key in connection.smembers(WORKERS)]
    except redis.RedisError as error:
        raise Unhealthy(f"Redis is away: {type(error).__name__}") from None
    ours = [worker for worker in found if worker.get(b"hostname") == socket.gethostname().encode()]
    if not ours:
        raise Unhealthy("no worker of this host is registered")
    for worker in ours:
        for field, who in ((b"last_heartbeat", "worker"), (b"horse_moved_at", "its work horse")):
            if _age(worker.get(field)) > FRESH:
                raise Unhealthy(f"{who} with pid {worker.get(b'pid', b'?').decode()} has not moved for {FRESH:.0f} s")


def check_scheduler(connection: redis.Redis) -> None:
    """That a scheduler of this host has beaten lately, and that one, of any host, leads.

    Raises:
        Unhealthy: it has not, there is none, or Redis is away.
    """
    try:
        found = _schedulers(connection)
    except redis.RedisError as error:
        raise Unhealthy(f"Redis is away: {type(error).__name__}") from None
    ours = [_since(one) for one in found if one.get(b"hostname") == socket.gethostname().encode()]
    if not ours:
        raise Unhealthy("no scheduler of this host is registered")
    if min(ours) > FRESH:
        raise Unhealthy(f"the scheduler has not moved for {FRESH:.0f} s")
    age = _age_of_leader(found)
    if age is None or age > FRESH:
        raise Unhealthy("no scheduler leads")


def scheduler_age(connection: redis.Redis) -> float | None:
    """Seconds since the scheduler that leads has moved; None if none does."""
    return _age_of_leader(_schedulers(connection))


def _age_of_leader(schedulers: list[dict[bytes, bytes]]) -> float | None:
    return min((_since(one) for one in schedulers if one.get(b"leads") == b"1"), default=None)


def _schedulers(connection: redis.Redis) -> list[dict[bytes, bytes]]:
    """Those that live, as far as is known."""
    keys = list(connection.smembers(SCHEDULERS))
    with connection.pipeline(transaction=False) as pipeline:
        for key in keys:
            pipeline.hgetall(key)
        answers = pipeline.execute(raise_on_error=False)
    raise_if_away(answers)
    found = [(key, answer) for key, answer in zip(keys, answers, strict=True) if isinstance(answer, dict)]
    gone = [key for key, one in found if not one]
    if gone:
        connection.srem(SCHEDULERS, *gone)
    return [one for _, one in found if one and b"death" not in one]


def _since(scheduler: dict[bytes, bytes]) -> float:
    return max(0.0, time.time() - (float_of(scheduler.get(b"last_heartbeat")) or 0.0))


def _age(stamp: bytes | None) -> float:
    return (datetime.now(UTC) - datetime.fromisoformat(stamp.decode())).total_seconds() if stamp else float("inf")
