"""Lists of jobs, queues and workers. The cost does not depend on the length of a queue; RQ's clean-up never runs."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import redis

from app.errors import Conflict, NotFound
from app.lifecycle.executions import MARK_LENGTH, executions, mark_of
from app.lifecycle.queues import paused
from app.redis.errors import execute_each, raise_transient
from app.redis.hash_values import float_of, int_of, text_of, time_of
from app.redis.keys import QUEUES, WORKERS, job_key, queue_key, registry_key
from app.views import merge
from app.views.registries import REGISTRY_OF, Registry
from app.views.selection import Selection

Job = dict[str, Any]
Queue = dict[str, Any]
Worker = dict[str, Any]
UnreadableEntry = dict[str, str]
"""The name of an unreadable entry, and the reason."""
WORKER_STATES = ("started", "suspended", "busy", "idle")


def queue_names(connection: redis.Redis) -> list[str]:
    return sorted(key.decode(errors="replace").removeprefix("rq:queue:") for key in connection.smembers(QUEUES))


def registries_for(connection: redis.Redis, statuses: Iterable[str], queue: str | None) -> list[Registry]:
    """The registries of jobs with these statuses, of one queue or of all."""
    queues = [queue] if queue else queue_names(connection)
    return [Registry(REGISTRY_OF[status], name) for status in statuses for name in queues]


def jobs(
    connection: redis.Redis, selection: Selection, limit: int, cursor: str | None = None
) -> tuple[list[Job], str | None]:
    """A page of the matching jobs, newest first, and the cursor of the next page if there may be one.

    Raises:
        BadRequest: the cursor is invalid.
    """
    statuses = [selection.status] if selection.status else REGISTRY_OF
    return merge.page(
        connection, registries_for(connection, statuses, selection.queue), selection.matches, limit, cursor
    )


def queues(connection: redis.Redis, names: list[str] | None = None) -> tuple[list[Queue], list[UnreadableEntry]]:
    """Queues with the number of jobs in each state, how old the next job is, and whether they are paused.

    Also returns unreadable queues.
    """
    names = queue_names(connection) if names is None else names
    kinds = ("wip", "scheduled", "deferred", "failed", "finished", "canceled")
    with connection.pipeline(transaction=False) as pipeline:
        for name in names:
            pipeline.llen(queue_key(name))
            for kind in kinds:
                pipeline.zcard(registry_key(kind, name))
        counts = iter(execute_each(pipeline))
    paused_names = paused(connection)
    known: list[Queue] = []
    unreadable: list[UnreadableEntry] = []
    for name in names:
        counts_by_state = dict(zip(("queued", "started", *kinds[1:]), counts, strict=False))
        errors = [count for count in counts_by_state.values() if isinstance(count, redis.RedisError)]
        if errors:
            unreadable.append({"name": name, "reason": str(errors[0])})
        else:
            known.append({"name": name, "counts": counts_by_state, "paused": name in paused_names})
    times = _oldest(connection, [queue["name"] for queue in known])
    return [{**queue, "oldest_enqueued_at": times[queue["name"]]} for queue in known], unreadable


def _oldest(connection: redis.Redis, names: list[str]) -> dict[str, str | None]:
    """When the next job of each queue was queued; None without one."""
    with connection.pipeline(transaction=False) as pipeline:
        for name in names:
            pipeline.lindex(queue_key(name), 0)
        ids = [job_id if isinstance(job_id, bytes) else b"" for job_id in execute_each(pipeline)]
        for job_id in ids:
            pipeline.hget(job_key(job_id.decode(errors="surrogateescape")), "enqueued_at")
        times = execute_each(pipeline)
    return {name: time_of(at) if isinstance(at, bytes) else None for name, at in zip(names, times, strict=True)}


def age(queue: Queue, now: float) -> float:
    """Seconds since the next job of a queue was queued; 0 without one. `now`: seconds since 1970."""
    queued_at = queue["oldest_enqueued_at"]
    return max(0.0, now - datetime.fromisoformat(queued_at).timestamp()) if queued_at else 0.0


def queue(connection: redis.Redis, name: str) -> Queue:
    """A queue. Raises NotFound: it never had a job and is not paused; Conflict: it cannot be read."""
    if name not in queue_names(connection) and name not in paused(connection):
        raise NotFound(f"No queue {name!r}")
    return read_queue(connection, name)


def read_queue(connection: redis.Redis, name: str) -> Queue:
    """A queue, whether or not it exists. Raises Conflict: it cannot be read."""
    known, unreadable = queues(connection, [name])
    if unreadable:
        raise Conflict(f"Queue {name!r} cannot be read: {unreadable[0]['reason']}")
    return known[0]


def workers(connection: redis.Redis) -> tuple[list[Worker], list[UnreadableEntry]]:
    """All registered workers, and unreadable ones."""
    keys = sorted(connection.smembers(WORKERS))
    with connection.pipeline(transaction=False) as pipeline:
        for key in keys:
            pipeline.hgetall(key)
        raws = execute_each(pipeline)
    known: list[Worker] = []
    unreadable: list[UnreadableEntry] = []
    jobs_by_mark = _claimed_jobs(connection)
    for key, raw in zip(keys, raws, strict=True):
        if isinstance(raw, dict) and raw:
            known.append(_worker(key, raw, jobs_by_mark))
        elif raw:
            unreadable.append({"name": _worker_name(key), "reason": str(raw)})
    return known, unreadable


def worker(connection: redis.Redis, name: str) -> Worker:
    """A worker. Raises NotFound: it is not registered; Conflict: it cannot be read."""
    key = f"rq:worker:{name}".encode()
    try:
        raw = connection.hgetall(key) if connection.sismember(WORKERS, key) else {}
    except redis.ResponseError as error:
        raise_transient([error])
        raise Conflict(f"Worker {name!r} cannot be read: {error}") from None
    if not raw:
        raise NotFound(f"No worker {name!r}")
    return _worker(key, raw, _claimed_jobs(connection))


def _claimed_jobs(connection: redis.Redis) -> dict[str, list[str]]:
    """Ids of jobs that are running or claimed, by the mark of their worker; none of stock workers."""
    jobs: dict[str, list[str]] = {}
    for execution in executions(connection):
        jobs.setdefault(execution.id[:MARK_LENGTH], []).append(execution.job_id)
    return jobs


def _worker(key: bytes, raw: dict[bytes, bytes], jobs_by_mark: dict[str, list[str]]) -> Worker:
    current_job = text_of(raw.get(b"current_job"))
    claimed = jobs_by_mark.get(mark_of(_worker_name(key)), [])
    state = text_of(raw.get(b"state"))
    return {
        "name": _worker_name(key),
        "state": state if state in WORKER_STATES else "?",
        "queues": [name for name in (text_of(raw.get(b"queues")) or "").split(",") if name],
        "current_job": current_job,
        "current_jobs": list(dict.fromkeys([*([current_job] if current_job else []), *claimed])),
        "hostname": text_of(raw.get(b"hostname")),
        "pid": int_of(raw.get(b"pid")) or 0,
        "birth": text_of(raw.get(b"birth")),
        "last_heartbeat": text_of(raw.get(b"last_heartbeat")),
        "successful_job_count": int_of(raw.get(b"successful_job_count")) or 0,
        "failed_job_count": int_of(raw.get(b"failed_job_count")) or 0,
        "total_working_time": float_of(raw.get(b"total_working_time")) or 0.0,
        "rss_bytes": int_of(raw.get(b"rss_bytes")),
        "cpu_seconds": float_of(raw.get(b"cpu_seconds")),
        "host_cpu_percent": float_of(raw.get(b"host_cpu")),
        "host_memory_percent": float_of(raw.get(b"host_memory")),
    }


def _worker_name(key: bytes) -> str:
    return key.decode(errors="replace").removeprefix("rq:worker:")
