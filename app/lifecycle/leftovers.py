"""Remove leftovers of expired and deleted jobs and workflows from Redis, in a slow, repeated walk over the keys.

RQ never removes the ids of canceled and deferred jobs from their registries, and cleans other registries only where a
worker serves the queue. It leaves behind the results of deleted jobs and the dependents of expired ones.
"""

import re
import time
from collections.abc import Callable, Iterator

import redis
import structlog

from app.lifecycle import actions
from app.redis.errors import raise_transient
from app.redis.keys import SCHEDULERS, WORKFLOWS, job_key, registry_key, workflow_key
from app.redis.scripts import Script
from app.views import listing

BATCH_SIZE = 250  # keys or members
REST_SECONDS = 60.0  # between two walks
MIN_DEFERRED_SECONDS = 60.0  # before a job without existing dependencies is canceled
JOB_DATA_KEY = re.compile(
    rb"rq:results:(?P<results>[^:]+)|rq:job:(?P<parent>[^:]+):dependents|rq:job::(?P<child>[^:]+):dependencies"
    rb"|jobline:log:(?P<log>[^:]+)"
)
CANCEL_REASON = "what it depends on has expired or was deleted, and had not finished"

FORGET, REMOVE = Script("lifecycle/forget"), Script("lifecycle/remove")

log = structlog.get_logger("jobline.scheduler")


class LeftoverRemover:
    """Run by the leading scheduler; `clock` returns seconds since 1970."""

    def __init__(self, connection: redis.Redis, clock: Callable[[], float] = time.time) -> None:
        self.connection, self.clock = connection, clock
        self._steps = self.walk()
        self._rest_until = 0.0

    def sweep(self) -> None:
        """Do one step of the walk, or nothing during the rest. After a redis.RedisError the walk starts again."""
        if time.monotonic() >= self._rest_until and next(self._steps, self) is self:
            self._steps, self._rest_until = self.walk(), time.monotonic() + REST_SECONDS

    def walk(self) -> Iterator[None]:
        """Do a whole walk, one step per iteration."""
        for queue in listing.queue_names(self.connection):
            try:
                yield from self._walk_queue(queue)
            except redis.ResponseError as error:  # a key of another type
                raise_transient([error])
        yield from self._forget(WORKFLOWS, workflow_key(""))
        for key in self.connection.smembers(SCHEDULERS):
            if not self.connection.exists(key):
                self.connection.srem(SCHEDULERS, key)
        yield from self._remove_keys()

    def _walk_queue(self, queue: str) -> Iterator[None]:
        with self.connection.pipeline(transaction=False) as pipeline:
            for registry in ("finished", "failed"):  # as RQ's maintenance
                pipeline.zremrangebyscore(registry_key(registry, queue), 0, self.clock())
            pipeline.execute()
        yield from self._forget(registry_key("canceled", queue), job_key(""))
        yield from self._forget(registry_key("deferred", queue), job_key(""))
        yield from self._cancel_deferred(queue)

    def _forget(self, key: str, prefix: str) -> Iterator[None]:
        """Remove members of a sorted set whose keys no longer exist."""
        for members in self._batches(key):
            FORGET(self.connection, [member for member, _ in members], key=key, prefix=prefix)
            yield

    def _cancel_deferred(self, queue: str) -> Iterator[None]:
        """Cancel deferred jobs whose dependencies no longer exist: none has finished, or they would not wait."""
        for members in self._batches(registry_key("deferred", queue)):
            overdue = [member for member, since in members if since < self.clock() - MIN_DEFERRED_SECONDS]
            for job_id in self._without_parents(overdue):
                if actions.apply(self.connection, job_id, "cancel", CANCEL_REASON) == b"ok":
                    log.warning("a deferred job is canceled", job_id=job_id, reason=CANCEL_REASON)
            yield

    def _without_parents(self, job_ids: list[bytes]) -> list[str]:
        """The jobs that have dependencies of which none exists any more."""
        with self.connection.pipeline(transaction=False) as pipeline:
            for job_id in job_ids:
                pipeline.smembers(b"rq:job::" + job_id + b":dependencies")
            parents = {job_id: ids for job_id, ids in zip(job_ids, pipeline.execute(), strict=True) if ids}
            for ids in parents.values():
                pipeline.exists(*(b"rq:job:" + parent for parent in ids))
            counts = pipeline.execute()
        return [job_id.decode(errors="replace") for job_id, count in zip(parents, counts, strict=True) if not count]

    def _remove_keys(self) -> Iterator[None]:
        """Delete data of jobs that no longer exist."""
        cursor = None
        while cursor != 0:
            cursor, keys = self.connection.scan(cursor or 0, match="rq:*", count=BATCH_SIZE)
            leftovers = [(key, match[match.lastgroup or 0]) for key in keys if (match := JOB_DATA_KEY.fullmatch(key))]
            if leftovers:
                REMOVE(self.connection, [word for pair in leftovers for word in pair])
            yield

    def _batches(self, key: str) -> Iterator[list[tuple[bytes, float]]]:
        cursor = None
        while cursor != 0:
            cursor, members = self.connection.zscan(key, cursor or 0, count=BATCH_SIZE)
            if members:
                yield members
