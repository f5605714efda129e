"""Quarantine: a job that cannot be read is replaced by a failed job that RQ can read, with the reason.

The original value of the job's key is kept for FAILURE_TTL under `jobline:unreadable:ID`.
"""

import zlib
from base64 import b64encode
from datetime import UTC, datetime

import redis
import structlog
from rq.exceptions import DeserializationError

from app.redis.client import rq_timestamp
from app.redis.scripts import Script
from app.serializer import JSON, Pickled
from app.settings import get_settings

QUARANTINE = Script("lifecycle/quarantine")

log = structlog.get_logger("jobline.worker")


def quarantine(
    connection: redis.Redis, raw_id: bytes, queue: str, error: Exception, execution_id: str | None = None
) -> str:
    """Fail an unreadable job and end its execution. Returns its id, which is changed if it was not UTF-8."""
    job_id = raw_id.decode(errors="backslashreplace").replace("\\", "_").replace(":", "_")
    now, settings = datetime.now(UTC), get_settings()
    reason = f"UnreadableJob: {_describe(error)}"
    fields = {
        "enqueued_at": rq_timestamp(now),
        "origin": queue,
        "description": f"unreadable job {job_id}",
        "data": zlib.compress(JSON.dumps(["unreadable", None, [], {}])),
        "timeout": settings.job_timeout,
        "failure_ttl": settings.failure_ttl,
    }
    QUARANTINE(
        connection,
        [word for field in fields.items() for word in field],
        raw_id=raw_id,
        id=job_id,
        queue=queue,
        execution=execution_id or "",
        now=rq_timestamp(now),
        now_seconds=now.timestamp(),
        failure_ttl=settings.failure_ttl,
        reason=b64encode(zlib.compress(reason.encode())),
    )
    log.error("unreadable job quarantined", job_id=job_id, queue=queue, reason=reason)
    return job_id


def _describe(error: Exception) -> str:
    """The error, or the cause of RQ's DeserializationError, whose own message says nothing."""
    cause = error.__cause__ if isinstance(error, DeserializationError) else error
    return str(cause) if isinstance(cause, Pickled) else f"{type(cause).__name__}: {cause}"
