"""/jobs: enqueue one or many, list, look, wait, change, cancel, requeue, delete."""

import re
from collections.abc import Collection, Iterable
from typing import Any, cast

from flask import Response, g, request

from app.access import api_keys
from app.api import once
from app.api.auth import requires
from app.api.context import answer, context, note, page
from app.api.disclosure import may_read, shown
from app.api.openapi import ONCE, PREFER, PREFER_ONCE, blueprint
from app.api.schemas.bulk import Bulk, BulkCancel, BulkCanceled, BulkDelete, BulkDeleted, BulkRequeue, BulkRequeued
from app.api.schemas.jobs import AmendBody, BulkBody, Ids, JobBody, JobDetail, JobPath, Jobs, JobsQuery, RequeueBody
from app.catalog.catalog import name_of
from app.catalog.fields import as_limit
from app.enqueue import new_job as new_jobs
from app.enqueue import queue_limit, write
from app.enqueue.idempotency import Answer
from app.enqueue.new_job import NewJob
from app.errors import MAX_LISTED, Invalid, NotFound
from app.lifecycle import actions, bulk, change_job, outbox
from app.pointers import Place
from app.redis.client import rq_timestamp
from app.serializer import JSON
from app.states import ENDED
from app.views import job_view, listing, waiting
from app.webhooks import webhook_delivery

SPOKEN_FOR = {
    *("function", "args", "kwargs", "delay", "at", "retry", "rate_limit", "concurrency", "unique", "webhook"),
    *("name", "after", "each"),
}
"""Fields of a body that are not options of a job as they stand."""
PREFERENCE = re.compile(r"\bwait\s*=\s*0*([0-9]{1,9})")

api = blueprint("jobs", "jobs", "/api/v1/jobs")


@api.post("", responses={200: JobDetail, 202: JobDetail}, openapi_extensions=PREFER_ONCE)
@requires("enqueue")
def enqueue(body: JobBody) -> Response:
    """Enqueue a job."""
    return accept(new_job(body))


@api.post("/bulk", responses={202: Ids}, openapi_extensions=ONCE)
@requires("enqueue")
def enqueue_bulk(body: BulkBody) -> Response:
    """Enqueue up to 10,000 jobs: all of them, or none."""
    jobs, errors = [], []
    for number, one in enumerate(body.jobs):
        try:
            jobs.append(new_job(one, f"#/jobs/{number}"))
        except Invalid as error:
            errors += error.errors or []
            if len(errors) > MAX_LISTED:
                break
    if errors:
        raise Invalid("No job was enqueued", errors)
    note(jobs=len(jobs))
    warned = unserved(jobs)
    made = write.enqueue(context().redis, jobs, once.receipt())
    if made.replayed:
        return once.replayed({"body": {"ids": made.replayed["ids"], **warned}, "status": 202})
    return answer({"ids": made.ids, **warned}, 202)


@api.get("", responses={200: Jobs})
@requires("read")
def list_jobs(query: JobsQuery) -> Response:
    """Jobs, newest first: by when they were last queued, or else created. One queue and state has its own order."""
    return page("jobs", *listing.jobs(context().redis, query, query.limit, query.cursor))


@api.post("/requeue", responses={200: BulkRequeued})
@requires("enqueue", "read")
def requeue_many(body: BulkRequeue) -> Response:
    """Put the failed jobs that a filter means back on their queues; a cursor goes on where the time was over."""
    return _bulk("requeue", "requeued", body)


@api.post("/cancel", responses={200: BulkCanceled})
@requires("enqueue", "read")
def cancel_many(body: BulkCancel) -> Response:
    """Cancel the jobs that a filter means, and stop those that run; a cursor goes on where the time was over."""
    return _bulk("cancel", "canceled", body)


@api.post("/delete", responses={200: BulkDeleted})
@requires("admin")
def delete_many(body: BulkDelete) -> Response:
    """Remove the jobs that a filter means, but for those that run; a cursor goes on where the time was over."""
    return _bulk("delete", "deleted", body)


@api.get("/<string:job_id>", responses={200: JobDetail, 304: None}, openapi_extensions=PREFER)
@requires("read")
def get_job(path: JobPath) -> Response:
    """A job; `Prefer: wait=N` waits up to N seconds (60 at most) for its end."""
    job = _job_after(path.job_id, preferred_wait())
    answered = answer(job)
    answered.add_etag()
    return cast(Response, answered.make_conditional(request))


@api.patch("/<string:job_id>", responses={200: JobDetail})
@requires("enqueue")
def amend_job(path: JobPath, body: AmendBody) -> Response:
    """Change when, where and how a job runs that has not started; a deferred one its queue and labels only."""
    said = {name: value for name, value in body if value is not None}
    limit = queue_limit.limit_for(body.queue, context().settings)
    change_job.update_before_start(context().redis, path.job_id, queue_limit=limit, **said)
    return answer(shown(_job_after(path.job_id, 0)))


@api.post("/<string:job_id>/cancel", responses={200: JobDetail, 202: JobDetail})
@requires("enqueue")
def cancel(path: JobPath) -> Response:
    """Cancel a job that has not started, or stop the one that runs (202: its worker has been told)."""
    connection = context().redis
    actions.cancel(connection, path.job_id)
    outbox.follow_up(connection)
    job = _job_after(path.job_id, 0)
    return answer(shown(job), 200 if job["status"] == "canceled" and may_read() else 202)


@api.post("/<string:job_id>/requeue", responses={202: JobDetail})
@requires("enqueue")
def requeue(path: JobPath, body: RequeueBody) -> Response:
    """Put a failed, stopped or canceled job back on its queue; a body, which may be left out, changes its call."""
    found, retry = context(), body.retry.as_retry() if body.retry else None
    said = {**dict(body), "retry": retry}
    change_job.requeue(found.redis, found.catalog, found.settings, path.job_id, **said)
    return answer(shown(_job_after(path.job_id, 0)), 202)


@api.delete("/<string:job_id>", responses={204: None})
@requires("admin")
def delete(path: JobPath) -> Response:
    """Remove a job and what is kept of it; not while it runs."""
    actions.delete(context().redis, path.job_id)
    return Response(status=204)


def new_job(body: JobBody, pointer: str = "#", unknown: Collection[Place] = ()) -> NewJob:
    """The job that a body asks for, its function known and its arguments checked."""
    function = context().catalog.wanted(body.function, f"{pointer}/function")
    function.check(body.args, body.kwargs, pointer, unknown)
    return new_jobs.prepare(
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
        **body.model_dump(exclude=SPOKEN_FOR),
    )


def accept(job: NewJob) -> Response:
    """Enqueue one job: 202; 200 with its end, if the caller waits, or with a unique job that was there before."""
    receipt, wait = once.receipt(), preferred_wait()
    if receipt and job.has_known_state:
        receipt.answer = {"body": _state(job), "status": 202}  # as it is when it has its place
    made = write.enqueue(context().redis, [job], receipt)
    if made.replayed:
        return once.replayed(_first_answer(job, made.replayed))
    [job_id] = made.ids
    is_new = job_id == job.id
    if is_new and not wait and job.has_known_state:
        return once.answered(_state(job), 202)
    state = _job_after(job_id, wait if is_new or may_read() else 0)
    status = 200 if not is_new or state["status"] in ENDED else 202
    state = state if is_new else shown(state)
    if status == 202:
        state |= unserved([job])
    if receipt and (not job.has_known_state or status == 200):
        receipt.store_answer(context().redis, {"body": state, "status": status})
    return once.answered(state, status)


def _first_answer(job: NewJob, kept: Answer) -> Answer:
    """The answer that is kept of a request; if it was lost, that of now. A unique job may be somebody else's."""
    if "body" in kept:
        return kept
    state = _job_after(kept["ids"][0], 0)
    return {"body": shown(state) if job.lock else state, "status": 202}


def _state(job: NewJob) -> dict[str, Any]:
    """A job that was just made."""
    made_at, webhook = rq_timestamp(job.created_at), job.extra_fields.get("webhook")
    state = job_view.shape(
        job.id,
        name_of(job.function),
        job.args,
        job.kwargs,
        job.meta,
        queue=job.queue,
        status=job.status,
        description=job.description,
        created_at=made_at,
        enqueued_at=made_at if job.status == "queued" else None,
        timeout=job.timeout,
        retries_left=len(job.retry_waits or ()),
        depends_on=job.depends_on,
        webhook=JSON.loads(webhook) if webhook else None,
    )
    return {**state, "history": [], **unserved([job])}


def unserved(jobs: Iterable[NewJob], delivers: bool = False) -> dict[str, list[str]]:
    """`warnings` of new jobs: queues that no worker serves, theirs or that of the deliveries of webhooks."""
    queues = dict[str, None]()
    for job in jobs:
        queues[job.queue] = None
        delivers = delivers or "webhook" in job.extra_fields
    return context().served.warnings([*queues, webhook_delivery.QUEUE] if delivers else queues)


def preferred_wait() -> int:
    """Seconds of `Prefer: wait=N` (RFC 7240, section 4.3)."""
    said = request.headers.get("Prefer")
    found = PREFERENCE.search(said) if said else None
    return min(int(found[1]), waiting.MAX_WAIT_SECONDS) if found else 0


def _job_after(job_id: str, seconds: int) -> dict[str, Any]:
    if seconds:
        share = api_keys.share(waiting.MAX_WAITERS, context().keys)
        job = waiting.wait(context().redis, context().waiting, job_id, seconds, g.caller, share)
    else:
        job = job_view.fetch(context().redis, [job_id], history=True)[0]
    if job is None:
        raise NotFound(f"No job {job_id!r}")
    return job


def _bulk(action: bulk.Action, changed: str, body: Bulk) -> Response:
    selection = body.selection()
    tally = bulk.apply(context().redis, action, selection, body.limit, body.cursor, body.dry_run)
    counts = {"matched": tally.matched, changed: tally.changed, "skipped": tally.skipped}
    meant = selection.model_dump(mode="json", exclude_none=True, exclude={"q"})  # which may be part of an argument
    note(**counts, **meant, dry_run=body.dry_run)
    return answer({**counts, "next_cursor": tally.next_cursor})
