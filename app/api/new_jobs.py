"""New jobs from request bodies: validate, enqueue, and respond. Shared by the routes that create jobs."""

from collections.abc import Collection, Iterable
from typing import Any

from flask import Response

from app.api import idempotency
from app.api.context import context, request_traceparent
from app.api.disclosure import may_read, redact
from app.api.job_lookup import fetch_job, preferred_wait_seconds
from app.api.schemas.jobs import JobBody
from app.catalog.catalog import function_name
from app.catalog.fields import as_limit
from app.enqueue import new_job, write
from app.enqueue.idempotency import Answer
from app.enqueue.new_job import NewJob
from app.pointers import DocumentPath
from app.redis.client import rq_timestamp
from app.serializer import JSON
from app.states import ENDED
from app.views import job_view
from app.webhooks import webhook_delivery

CONVERTED_FIELDS = {
    *("function", "args", "kwargs", "delay", "at", "retry", "rate_limit", "concurrency", "unique", "webhook"),
    *("name", "after", "each"),
}
"""Fields of a body that are converted, or are no options of a job."""


def prepare(body: JobBody, pointer: str = "#", unknown: Collection[DocumentPath] = ()) -> NewJob:
    """The job that a body describes. Raises Invalid: its function is unknown, or its arguments do not match.

    `unknown` are the paths of arguments that are known only when the job runs.
    """
    function = context().catalog.get_requested(body.function, f"{pointer}/function")
    function.check(body.args, body.kwargs, pointer, unknown)
    return new_job.prepare(
        function,
        context().settings,
        body.args,
        body.kwargs,
        pointer,
        at=body.at,
        delay=body.delay,
        named=body.id is not None,
        retry=body.retry.as_retry() if body.retry else None,
        rate_limit=as_limit(body.rate_limit),
        concurrency=as_limit(body.concurrency),
        unique=body.unique.as_unique() if body.unique else None,
        webhook=body.webhook.as_webhook() if body.webhook else None,
        **body.model_dump(exclude=CONVERTED_FIELDS),
    )


def enqueue(job: NewJob) -> Response:
    """Enqueue a job. 202; 200 if it has ended while the caller waited, or if a `unique` rule returned another job."""
    receipt, wait_seconds = idempotency.receipt(), preferred_wait_seconds()
    view = _new_job_view(job) if job.has_known_state else None
    if receipt and view:
        receipt.answer = {"body": view, "status": 202}
    result = write.enqueue(context().redis, [job], receipt, request_traceparent())
    if result.replayed:
        return idempotency.replay(_stored_answer(job, result.replayed))
    [job_id] = result.ids
    is_new = job_id == job.id
    if view and is_new and not wait_seconds:
        return idempotency.respond(view, 202)
    state = fetch_job(job_id, wait_seconds if is_new or may_read() else 0)
    status = 200 if not is_new or state["status"] in ENDED else 202
    state = state if is_new else redact(state)
    if status == 202:
        state |= unserved_warnings([job])
    if receipt and (not view or status == 200):
        receipt.store_answer(context().redis, {"body": state, "status": status})
    return idempotency.respond(state, status)


def _stored_answer(job: NewJob, stored: Answer) -> Answer:
    """The stored response; if it was lost, one from the current job, which may be another's if it is `unique`."""
    if "body" in stored:
        return stored
    state = fetch_job(stored["ids"][0])
    return {"body": redact(state) if job.lock else state, "status": 202}


def _new_job_view(job: NewJob) -> dict[str, Any]:
    """The response for a job that was just created, without reading it from Redis."""
    created_at, webhook = rq_timestamp(job.created_at), job.extra_fields.get("webhook")
    fields: job_view.JobFields = {
        "id": job.id,
        "function": function_name(job.function),
        "args": job.args,
        "kwargs": job.kwargs,
        "queue": job.queue,
        "status": job.status,
        "description": job.description,
        "created_at": created_at,
        "enqueued_at": created_at if job.status == "queued" else None,
        "timeout": job.timeout,
        "retries_left": len(job.retry_waits or ()),
        "depends_on": job.depends_on,
        "webhook": JSON.loads(webhook) if webhook else None,
    }
    return {**job_view.shape(fields, job.meta), "history": [], **unserved_warnings([job])}


def unserved_warnings(jobs: Iterable[NewJob], delivers: bool = False) -> dict[str, list[str]]:
    """The field `warnings` for new jobs: those of their queues, or of the webhook queue, that no worker serves."""
    queues = dict[str, None]()
    for job in jobs:
        queues[job.queue] = None
        delivers = delivers or "webhook" in job.extra_fields
    return context().served_queues.warnings([*queues, webhook_delivery.QUEUE] if delivers else queues)
