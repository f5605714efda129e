"""Queues served by live workers, and warnings about those that are not: jobs on them wait for ever."""

import contextlib
import math
import threading
import time
from collections.abc import Iterable
from typing import Any

import redis
import structlog

from app.redis.errors import execute_each
from app.redis.keys import WORKERS, queue_key
from app.views import listing

REFRESH_AFTER_SECONDS = 2.0  # then the set of served queues is refreshed in the background
MAX_AGE_SECONDS = 5.0  # then it is refreshed before use
CHECK_INTERVAL_SECONDS = 5.0  # of the scheduler

JSONObject = dict[str, Any]

log = structlog.get_logger("jobline")


def served_queues(connection: redis.Redis) -> set[str]:
    """The queues of all live workers, including stock ones.

    RQ lets the hash of a worker expire when its heartbeat stops; Jobline's sweeper removes it sooner.
    """
    with connection.pipeline(transaction=False) as pipeline:
        for key in connection.smembers(WORKERS):
            pipeline.hmget(key, "queues", "last_heartbeat")
        answers = [answer for answer in execute_each(pipeline) if isinstance(answer, list)]
    return {name for queues, beat in answers if queues and beat for name in queues.decode(errors="replace").split(",")}


def warning(queue: str) -> str:
    return f'no worker takes jobs from queue "{queue}"'


class ServedQueues:
    """A cache of the served queues in one API process, a few seconds old at most."""

    def __init__(self, connection: redis.Redis, enabled: bool = True) -> None:
        """`enabled=False`: never warn, for tests that run all jobs themselves."""
        self.connection, self.enabled = connection, enabled
        self._served: set[str] | None = None
        """None: unknown."""
        self._read_at = -math.inf
        self._lock = threading.Lock()

    def warnings(self, queues: Iterable[str]) -> dict[str, list[str]]:
        """`{"warnings": [...]}` with one entry for each of these queues that no worker serves; {} if all are served.

        Never raises, since it is only a hint.
        """
        if not self.enabled:
            return {}
        age = time.monotonic() - self._read_at
        if age > MAX_AGE_SECONDS:
            self._refresh()
        elif age > REFRESH_AFTER_SECONDS and not self._lock.locked():
            with contextlib.suppress(RuntimeError):  # no more threads can be started
                threading.Thread(target=self._refresh, daemon=True).start()
        served = self._served
        warnings = [] if served is None else [warning(name) for name in dict.fromkeys(queues) if name not in served]
        return {"warnings": warnings} if warnings else {}

    def with_warnings(self, queues: list[JSONObject]) -> list[JSONObject]:
        """Add a warning to each queue that has waiting jobs and no worker at this moment."""
        if self.enabled:
            self._refresh()
        return [{**queue, **(self.warnings([queue["name"]]) if _waits(queue) else {})} for queue in queues]

    def _refresh(self) -> None:
        """Refresh the cache, unless another thread is doing so: threads never wait for each other here."""
        if not self._lock.acquire(blocking=False):
            return
        try:
            self._served = served_queues(self.connection)
        except redis.RedisError:
            self._served = None
        finally:
            self._read_at = time.monotonic()
            self._lock.release()


def _waits(queue: JSONObject) -> bool:
    return any(queue["counts"][state] for state in ("queued", "scheduled", "deferred"))


class UnservedQueues:
    """Logs queues that have waiting jobs and no worker: each once, until it is served again."""

    def __init__(self, connection: redis.Redis) -> None:
        self.connection = connection
        self._suspected = set[str]()
        self._logged = set[str]()
        self._next_check_at = 0.0

    def check(self) -> None:
        """Check the queues, at most once per CHECK_INTERVAL_SECONDS.

        A queue is logged at the second check, because starting workers need some time.

        Raises:
            redis.RedisError: the next check catches up.
        """
        if time.monotonic() < self._next_check_at:
            return
        self._next_check_at = time.monotonic() + CHECK_INTERVAL_SECONDS
        waiting, served = self._waiting(), served_queues(self.connection)
        unserved = waiting.keys() - served
        for name in sorted((unserved & self._suspected) - self._logged):
            log.warning(warning(name), queue=name, waiting=waiting[name])
            self._logged.add(name)
        self._suspected = unserved
        self._logged -= served

    def _waiting(self) -> dict[str, int]:
        """The number of queued jobs of each queue that has any."""
        names = listing.queue_names(self.connection)
        with self.connection.pipeline(transaction=False) as pipeline:
            for name in names:
                pipeline.llen(queue_key(name))
            counts = execute_each(pipeline)
        return {name: count for name, count in zip(names, counts, strict=True) if isinstance(count, int) and count}
