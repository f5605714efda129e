"""Readiness of the service, and health of the processes of a host, as seen in Redis."""

import socket
import time
from collections.abc import Sequence
from datetime import UTC, datetime

import redis

from app.errors import Unavailable
from app.redis.client import seconds_now
from app.redis.errors import execute_each
from app.redis.hash_values import float_of
from app.redis.keys import READY, SCHEDULERS, WORKERS
from app.views import served

MAX_AGE_SECONDS = 30.0  # since the last heartbeat
MAX_SCHEDULER_AGE_SECONDS = 15.0  # longer than it takes another scheduler to take over
START_GRACE_SECONDS = 15.0  # after the start of an API process, while the scheduler may be starting too


class Readiness:
    """The checks of /readyz in one API process. Each returns within about a second, even if Redis hangs."""

    def __init__(self, connection: redis.Redis, queues: Sequence[str], has_workers: bool) -> None:
        """`queues`: those that need a worker; `has_workers=False`: the caller runs all jobs itself."""
        self.connection, self._queues, self._has_workers = connection, queues, has_workers
        self._started_at = time.monotonic()

    def check(self) -> float | None:
        """Check that Redis accepts writes and that a scheduler is leading. Returns the age of its heartbeat in seconds.

        None: there is no scheduler yet, and this process has just started.

        Raises:
            redis.RedisError
            Unavailable: there is no leading scheduler, or it does not make progress.
        """
        self.connection.set(READY, 1, ex=60)
        age = scheduler_age(self.connection)
        if time.monotonic() - self._started_at < START_GRACE_SECONDS:
            return age
        if age is None:
            raise Unavailable("No scheduler leads: delayed jobs, retries and schedules stand still")
        if age > MAX_SCHEDULER_AGE_SECONDS:
            raise Unavailable(f"The scheduler has not moved for {MAX_SCHEDULER_AGE_SECONDS:.0f} s")
        return age

    def warnings(self) -> list[str]:
        """A warning for each queue of QUEUES that no worker serves. Raises redis.RedisError."""
        if not self._has_workers:
            return []
        served_queues = served.served_queues(self.connection)
        return [served.warning(queue) for queue in self._queues if queue not in served_queues]


class Unhealthy(Exception):
    """The message names the process that makes no progress."""


def check_workers(connection: redis.Redis) -> None:
    """Check that each worker of this host has a recent heartbeat and a work horse that makes progress.

    Raises:
        Unhealthy: one has not, there is no worker, or Redis is away.
    """
    try:
        hashes = [connection.hgetall(key) for key in connection.smembers(WORKERS)]
    except redis.RedisError as error:
        raise Unhealthy(f"Redis is away: {type(error).__name__}") from None
    local = [worker for worker in hashes if worker.get(b"hostname") == socket.gethostname().encode()]
    if not local:
        raise Unhealthy("no worker of this host is registered")
    for worker in local:
        for field, what in ((b"last_heartbeat", "worker"), (b"horse_moved_at", "its work horse")):
            if _age(worker.get(field)) > MAX_AGE_SECONDS:
                raise Unhealthy(
                    f"{what} with pid {worker.get(b'pid', b'?').decode()} has not moved for {MAX_AGE_SECONDS:.0f} s"
                )


def check_scheduler(connection: redis.Redis) -> None:
    """Check that a scheduler of this host has a recent heartbeat, and that one of any host leads.

    Raises:
        Unhealthy: it has not, there is no scheduler, or Redis is away.
    """
    try:
        hashes, now = _schedulers(connection), seconds_now(connection)
    except redis.RedisError as error:
        raise Unhealthy(f"Redis is away: {type(error).__name__}") from None
    local = [
        _beat_age(scheduler, now) for scheduler in hashes if scheduler.get(b"hostname") == socket.gethostname().encode()
    ]
    if not local:
        raise Unhealthy("no scheduler of this host is registered")
    if min(local) > MAX_AGE_SECONDS:
        raise Unhealthy(f"the scheduler has not moved for {MAX_AGE_SECONDS:.0f} s")
    age = _age_of_leader(hashes, now)
    if age is None or age > MAX_AGE_SECONDS:
        raise Unhealthy("no scheduler leads")


def scheduler_age(connection: redis.Redis) -> float | None:
    """Seconds since the last heartbeat of the leading scheduler; None if none leads."""
    return _age_of_leader(_schedulers(connection), seconds_now(connection))


def _age_of_leader(schedulers: list[dict[bytes, bytes]], now: float) -> float | None:
    return min((_beat_age(scheduler, now) for scheduler in schedulers if scheduler.get(b"leads") == b"1"), default=None)


def _schedulers(connection: redis.Redis) -> list[dict[bytes, bytes]]:
    """The hashes of all schedulers that are not known to be dead."""
    keys = list(connection.smembers(SCHEDULERS))
    with connection.pipeline(transaction=False) as pipeline:
        for key in keys:
            pipeline.hgetall(key)
        answers = execute_each(pipeline)
    hashes = [(key, answer) for key, answer in zip(keys, answers, strict=True) if isinstance(answer, dict)]
    gone = [key for key, scheduler in hashes if not scheduler]
    if gone:
        connection.srem(SCHEDULERS, *gone)
    return [scheduler for _, scheduler in hashes if scheduler and b"death" not in scheduler]


def _beat_age(scheduler: dict[bytes, bytes], now: float) -> float:
    """Seconds since the heartbeat by the clock of Redis. If the clock is set back, it counts as old until the next."""
    return abs(now - (float_of(scheduler.get(b"last_heartbeat")) or 0.0))


def _age(stamp: bytes | None) -> float:
    return (datetime.now(UTC) - datetime.fromisoformat(stamp.decode())).total_seconds() if stamp else float("inf")
