"""Waiting for a job's end: one blocking read of the streams that its end is written to, no polling."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis

from app import job_state
from app.redis_keys import ended_key, results_key

LONGEST = 60  # seconds
MOST = 500
"""Clients that wait at once on one process; another one is answered at once, which a preference allows."""

_waiting = Counter[str]()
"""How many clients of each caller wait."""
_lock = threading.Lock()


def wait(
    connection: redis.Redis, job_id: str, seconds: float, caller: str = "", share: int = MOST
) -> dict[str, Any] | None:
    """The job once it has ended, or as it is after `seconds`; None if there is none.

    It is as it is at once where MOST clients wait already, or `share` of this caller. `connection` must not time out
    before: give it a socket_timeout above LONGEST.
    """
    with _place(caller, share) as may_wait:
        if may_wait:
            return _wait(connection, job_id, seconds)
        return job_state.fetch(connection, [job_id], history=True)[0]


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


def _wait(connection: redis.Redis, job_id: str, seconds: float) -> dict[str, Any] | None:
    until = time.monotonic() + seconds
    places: dict[Any, Any] = {}
    for key in (results_key(job_id), ended_key(job_id)):
        last = connection.xrevrange(key, count=1)
        places[key] = last[0][0] if last else "0-0"
    job = job_state.fetch(connection, [job_id], history=True)[0]
    while job and job["status"] not in job_state.ENDED:
        left = int(1000 * (until - time.monotonic()))
        if left <= 0:
            break
        found = connection.xread(places, block=left)
        job = job_state.fetch(connection, [job_id], history=True)[0]
        if not found:
            break
        for key, entries in found:
            places[key.decode()] = entries[-1][0]
    return job
