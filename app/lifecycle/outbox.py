"""The outbox: makes sure that the end of a job or workflow is followed by exactly one webhook delivery.

The script that ends a job also advances its workflow and, for its webhook, adds a copy of the job's hash with the
result to the stream `jobline:outbox`. Any process (the work horse that ran the job, the process that canceled or
recovered it, the scheduler) turns entries into delivery jobs: the transaction that writes the job removes the entry.
"""

import secrets
import uuid
from datetime import UTC, datetime
from typing import Any

import redis
import structlog
from redis.client import Pipeline

from app import tracing
from app.enqueue import write
from app.enqueue.new_job import NewJob
from app.redis.client import rq_timestamp
from app.redis.keys import OUTBOX, job_key
from app.redis.scripts import Script
from app.serializer import JSON
from app.settings import get_settings
from app.views import job_view
from app.views.job_view import Raw
from app.webhooks import webhook_delivery
from app.workflows import view

BATCH_SIZE = 50  # entries, each with a whole job

NOTE_END = Script("lifecycle/note_end")

log = structlog.get_logger("jobline.outcome")


def record_end(
    pipeline: Pipeline,
    job_id: str,
    status: str,
    ended_at: datetime | None,
    **result: Any,
) -> None:
    """Add to RQ's transaction that ends a job what its workflow and webhook need. Must precede a DEL of the hash.

    `ended_at` is UTC; `result` contains the fields of RQ's latest result.
    """
    fields = {"status": status, "ended_at": rq_timestamp(ended_at or datetime.now(UTC)), **result}
    words = [word for pair in fields.items() for word in pair]
    NOTE_END.add_to(pipeline, words, id=job_id, token=secrets.token_hex(8))


def follow_up(connection: redis.Redis) -> int:
    """Process up to BATCH_SIZE entries. Returns their number. Safe to call from several processes at once.

    Raises:
        redis.RedisError: unprocessed entries stay in the outbox.
    """
    entries = connection.xrange(OUTBOX, count=BATCH_SIZE)
    for entry_id, raw in entries:
        _write_follow_up(connection, entry_id, _follow_up_job(entry_id.decode(), raw))
    return len(entries)


def _write_follow_up(connection: redis.Redis, entry_id: bytes, job: NewJob | None) -> None:
    if job is None:
        connection.xdel(OUTBOX, entry_id)
        return

    def write_once(pipeline: Pipeline) -> None:
        if pipeline.xrange(OUTBOX, entry_id, entry_id):  # otherwise another process has done it
            pipeline.multi()
            write.add(pipeline, [job])
            pipeline.xdel(OUTBOX, entry_id)

    connection.transaction(write_once, job_key(job.id))


def _follow_up_job(entry_id: str, raw: Raw) -> NewJob | None:
    """The delivery job for an entry, with an id that depends only on the entry; None if unreadable or unwanted."""
    try:
        if b"job_id" not in raw:
            workflow = view.summary(raw[b"workflow"].decode(), raw)
            return _delivery(entry_id, raw, "workflow", workflow)
        job = job_view.as_json(raw[b"job_id"].decode(), raw, [(entry_id, raw)])
        return _delivery(entry_id, raw, "job", job)
    except (KeyError, ValueError, TypeError) as error:
        log.error("an outbox entry cannot be read", entry_id=entry_id, reason=f"{type(error).__name__}")  # noqa: TRY400 - it may quote a secret
        return None


def _delivery(entry_id: str, raw: Raw, kind: str, ended: dict[str, Any]) -> NewJob | None:
    """The delivery job for an ended job or workflow; None if its webhook does not want the event."""
    fields: dict[str, Any] = JSON.loads(raw[b"webhook"])
    settings, ended_id, event = get_settings(), ended["id"], f"{kind}.{ended['status']}"
    if event not in fields["events"]:
        return None
    traceparent = raw.get(tracing.TRACEPARENT.encode())
    traced = {tracing.TRACEPARENT: traceparent} if traceparent else {}
    return NewJob(
        webhook_delivery.DELIVER, [fields["url"], webhook_delivery.message(event, ended)], {},
        queue=webhook_delivery.QUEUE,
        timeout=webhook_delivery.TIMEOUT_SECONDS,
        result_ttl=settings.result_ttl,
        failure_ttl=settings.failure_ttl,
        id=f"msg_{uuid.uuid5(uuid.NAMESPACE_OID, f'{entry_id} {ended_id}').hex}",
        retry_waits=webhook_delivery.retry_waits(),
        meta={"tags": ["webhook"]},
        source="webhook",
        description=f"{event} of {kind} {ended_id}",
        extra_fields={webhook_delivery.DELIVERY_SECRET: raw.get(webhook_delivery.SECRET.encode(), b""), **traced},
    )  # fmt: skip
