"""Pause, resume and empty queues. A paused queue accepts jobs, but workers take none from it.

The jobs stay in RQ's list, so `rq info` and the dashboard count them. A stock `rq worker` ignores the pause.
"""

import redis

from app.redis.keys import PAUSED, queue_key
from app.redis.scripts import Script

EMPTY = Script("lifecycle/empty")
BATCH_SIZE = 500  # jobs


def pause(connection: redis.Redis, queue: str) -> None:
    connection.sadd(PAUSED, queue)


def resume(connection: redis.Redis, queue: str) -> None:
    connection.srem(PAUSED, queue)


def paused(connection: redis.Redis) -> set[str]:
    """The names of all paused queues."""
    return {name.decode(errors="replace") for name in connection.smembers(PAUSED)}


def empty(connection: redis.Redis, queue: str) -> int:
    """Delete all jobs that are on the queue now, in batches. Returns their number."""
    remaining, deleted = int(connection.llen(queue_key(queue))), 0
    while remaining > 0:
        removed = int(EMPTY(connection, queue=queue, count=min(remaining, BATCH_SIZE)))
        if removed == 0:
            break
        remaining, deleted = remaining - removed, deleted + removed
    return deleted
