"""What is done with a whole queue: pause, resume, empty. A paused queue accepts jobs, and workers take none from it.

The jobs stay in RQ's list: `rq info` and the dashboard count them as ever. A stock `rq worker` knows no pause.
"""

import redis

from app.redis.keys import PAUSED, queue_key
from app.redis.scripts import Script

EMPTY = Script("lifecycle/empty")
BATCH_SIZE = 500  # jobs deleted in one step


def pause(connection: redis.Redis, queue: str) -> None:
    connection.sadd(PAUSED, queue)


def resume(connection: redis.Redis, queue: str) -> None:
    connection.srem(PAUSED, queue)


def paused(connection: redis.Redis) -> set[str]:
    """Their names."""
    return {name.decode(errors="replace") for name in connection.smembers(PAUSED)}


def empty(connection: redis.Redis, queue: str) -> int:
    """Delete all jobs that wait in it now, a batch at a time; how many."""
    remaining, deleted = int(connection.llen(queue_key(queue))), 0
    while remaining > 0:
        removed = int(EMPTY(connection, queue=queue, count=min(remaining, BATCH_SIZE)))
        if removed == 0:
            break
        remaining, deleted = remaining - removed, deleted + removed
    return deleted
