"""/jobs: enqueue, list, get, wait, change, cancel, requeue and delete, one or many."""

from typing import cast

from flask import Response, request

from app.api import idempotency, new_jobs
from app.api.auth import requires
from app.api.context import add_audit_details, context, json_response, page, request_traceparent
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
    JobLog,
    JobLogQuery,
    JobPath,
    Jobs,
    JobsQuery,
    RequeueBody,
)
from app.enqueue import queue_limit, write
from app.errors import MAX_LISTED_ERRORS, Invalid
from app.lifecycle import actions, bulk, change_job, outbox
from app.views import job_log, listing

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
    """Enqueue up to 10,000 jobs.

    Either all of them are enqueued, or none.
    """
    jobs, errors = [], []
    for number, job_body in enumerate(body.jobs):
        try:
            jobs.append(new_jobs.prepare(job_body, f"#/jobs/{number}"))
        except Invalid as error:
            errors += error.errors or []
            if len(errors) > MAX_LISTED_ERRORS:
                break
    if errors:
        raise Invalid("No job was enqueued: some are invalid", errors)
    add_audit_details(jobs=len(jobs))
    warnings = new_jobs.unserved_warnings(jobs)
    result = write.enqueue(context().redis, jobs, idempotency.receipt(), request_traceparent())
    if result.replayed:
        return idempotency.replay({"body": {"ids": result.replayed["ids"], **warnings}, "status": 202})
    return json_response({"ids": result.ids, **warnings}, 202)


@api.get("", responses={200: Jobs})
@requires("read")
def list_jobs(query: JobsQuery) -> Response:
    """List jobs.

    Newest first: by the time they were last queued, or else created. With both `queue` and `status`, in the order of
    that queue or registry.
    """
    return page("jobs", *listing.jobs(context().redis, query, query.limit, query.cursor))


@api.post("/requeue", responses={200: BulkRequeued})
@requires("enqueue", "read")
def requeue_many(body: BulkRequeue) -> Response:
    """Requeue failed jobs that match a filter.

    Returns a cursor to go on with if the time limit of five seconds was reached.
    """
    return _bulk_change("requeue", "requeued", body)


@api.post("/cancel", responses={200: BulkCanceled})
@requires("enqueue", "read")
def cancel_many(body: BulkCancel) -> Response:
    """Cancel jobs that match a filter.

    Running jobs are stopped. Returns a cursor to go on with if the time limit of five seconds was reached.
    """
    return _bulk_change("cancel", "canceled", body)


@api.post("/delete", responses={200: BulkDeleted})
@requires("admin")
def delete_many(body: BulkDelete) -> Response:
    """Delete jobs that match a filter.

    Running jobs are skipped. Returns a cursor to go on with if the time limit of five seconds was reached.
    """
    return _bulk_change("delete", "deleted", body)


@api.get("/<string:job_id>", responses={200: JobDetail, 304: None}, openapi_extensions=PREFER)
@requires("read")
def get_job(path: JobPath) -> Response:
    """Get a job.

    `Prefer: wait=N` waits up to N seconds (at most 60) for its end.
    """
    job = fetch_job(path.job_id, preferred_wait_seconds())
    response = json_response(job)
    response.add_etag()
    return cast(Response, response.make_conditional(request))


@api.get("/<string:job_id>/logs", responses={200: JobLog})
@requires("read")
def get_job_log(path: JobPath, query: JobLogQuery) -> Response:
    """Get the log of a job.

    What it has logged and printed, oldest first: up to 1,000 lines and 256 KiB of each attempt.
    """
    lines, cursor = job_log.page(context().redis, path.job_id, query.limit, query.cursor)
    return json_response({"lines": lines, "next_cursor": cursor})


@api.patch("/<string:job_id>", responses={200: JobDetailOrReference})
@requires("enqueue")
def amend_job(path: JobPath, body: AmendBody) -> Response:
    """Change a job that has not started.

    Of a deferred job only the queue, tags and description can be changed.
    """
    changes = {name: value for name, value in body if value is not None}
    limit = queue_limit.limit_for(body.queue, context().settings)
    change_job.update_before_start(context().redis, path.job_id, queue_limit=limit, **changes)
    return json_response(redact(fetch_job(path.job_id)))


@api.post("/<string:job_id>/cancel", responses={200: JobDetailOrReference, 202: JobDetailOrReference})
@requires("enqueue")
def cancel(path: JobPath) -> Response:
    """Cancel a job.

    A job that has not started is canceled (200). A running job is being stopped by its worker (202).
    """
    connection = context().redis
    actions.cancel(connection, path.job_id)
    outbox.follow_up(connection)
    job = fetch_job(path.job_id)
    return json_response(redact(job), 200 if job["status"] == "canceled" and may_read() else 202)


@api.post("/<string:job_id>/requeue", responses={202: JobDetailOrReference})
@requires("enqueue")
def requeue(path: JobPath, body: RequeueBody) -> Response:
    """Requeue a failed, stopped or canceled job.

    The body is optional and changes the call.
    """
    service = context()
    changes = {**dict(body), "retry": body.retry.as_retry() if body.retry else None}
    change_job.requeue(service.redis, service.catalog, service.settings, path.job_id, **changes)
    return json_response(redact(fetch_job(path.job_id)), 202)


@api.delete("/<string:job_id>", responses={204: None})
@requires("admin")
def delete(path: JobPath) -> Response:
    """Delete a job.

    Its result and history are deleted too. A running job cannot be deleted (409).
    """
    actions.delete(context().redis, path.job_id)
    return Response(status=204)


def _bulk_change(action: bulk.Action, count_name: str, body: Bulk) -> Response:
    selection = body.selection()
    tally = bulk.apply(context().redis, action, selection, body.limit, body.cursor, body.dry_run)
    counts = {"matched": tally.matched, count_name: tally.changed, "skipped": tally.skipped}
    filters = selection.model_dump(mode="json", exclude_none=True, exclude={"q"})  # `q` may be part of an argument
    add_audit_details(**counts, **filters, dry_run=body.dry_run)
    return json_response({**counts, "next_cursor": tally.next_cursor})
