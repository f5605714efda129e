"""Change a job that is not running: its call when it is requeued; its queue, time and labels before it starts.

Each change is one script, so a worker that claims the job meanwhile sees either the old or the new version.
"""

from datetime import UTC, datetime
from itertools import chain
from typing import Any

import orjson
import redis

from app import limits
from app.author.options import Retry
from app.catalog.catalog import Arguments, Catalog, Function
from app.enqueue import new_job
from app.enqueue.queue_limit import limit_for, too_many_queues
from app.errors import Conflict, Invalid, JoblineError, NotFound, WrongState
from app.lifecycle import actions
from app.redis.client import rq_timestamp
from app.redis.keys import job_key
from app.redis.scripts import Script
from app.serializer import JSON
from app.settings import Settings
from app.views import job_view
from app.workflows.results import find_references

CHANGE = Script("lifecycle/change")
MAX_TRIES = 20  # when others change the job at the same time


def requeue(
    connection: redis.Redis,
    catalog: Catalog,
    settings: Settings,
    job_id: str,
    args: list[Any] | None = None,
    kwargs: dict[str, Any] | None = None,
    queue: str | None = None,
    timeout: int | None = None,
    retry: Retry | None = None,
) -> None:
    """Requeue a failed, stopped or canceled job, with new values where given; `timeout` is in seconds.

    Raises:
        NotFound, Conflict: it is in another state, or there would be too many queues.
        Invalid: the arguments do not fit its function, or the function no longer exists.
        TooLarge: the arguments exceed ARGUMENTS_LIMIT.
    """
    fields: dict[str, str | bytes | int] = {}
    if args is not None or kwargs is not None:
        fields |= _new_call(connection, catalog, settings, job_id, args, kwargs)
    if timeout is not None:
        fields["timeout"] = timeout
    if retry:
        waits = retry.waits()
        fields |= {"retries_left": len(waits), "retry_intervals": orjson.dumps(waits)}
    actions.requeue(connection, job_id, queue or "", fields, limit_for(queue, settings))


def _new_call(
    connection: redis.Redis,
    catalog: Catalog,
    settings: Settings,
    job_id: str,
    args: list[Any] | None,
    kwargs: dict[str, Any] | None,
) -> dict[str, str | bytes | int]:
    """The fields of RQ's hash that describe the new call."""
    job = job_view.fetch(connection, [job_id])[0]
    if job is None:
        raise NotFound(f"No job {job_id!r}")
    old_call = (job["args"], job["kwargs"])
    call = (job["args"] if args is None else args, job["kwargs"] if kwargs is None else kwargs)
    results = find_references({"args": call[0], "kwargs": call[1]}) if job["workflow"] else ()
    try:
        function = catalog.get_requested(job["function"] or "", "#")
        function.check(*call, unknown=[path[1:] for path, _ in results])
        new_job.check_size(settings, *call)
    except JoblineError as error:
        detail = "The arguments do not fit the job"
        error.concealed = Invalid(detail, [{"detail": "they are not those of its function", "pointer": "#"}])
        raise
    fields: dict[str, str | bytes | int] = {
        "data": new_job.encode_call(function.path, *call),
        "function": function.name,
    }
    if job["description"] == new_job.describe_call(function.path, *old_call):
        fields["description"] = new_job.describe_call(function.path, *call)
    stored_limits = connection.hget(job_key(job_id), "limits")
    if stored_limits and _has_declared_limits(function, job["queue"], old_call, orjson.loads(stored_limits)):
        fields["limits"] = orjson.dumps(limits.declared_limits(function, job["queue"], *call))
    return fields


def _has_declared_limits(function: Function, queue: str, old_call: Arguments, stored_limits: limits.JobLimits) -> bool:
    """Whether a job's limits are those of its function for these arguments, and were not set by the request."""
    try:
        return limits.declared_limits(function, queue, *old_call) == stored_limits
    except (Invalid, TypeError):  # the function has changed
        return False


def update_before_start(
    connection: redis.Redis,
    job_id: str,
    queue: str | None = None,
    queue_limit: int | None = None,
    at: datetime | None = None,
    delay: float | None = None,
    at_front: bool = False,
    timeout: int | None = None,
    tags: list[str] | None = None,
    description: str | None = None,
) -> None:
    """Change a job that has not started: its queue, time, timeout in seconds, tags and description.

    `at` in the past means now; `delay` is in seconds from now. Of a deferred job only queue, tags and description can
    be changed. `queue_limit` is the maximum number of queues, `queue` included.

    Raises:
        NotFound, Conflict: it has started or ended, or is deferred; or there would be too many queues.
    """
    fields: dict[str, str | bytes | int] = {}
    if timeout is not None:
        fields["timeout"] = timeout
    if description is not None:
        fields["description"] = description
    for _ in range(MAX_TRIES):
        meta = b"" if tags is None else connection.hget(job_key(job_id), "meta") or b""
        if tags is not None:
            fields["meta"] = _with_tags(meta, tags)
        outcome = CHANGE(
            connection,
            list(chain.from_iterable(fields.items())),
            id=job_id,
            now=rq_timestamp(datetime.now(UTC)),
            other_queue=queue or "",
            at="" if at is None else at.timestamp(),
            delay="" if delay is None else delay,
            front=int(at_front),
            changes_timeout=int(timeout is not None),
            changes_meta=int(tags is not None),
            old_meta=meta,
            queue_limit="" if queue_limit is None else queue_limit,
        )
        if outcome != b"again":
            break
    if outcome is None:
        raise NotFound(f"No job {job_id!r}")
    if outcome == b"queues":
        raise too_many_queues(queue or "", queue_limit)
    if outcome == b"deferred":
        raise WrongState(f"Job {job_id}", "deferred", "only its queue, tags and description can be changed")
    if outcome != b"ok":
        status = outcome.decode(errors="replace")
        raise WrongState(f"Job {job_id}", status, "only a job that has not started can be changed")


def _with_tags(meta: bytes, tags: list[str]) -> bytes:
    """The meta with new tags. Raises Conflict: the old meta cannot be read."""
    try:
        current = JSON.loads(meta) if meta else {}
        return JSON.dumps({**current, "tags": tags})
    except (ValueError, TypeError):
        raise Conflict("The job's meta cannot be read") from None
