"""Waiting for a job's end: blocking reads of the streams that its end is written to."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis
import structlog

from app.redis.keys import ended_key, results_key
from app.states import ENDED
from app.views import job_view

LONGEST = 60  # seconds
BLOCK = 5.0  # seconds of one read: a Redis that hangs is noticed soon after
MOST = 500
"""Clients that wait at once on one process; another one is answered at once, which a preference allows."""

log = structlog.get_logger("jobline")

_waiting = Counter[str]()
"""How many clients of each caller wait."""
_lock = threading.Lock()


def wait(
    connection: redis.Redis,
    blocking: redis.Redis,
    job_id: str,
    seconds: float,
    caller: str = "",
    share: int = MOST,
) -> dict[str, Any] | None:
    """The job once it has ended, or as it was last known after `seconds`, or when Redis was lost; None: there is none.

    It is as it is at once where MOST clients wait already, or `share` of this caller. `blocking` is for reads that take
    up to BLOCK seconds.

    Raises:
        redis.RedisError: nothing is known of the job.
    """
    with _place(caller, share) as may_wait:
        if may_wait:
            return _wait(connection, blocking, job_id, seconds)
        return job_view.fetch(connection, [job_id], history=True)[0]


@contextmanager
def _place(caller: str, share: int) -> Iterator[bool]:
    with _lock:
        free = _waiting.total() < MOST and _waiting[caller] < share
        _waiting[caller] += free
    try:
        yield free
    finally:
        with _lock:
            _waiting[caller] -= free
            if not _waiting[caller]:
                del _waiting[caller]


def _wait(connection: redis.Redis, blocking: redis.Redis, job_id: str, seconds: float) -> dict[str, Any] | None:
    until, unspent = time.monotonic() + seconds, int(1000 * seconds)
    places: dict[Any, Any] = {}
    for key in (results_key(job_id), ended_key(job_id)):
        last = connection.xrevrange(key, count=1)
        places[key] = last[0][0] if last else "0-0"
    job = job_view.fetch(connection, [job_id], history=True)[0]
    while job and job["status"] not in ENDED:
        left = min(unspent, int(1000 * (until - time.monotonic())))
        if left <= 0:
            break
        try:
            block = min(left, int(1000 * BLOCK))
            found = blocking.xread(places, block=block)
            job = job_view.fetch(connection, [job_id], history=True)[0]
        except redis.RedisError as error:
            log.warning("redis is away", error=f"{type(error).__name__}: {error}")
            break
        unspent -= 0 if found else block  # the time of tests stands still
        for key, entries in found or []:
            places[key.decode()] = entries[-1][0]
    return job
