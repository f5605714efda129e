"""Pages of jobs, queues and workers: each costs the page, not the queue, and never runs RQ's clean-up.

A list of jobs is several sources laid end to end: each queue's list and registries, each newest first. A cursor says
which source, and where in it: a score and an id in a registry, a distance from the end in a queue.
"""

import base64
import binascii
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import orjson
import redis

from app import job_state
from app.errors import BadRequest, NotFound
from app.queues import paused
from app.redis import QUEUES, WORKERS, queue_key, registry_key

REGISTRY_OF = {
    "started": "wip",
    "scheduled": "scheduled",
    "deferred": "deferred",
    "failed": "failed",
    "stopped": "failed",
    "finished": "finished",
    "canceled": "canceled",
}
STATES = ("queued", *REGISTRY_OF)
FARTHEST = 2**50  # above every score (a time in seconds) and every length
READ_AT_MOST = 2000  # jobs looked at for one page, however few pass the filter

Job = dict[str, Any]


@dataclass(frozen=True)
class Source:
    """One list or registry of one queue."""

    registry: str | None
    queue: str

    def after(self, connection: redis.Redis, place: Any, count: int) -> list[tuple[str, Any]]:
        """Up to `count` ids after a place, newest first, each with its own place."""
        if self.registry is None:
            return self._from_list(connection, place, count)
        key = registry_key(self.registry, self.queue)
        score, last = place or ("+inf", "")
        found = connection.zrevrangebyscore(key, score, "-inf", start=0, num=count + 100, withscores=True)
        pairs = [(member.decode(errors="replace"), (value, member.decode(errors="replace"))) for member, value in found]
        # members of one score come in descending order: those not below the last one were on the page before
        pairs = [pair for pair in pairs if not place or pair[1][0] < score or pair[0] < last]
        return pairs[:count]

    def _from_list(self, connection: redis.Redis, place: Any, count: int) -> list[tuple[str, Any]]:
        key, end = queue_key(self.queue), 0
        if place:
            shown, last = int(place[0]), place[1]
            rank = connection.execute_command("LPOS", key, last, "RANK", -1, "MAXLEN", shown + 100_000)
            end = connection.llen(key) - int(rank) if rank is not None else shown
        found = connection.lrange(key, -end - count, -end - 1)
        ids = [item.decode(errors="replace") for item in reversed(found)]
        return [(job_id, (end + n, job_id)) for n, job_id in enumerate(ids, 1)]


def queue_names(connection: redis.Redis) -> list[str]:
    return sorted(key.decode(errors="replace").removeprefix("rq:queue:") for key in connection.smembers(QUEUES))


def jobs(
    connection: redis.Redis,
    limit: int,
    cursor: str | None = None,
    status: str | None = None,
    queue: str | None = None,
    wanted: Callable[[Job], bool] = lambda _: True,
) -> tuple[list[Job], str | None]:
    """A page of jobs that are `wanted`, and the cursor of the next page if there may be one.

    Raises:
        BadRequest: a cursor that was not given out here.
    """
    queues = [queue] if queue else queue_names(connection)
    registries = [None if s == "queued" else REGISTRY_OF[s] for s in ([status] if status else STATES)]
    sources = [Source(registry, name) for registry in dict.fromkeys(registries) for name in queues]
    number, place = _decode(cursor, len(sources))
    page: list[Job] = []
    read = 0
    while number < len(sources):
        batch = sources[number].after(connection, place, limit)
        ids = [job_id.split(":")[0] for job_id, _ in batch]
        for job, (_, at) in zip(job_state.fetch(connection, ids), batch, strict=True):
            place = at
            if job and (status is None or job["status"] == status) and wanted(job):
                page.append(job)
                if len(page) == limit:
                    return page, _encode(number, place)
        read += len(batch)
        if len(batch) < limit:
            number, place = number + 1, None
        if read >= READ_AT_MOST and number < len(sources):
            return page, _encode(number, place)
    return page, None


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


def _encode(source: int, place: Any) -> str:
    return base64.urlsafe_b64encode(orjson.dumps([source, place])).decode().rstrip("=")


def _decode(cursor: str | None, sources: int) -> tuple[int, Any]:
    if not cursor:
        return 0, None
    try:
        source, place = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if not (isinstance(source, int) and 0 <= source < max(sources, 1)):
            raise ValueError(source)
        if place is not None:
            first, last = place
            if not isinstance(first, int | float) or not 0 <= first < FARTHEST or not isinstance(last, str):
                raise TypeError(place)
    except (ValueError, TypeError, binascii.Error):
        raise BadRequest("The cursor is not one of ours") from None
    return source, place
