"""Where a job goes that cannot be read: RQ's failed registry, with the reason, in a form that RQ can read.

Nothing is lost: what stood under the job's key is kept for FAILURE_TTL under `jobline:unreadable:ID`.
"""

import zlib
from base64 import b64encode
from datetime import UTC, datetime

import redis
import structlog
from rq.exceptions import DeserializationError

from app import outcome
from app.redis import job_key, moment, registry_key, results_key
from app.serializer import JSON, Pickled
from app.settings import get_settings

FAILED = 2  # rq.results.Result.Type.FAILED (RQ 2.12)

log = structlog.get_logger("jobline.worker")


def quarantine(
    connection: redis.Redis, raw_id: bytes, queue: str, error: Exception, execution_id: str | None = None
) -> str:
    """Fail a job for good, and its execution with it; returns the id to find it under: another if it is not UTF-8."""
    job_id = raw_id.decode(errors="backslashreplace").replace("\\", "_").replace(":", "_")
    now, keep = datetime.now(UTC), get_settings().failure_ttl
    reason = f"UnreadableJob: {_why(error)}"
    raw_key = b"rq:job:" + raw_id
    fields = {
        "created_at": moment(now),
        "ended_at": moment(now),
        "enqueued_at": moment(now),
        "origin": queue,
        "status": "failed",
        "description": f"unreadable job {job_id}",
        "data": zlib.compress(JSON.dumps(["unreadable", None, [], {}])),
        "timeout": get_settings().job_timeout,
        "failure_ttl": keep,
    }
    result = {"type": FAILED, "worker_name": "", "exc_string": b64encode(zlib.compress(reason.encode()))}
    key, kept = job_key(job_id), f"jobline:unreadable:{job_id}"
    with connection.pipeline() as pipeline:
        if connection.exists(raw_key):
            outcome.note(pipeline, raw_key, job_id, "failed", now, **result)
            pipeline.rename(raw_key, kept)
        pipeline.hset(key, mapping=fields)
        pipeline.delete(results_key(job_id))
        pipeline.xadd(results_key(job_id), result)
        pipeline.zadd(registry_key("failed", queue), {job_id: keep if keep < 0 else int(now.timestamp()) + keep})
        if keep >= 0:
            for one in (kept, key, results_key(job_id)):
                pipeline.expire(one, keep)
        if execution_id:
            execution = execution_id.encode()
            pipeline.zrem(registry_key("wip", queue), raw_id + b":" + execution)
            pipeline.delete(b"rq:execution:" + raw_id + b":" + execution, b"rq:executions:" + raw_id)
        pipeline.execute()
    log.error("unreadable job set aside", job_id=job_id, queue=queue, reason=reason)
    return job_id


def _why(error: Exception) -> str:
    """RQ's DeserializationError says nothing itself: its cause does."""
    cause = error.__cause__ if isinstance(error, DeserializationError) else error
    return str(cause) if isinstance(cause, Pickled) else f"{type(cause).__name__}: {cause}"
