"""QUEUE_LIMIT: no request makes more queues than that; the scheduler and the dashboard look at each queue there is.

Queues named in QUEUES, and those that are there, are always taken. New names are checked by the script that writes the
jobs (enqueue/queue_limit.lua); those of schedules when they are put, and before each run.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import redis

from app.errors import Conflict
from app.redis.keys import QUEUES, queue_key
from app.settings import Settings

if TYPE_CHECKING:
    from app.enqueue.new_job import NewJob


def limit_for(queue: str | None, settings: Settings) -> int | None:
    """How many queues there may be with this one; None: it is always taken."""
    return None if queue is None or queue in settings.queue_names else settings.queue_limit


def limited_queues(jobs: Iterable["NewJob"]) -> tuple[list[str], int]:
    """Queues of these jobs that may be one too many, and the limit."""
    limit_of = {job.queue: job.queue_limit for job in jobs if job.queue_limit is not None}
    return list(limit_of), min(limit_of.values(), default=0)


def script_args(jobs: Iterable["NewJob"]) -> dict[str, str | int]:
    """Arguments of a script that writes these jobs."""
    names, limit = limited_queues(jobs)
    return {"limited_queues": " ".join(names), "queue_limit": limit} if names else {}


def too_many_queues_error(queue: bytes, jobs: Iterable["NewJob"]) -> Conflict:
    """What a script says by its name of a queue that would be one too many."""
    return too_many_queues(queue.decode(), limited_queues(jobs)[1])


def check(connection: redis.Redis, jobs: Sequence["NewJob"]) -> None:
    """Raises Conflict: there would be too many queues. Costs a round trip if a queue is not one of QUEUES."""
    names, limit = limited_queues(jobs)
    if not names:
        return
    known = connection.smembers(QUEUES)
    new = [name for name in names if queue_key(name).encode() not in known]
    if len(known) + len(new) > limit and new:
        raise too_many_queues(new[max(0, limit - len(known))], limit)


def too_many_queues(queue: str, limit: int | None) -> Conflict:
    return Conflict(
        f"Queue {queue!r} would be one more than QUEUE_LIMIT allows, which is {limit}: "
        "take one that there is, or name it in QUEUES"
    )
