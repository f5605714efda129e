"""Wait for the end of a job, by blocking reads of the streams to which its end is written."""

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

MAX_WAIT_SECONDS = 60
READ_BLOCK_SECONDS = 5.0  # of one read, so that a hanging Redis is noticed soon
MAX_WAITERS = 500
"""Waiting clients of one process; any further client is answered immediately, as RFC 7240 allows."""

log = structlog.get_logger("jobline")

_waiting = Counter[str]()
"""The number of waiting clients of each caller."""
_lock = threading.Lock()


def wait(
    connection: redis.Redis,
    blocking: redis.Redis,
    job_id: str,
    seconds: float,
    caller: str = "",
    max_per_caller: int = MAX_WAITERS,
) -> dict[str, Any] | None:
    """Return the job once it has ended, or its last known state after `seconds` or a loss of Redis; None if missing.

    Returns at once where MAX_WAITERS clients wait already, or `max_per_caller` of this caller. `blocking` is a client
    for reads that take up to READ_BLOCK_SECONDS.

    Raises:
        redis.RedisError: the job could not be read at all.
    """
    with _slot(caller, max_per_caller) as may_wait:
        if may_wait:
            return _wait(connection, blocking, job_id, seconds)
        return job_view.fetch(connection, [job_id], history=True)[0]


@contextmanager
def _slot(caller: str, max_per_caller: int) -> Iterator[bool]:
    with _lock:
        is_free = _waiting.total() < MAX_WAITERS and _waiting[caller] < max_per_caller
        _waiting[caller] += is_free
    try:
        yield is_free
    finally:
        with _lock:
            _waiting[caller] -= is_free
            if not _waiting[caller]:
                del _waiting[caller]


def _wait(connection: redis.Redis, blocking: redis.Redis, job_id: str, seconds: float) -> dict[str, Any] | None:
    deadline, budget = time.monotonic() + seconds, int(1000 * seconds)
    last_ids: dict[Any, Any] = {}
    for key in (results_key(job_id), ended_key(job_id)):
        latest = connection.xrevrange(key, count=1)
        last_ids[key] = latest[0][0] if latest else "0-0"
    job = job_view.fetch(connection, [job_id], history=True)[0]
    while job and job["status"] not in ENDED:
        remaining = min(budget, int(1000 * (deadline - time.monotonic())))
        if remaining <= 0:
            break
        try:
            block = min(remaining, int(1000 * READ_BLOCK_SECONDS))
            entries_by_key = blocking.xread(last_ids, block=block)
            job = job_view.fetch(connection, [job_id], history=True)[0]
        except redis.RedisError as error:
            log.warning("redis is away", error=f"{type(error).__name__}: {error}")
            break
        budget -= 0 if entries_by_key else block  # in tests, the clock may stand still
        for key, entries in entries_by_key or []:
            last_ids[key.decode()] = entries[-1][0]
    return job
