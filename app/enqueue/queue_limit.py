"""QUEUE_LIMIT: the maximum number of queues, because each one costs the scheduler and the dashboard time.

Existing queues and those named in QUEUES are always accepted. New names are checked by the script that writes the jobs
(enqueue/queue_limit.lua); those of schedules when they are stored and before each run.
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
    """The maximum number of queues including this one; None: it is always accepted."""
    return None if queue is None or queue in settings.queue_names else settings.queue_limit


def limited_queues(jobs: Iterable["NewJob"]) -> tuple[list[str], int]:
    """The queues of these jobs to which the limit applies, and the limit."""
    limit_of = {job.queue: job.queue_limit for job in jobs if job.queue_limit is not None}
    return list(limit_of), min(limit_of.values(), default=0)


def script_args(jobs: Iterable["NewJob"]) -> dict[str, str | int]:
    """Arguments for a script that writes these jobs."""
    names, limit = limited_queues(jobs)
    return {"limited_queues": " ".join(names), "queue_limit": limit} if names else {}


def too_many_queues_error(queue: bytes, jobs: Iterable["NewJob"]) -> Conflict:
    """The error for a script's reply that names the queue which would exceed the limit."""
    return too_many_queues(queue.decode(), limited_queues(jobs)[1])


def check(connection: redis.Redis, jobs: Sequence["NewJob"]) -> None:
    """Raises Conflict: there would be too many queues. Takes a round trip if a queue is not in QUEUES."""
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
