"""QUEUE_LIMIT: no request makes more queues than that; the scheduler and the dashboard look at each queue there is.

Queues named in QUEUES, and those that are there, are always taken. New names are checked in the step that writes the
jobs: in its script (queue_limit.lua), or in its transaction, which then watches the set of queues.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import redis
from redis.client import Pipeline

from app.errors import Conflict
from app.redis import QUEUES, queue_key
from app.settings import Settings

if TYPE_CHECKING:
    from app.queueing import NewJob


def limit_for(queue: str | None, settings: Settings) -> int | None:
    """How many queues there may be with this one; None: it is always taken."""
    return None if queue is None or queue in settings.queue_names else settings.queue_limit


def limited(jobs: Iterable["NewJob"]) -> tuple[list[str], int]:
    """Queues of these jobs that may be one too many, and the limit."""
    limit_of = {job.queue: job.queue_limit for job in jobs if job.queue_limit is not None}
    return list(limit_of), min(limit_of.values(), default=0)


def watched(jobs: Iterable["NewJob"]) -> list[str]:
    """What a transaction watches that writes these jobs, and calls `check`."""
    return [QUEUES] if limited(jobs)[0] else []


def check(connection: redis.Redis | Pipeline, jobs: Sequence["NewJob"]) -> None:
    """Raises Conflict: there would be too many queues. Costs a round trip if a queue is not one of QUEUES."""
    names, limit = limited(jobs)
    if not names:
        return
    known = connection.smembers(QUEUES)
    new = [name for name in names if queue_key(name).encode() not in known]
    if len(known) + len(new) > limit and new:
        raise too_many(new[max(0, limit - len(known))], limit)


def too_many(queue: str, limit: int | None) -> Conflict:
    return Conflict(
        f"Queue {queue!r} would be one more than QUEUE_LIMIT allows, which is {limit}: "
        "take one that there is, or name it in QUEUES"
    )
