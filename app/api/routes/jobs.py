"""/jobs: enqueue one or many, list, look, wait, change, cancel, requeue, delete."""

from typing import cast

from flask import Response, request

from app.api import idempotency, new_jobs
from app.api.auth import requires
from app.api.context import add_audit_details, context, json_response, page
from app.api.disclosure import may_read, redact
from app.api.job_lookup import fetch_job, preferred_wait_seconds
from app.api.openapi import IDEMPOTENCY_KEY, PREFER, PREFER_AND_IDEMPOTENCY_KEY, blueprint
from app.api.schemas.bulk import Bulk, BulkCancel, BulkCanceled, BulkDelete, BulkDeleted, BulkRequeue, BulkRequeued
from app.api.schemas.jobs import (
    AmendBody,
    BulkBody,
    Ids,
    JobBody,
    JobDetail,
    JobDetailOrReference,
    JobPath,
    Jobs,
    JobsQuery,
    RequeueBody,
)
from app.enqueue import queue_limit, write
from app.errors import MAX_LISTED_ERRORS, Invalid
from app.lifecycle import actions, bulk, change_job, outbox
from app.views import listing

api = blueprint("jobs", "jobs", "/api/v1/jobs")


@api.post(
    "", responses={200: JobDetailOrReference, 202: JobDetailOrReference}, openapi_extensions=PREFER_AND_IDEMPOTENCY_KEY
)
@requires("enqueue")
def enqueue(body: JobBody) -> Response:
    """Enqueue a job."""
    return new_jobs.enqueue(new_jobs.prepare(body))


@api.post("/bulk", responses={202: Ids}, openapi_extensions=IDEMPOTENCY_KEY)
@requires("enqueue")
def enqueue_bulk(body: BulkBody) -> Response:
    """Enqueue up to 10,000 jobs: all of them, or none."""
    jobs, errors = [], []
    for number, job_body in enumerate(body.jobs):
        try:
            jobs.append(new_jobs.prepare(job_body, f"#/jobs/{number}"))
        except Invalid as error:
            errors += error.errors or []
            if len(errors) > MAX_LISTED_ERRORS:
                break
    if errors:
        raise Invalid("No job was enqueued", errors)
    add_audit_details(jobs=len(jobs))
    warnings = new_jobs.unserved_warnings(jobs)
    result = write.enqueue(context().redis, jobs, idempotency.receipt())
    if result.replayed:
        return idempotency.replay({"body": {"ids": result.replayed["ids"], **warnings}, "status": 202})
    return json_response({"ids": result.ids, **warnings}, 202)


@api.get("", responses={200: Jobs})
@requires("read")
def list_jobs(query: JobsQuery) -> Response:
    """Jobs, newest first: by when they were last queued, or else created. One queue and state has its own order."""
    return page("jobs", *listing.jobs(context().redis, query, query.limit, query.cursor))


@api.post("/requeue", responses={200: BulkRequeued})
@requires("enqueue", "read")
def requeue_many(body: BulkRequeue) -> Response:
    """Put the failed jobs that a filter means back on their queues; a cursor goes on where the time was over."""
    return _bulk_change("requeue", "requeued", body)


@api.post("/cancel", responses={200: BulkCanceled})
@requires("enqueue", "read")
def cancel_many(body: BulkCancel) -> Response:
    """Cancel the jobs that a filter means, and stop those that run; a cursor goes on where the time was over."""
    return _bulk_change("cancel", "canceled", body)


@api.post("/delete", responses={200: BulkDeleted})
@requires("admin")
def delete_many(body: BulkDelete) -> Response:
    """Remove the jobs that a filter means, but for those that run; a cursor goes on where the time was over."""
    return _bulk_change("delete", "deleted", body)


@api.get("/<string:job_id>", responses={200: JobDetail, 304: None}, openapi_extensions=PREFER)
@requires("read")
def get_job(path: JobPath) -> Response:
    """A job; `Prefer: wait=N` waits up to N seconds (60 at most) for its end."""
    job = fetch_job(path.job_id, preferred_wait_seconds())
    response = json_response(job)
    response.add_etag()
    return cast(Response, response.make_conditional(request))


@api.patch("/<string:job_id>", responses={200: JobDetailOrReference})
@requires("enqueue")
def amend_job(path: JobPath, body: AmendBody) -> Response:
    """Change when, where and how a job runs that has not started; a deferred one its queue and labels only."""
    changes = {name: value for name, value in body if value is not None}
    limit = queue_limit.limit_for(body.queue, context().settings)
    change_job.update_before_start(context().redis, path.job_id, queue_limit=limit, **changes)
    return json_response(redact(fetch_job(path.job_id, 0)))


@api.post("/<string:job_id>/cancel", responses={200: JobDetailOrReference, 202: JobDetailOrReference})
@requires("enqueue")
def cancel(path: JobPath) -> Response:
    """Cancel a job that has not started, or stop the one that runs (202: its worker has been told)."""
    connection = context().redis
    actions.cancel(connection, path.job_id)
    outbox.follow_up(connection)
    job = fetch_job(path.job_id, 0)
    return json_response(redact(job), 200 if job["status"] == "canceled" and may_read() else 202)


@api.post("/<string:job_id>/requeue", responses={202: JobDetailOrReference})
@requires("enqueue")
def requeue(path: JobPath, body: RequeueBody) -> Response:
    """Put a failed, stopped or canceled job back on its queue; a body, which may be left out, changes its call."""
    service = context()
    changes = {**dict(body), "retry": body.retry.as_retry() if body.retry else None}
    change_job.requeue(service.redis, service.catalog, service.settings, path.job_id, **changes)
    return json_response(redact(fetch_job(path.job_id, 0)), 202)


@api.delete("/<string:job_id>", responses={204: None})
@requires("admin")
def delete(path: JobPath) -> Response:
    """Remove a job and what is kept of it; not while it runs."""
    actions.delete(context().redis, path.job_id)
    return Response(status=204)


def _bulk_change(action: bulk.Action, count_name: str, body: Bulk) -> Response:
    selection = body.selection()
    tally = bulk.apply(context().redis, action, selection, body.limit, body.cursor, body.dry_run)
    counts = {"matched": tally.matched, count_name: tally.changed, "skipped": tally.skipped}
    filters = selection.model_dump(mode="json", exclude_none=True, exclude={"q"})  # which may be part of an argument
    add_audit_details(**counts, **filters, dry_run=body.dry_run)
    return json_response({**counts, "next_cursor": tally.next_cursor})
