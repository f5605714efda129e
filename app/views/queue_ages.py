"""How long the next job of each queue has waited."""

from collections.abc import Sequence
from datetime import datetime

import redis

from app.redis.client import seconds_now
from app.redis.errors import execute_each
from app.redis.keys import job_key, queue_key


def oldest(connection: redis.Redis, queues: Sequence[str]) -> dict[str, float]:
    """Seconds since the first job of each queue was queued; 0 for an empty queue, or if it cannot be read."""
    with connection.pipeline(transaction=False) as pipeline:
        for name in queues:
            pipeline.lindex(queue_key(name), 0)
        ids = [job_id if isinstance(job_id, bytes) else b"" for job_id in execute_each(pipeline)]
        for job_id in ids:
            pipeline.hget(job_key(job_id.decode(errors="surrogateescape")), "enqueued_at")
        times = execute_each(pipeline)
    now, ages = seconds_now(connection), dict[str, float]()
    for name, queued_at in zip(queues, times, strict=True):
        try:
            since = datetime.fromisoformat(queued_at.decode()).timestamp() if isinstance(queued_at, bytes) else now
        except ValueError:
            since = now
        ages[name] = max(0.0, now - since)
    return ages
