"""Pages of jobs, queues and workers: each costs the page, not the queue, and never runs RQ's clean-up."""

from collections.abc import Iterable, Iterator
from typing import Any

import redis

from app import merge
from app.errors import NotFound
from app.queues import paused
from app.redis_keys import QUEUES, WORKERS, queue_key, registry_key
from app.selection import Selection
from app.sources import REGISTRY_OF, Source

Job = dict[str, Any]


def queue_names(connection: redis.Redis) -> list[str]:
    return sorted(key.decode(errors="replace").removeprefix("rq:queue:") for key in connection.smembers(QUEUES))


def sources_of(connection: redis.Redis, statuses: Iterable[str], queue: str | None) -> list[Source]:
    """Where jobs with these statuses lie, in one queue or in all."""
    queues = [queue] if queue else queue_names(connection)
    return [Source(REGISTRY_OF[status], name) for status in statuses for name in queues]


def jobs(
    connection: redis.Redis, selection: Selection, limit: int, cursor: str | None = None
) -> tuple[list[Job], str | None]:
    """A page of the jobs that are meant, newest first, and the cursor of the next page if there may be one.

    Raises:
        BadRequest: a cursor that was not given out here.
    """
    statuses = [selection.status] if selection.status else REGISTRY_OF
    return merge.page(connection, sources_of(connection, statuses, selection.queue), selection.fits, limit, cursor)


def queues(connection: redis.Redis, names: list[str] | None = None) -> list[dict[str, Any]]:
    """Each queue with the number of its jobs in each state, and whether it is paused."""
    names = queue_names(connection) if names is None else names
    kinds = ("wip", "scheduled", "deferred", "failed", "finished", "canceled")
    with connection.pipeline(transaction=False) as pipeline:
        for name in names:
            pipeline.llen(queue_key(name))
            for kind in kinds:
                pipeline.zcard(registry_key(kind, name))
        counts = iter(pipeline.execute())
    held = paused(connection)
    return [
        {
            "name": name,
            "counts": dict(zip(("queued", "started", *kinds[1:]), counts, strict=False)),
            "paused": name in held,
        }
        for name in names
    ]


def queue(connection: redis.Redis, name: str) -> dict[str, Any]:
    """Raises NotFound for a queue that never had a job, and is not paused."""
    if name not in queue_names(connection) and name not in paused(connection):
        raise NotFound(f"No queue {name!r}")
    return queues(connection, [name])[0]


def workers(connection: redis.Redis) -> list[dict[str, Any]]:
    """The workers that are registered, with what each does."""
    keys = sorted(connection.smembers(WORKERS))
    with connection.pipeline(transaction=False) as pipeline:
        for key in keys:
            pipeline.hgetall(key)
        raws = pipeline.execute()
    return list(_workers(keys, raws))


def worker(connection: redis.Redis, name: str) -> dict[str, Any]:
    """One worker. Raises NotFound: none of this name is registered."""
    key = f"rq:worker:{name}".encode()
    found = list(_workers([key], [connection.hgetall(key)])) if connection.sismember(WORKERS, key) else []
    if not found:
        raise NotFound(f"No worker {name!r}")
    return found[0]


def _workers(keys: list[bytes], raws: list[dict[bytes, bytes]]) -> Iterator[dict[str, Any]]:
    for key, raw in zip(keys, raws, strict=True):
        if raw:
            text = {name.decode(): value.decode(errors="replace") for name, value in raw.items()}
            yield {
                "name": key.decode(errors="replace").removeprefix("rq:worker:"),
                "state": text.get("state", "?"),
                "queues": [name for name in text.get("queues", "").split(",") if name],
                "current_job": text.get("current_job"),
                "hostname": text.get("hostname"),
                "pid": int(text.get("pid") or 0),
                "birth": text.get("birth"),
                "last_heartbeat": text.get("last_heartbeat"),
                "successful_job_count": int(text.get("successful_job_count") or 0),
                "failed_job_count": int(text.get("failed_job_count") or 0),
                "total_working_time": float(text.get("total_working_time") or 0),
            }
