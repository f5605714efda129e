"""Find orphans, which have status queued but are in no list, by a slow walk over all jobs, and put them back.

A queue is first in, first out, so only a job older than the head of its queue can be an orphan. It is put back after
CONFIRM_SECONDS, since a worker may just have claimed it.
"""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import redis
import structlog
from rq.utils import utcparse

from app.redis.errors import execute_each
from app.redis.keys import job_key, queue_key
from app.redis.scripts import Script

SCAN_COUNT = 250  # keys
REST_SECONDS = 60.0  # between two walks
CONFIRM_SECONDS = 15.0
MIN_AGE = timedelta(seconds=10)

PUT_BACK = Script("lifecycle/put_back")

log = structlog.get_logger("jobline.scheduler")


class Orphans:
    """Run by the leading scheduler: the suspected jobs and the position of the walk."""

    def __init__(self, connection: redis.Redis) -> None:
        self.connection = connection
        self._cursor, self._rest_until = 0, 0.0
        self._seen: dict[str, float] = {}

    def sweep(self, now: datetime) -> list[str]:
        """Do one step of the walk and put back confirmed orphans. Returns their ids."""
        if time.monotonic() >= self._rest_until:
            self._cursor, keys = self.connection.scan(self._cursor, match="rq:job:*", count=SCAN_COUNT, _type="hash")
            for job_id in self._suspects([key.decode(errors="replace").removeprefix("rq:job:") for key in keys], now):
                self._seen.setdefault(job_id, time.monotonic())
            if self._cursor == 0:
                self._rest_until = time.monotonic() + REST_SECONDS
        confirmed = [job_id for job_id, since in self._seen.items() if time.monotonic() - since > CONFIRM_SECONDS]
        return [job_id for job_id in confirmed if self._put_back(job_id)]

    def _suspects(self, job_ids: list[str], now: datetime) -> list[str]:
        queued = [(job_id, queue, at) for job_id, (queue, at) in self._queued(job_ids).items() if now - at > MIN_AGE]
        heads = self._heads({queue for _, queue, _ in queued})
        return [job_id for job_id, queue, at in queued if heads[queue] is None or heads[queue] - at > MIN_AGE]

    def _queued(self, job_ids: list[str]) -> dict[str, tuple[str, datetime]]:
        """The queue and enqueued_at of those jobs that have status queued."""
        with self.connection.pipeline(transaction=False) as pipeline:
            for job_id in job_ids:
                pipeline.hmget(job_key(job_id), "status", "origin", "enqueued_at")
            answers = execute_each(pipeline)
        jobs = {}
        for job_id, answer in zip(job_ids, answers, strict=True):
            if isinstance(answer, list) and answer[0] == b"queued" and answer[1]:
                jobs[job_id] = answer[1].decode(errors="replace"), _parse_time(answer[2])
        return jobs

    def _heads(self, queues: set[str]) -> dict[str, Any]:
        """The enqueued_at of the first job in each queue; None for an empty queue."""
        heads = {queue: self.connection.lindex(queue_key(queue), 0) for queue in queues}
        queued_heads = self._queued([head.decode(errors="replace") for head in heads.values() if head])
        return {
            queue: queued_heads.get(head.decode(errors="replace"), (queue, datetime.min.replace(tzinfo=UTC)))[1]
            if head
            else None
            for queue, head in heads.items()
        }

    def _put_back(self, job_id: str) -> bool:
        del self._seen[job_id]
        was_orphan = PUT_BACK(self.connection, id=job_id)
        if was_orphan:
            log.warning("put back a queued job that was in no list", job_id=job_id)
        return bool(was_orphan)


def _parse_time(text: bytes | None) -> datetime:
    try:
        return utcparse(text.decode()) if text else datetime.min.replace(tzinfo=UTC)
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)
