"""Recover jobs whose execution was lost: each is queued again, retried, or failed with the reason. None is lost.

Lost executions are found by app/lifecycle/lost_workers.py, and by the parent process of a worker for its work horse.
"""

import zlib
from base64 import b64encode
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from enum import StrEnum

import redis
import structlog
from rq.exceptions import AbandonedJobError, NoSuchJobError
from rq.timeouts import UnixSignalDeathPenalty

from app import limits
from app.catalog.catalog import Function
from app.lifecycle import callback_processes
from app.lifecycle.executions import Execution, executions
from app.lifecycle.outbox import follow_up
from app.lifecycle.quarantine import quarantine
from app.redis.client import rq_timestamp
from app.redis.hash_values import int_of
from app.redis.keys import job_key, worker_key
from app.redis.scripts import Script
from app.rq_adapter.rq_parts import Job, catalog
from app.settings import get_settings
from app.views import job_view

MAX_LOSSES = 3  # an idempotent job that took so many workers with it fails
EXECUTION_TTL_SECONDS = 90  # seconds that an execution stays registered without a heartbeat, as RQ 2.12 keeps it
WORKER_TTL_SECONDS = 480  # seconds, as RQ 2.12 keeps the hash of a worker; its next beat sets the time anew
CALLED_BACK = (b"failure_callback_name", b"stopped_callback_name", b"webhooks")
"""Fields of a job's hash that name callbacks or RQ's webhooks, which are called after a failure."""
NOT_BEGUN = "claimed, but not begun"
LOST = "WorkerLost: the worker died while it ran this job"

END_ATTEMPT = Script("lifecycle/end_attempt")

log = structlog.get_logger("jobline.recovery")

Raw = dict[bytes, bytes]


class Outcome(StrEnum):
    """How a job is settled whose execution was lost or failed. RETURNED, AGAIN and RETRIED queue it again."""

    RETURNED = "returned"
    """Back to the head of its queue, without a retry or a loss counted."""
    AGAIN = "again"
    """Back to the head of its queue, counted as a loss."""
    RETRIED = "retried"
    FAILED = "failed"
    STOPPED = "stopped"


def policy(job: Raw) -> Outcome:
    """Decide on a lost job: returned if not begun, retried if it has retries, again if idempotent, else failed."""
    if job.get(b"status") == b"queued":
        return Outcome.RETURNED
    if retries_left(job) > 0:
        return Outcome.RETRIED
    function = _function(job)
    if function and function.options.idempotent and (int_of(job.get(b"losses")) or 0) + 1 < MAX_LOSSES:
        return Outcome.AGAIN
    return Outcome.FAILED


def as_a_failure(job: Raw, may_retry: bool = True) -> Outcome:
    """Decide as after an exception of the job: by its retries alone."""
    return Outcome.RETRIED if may_retry and retries_left(job) > 0 else Outcome.FAILED


def _function(job: Raw) -> Function | None:
    return catalog().refresh().functions.get(job_view.function_of(job) or "")


def retries_left(job: Raw) -> int:
    return int_of(job.get(b"retries_left")) or 0


def recover(
    connection: redis.Redis,
    execution: Execution,
    reason: str,
    decide: Callable[[Raw], Outcome],
) -> Outcome | None:
    """End a lost execution, and settle its job as `decide` says. None: the execution had ended already."""
    try:
        job: Raw = connection.hgetall(job_key(execution.job_id))
    except redis.ResponseError as error:  # no hash
        quarantine(connection, execution.job_id.encode(), execution.queue, error)
        job = {}
    now, outcome = datetime.now(UTC), decide(job)
    settled = END_ATTEMPT(
        connection,
        queue=execution.queue,
        id=execution.job_id,
        execution=execution.id,
        outcome=outcome.value,
        now=rq_timestamp(now),
        now_seconds=now.timestamp(),
        reason=b64encode(zlib.compress(reason.encode())),
        failure_ttl=get_settings().failure_ttl,
        began_at=_began_at(job),
        **_counted_as(outcome, decide),
    )
    if not settled:
        return None
    log.warning(
        "job recovered",
        job_id=execution.job_id,
        queue=execution.queue,
        outcome=outcome.value,
        reason=reason.splitlines()[-1],
    )
    function = _function(job) if outcome in (Outcome.AGAIN, Outcome.RETRIED, Outcome.FAILED) else None
    if function:
        limits.count_failure(connection, function)
    if outcome in (Outcome.FAILED, Outcome.STOPPED):
        if any(job.get(field) for field in CALLED_BACK):
            callback_processes.start(lambda: _follow(connection, execution.job_id, outcome, reason))
        follow_up(connection)
    return outcome


def _counted_as(outcome: Outcome, decide: Callable[[Raw], Outcome]) -> dict[str, str]:
    """Outcome and reason of a recovered execution in the metrics; no outcome if it goes back as if nothing had been."""
    if outcome is Outcome.RETURNED:
        return {"counted_as": "", "recovered": "returned"}
    if outcome is Outcome.STOPPED:
        return {"counted_as": outcome.value, "recovered": "stopped"}
    if decide is as_a_failure:
        return {"counted_as": outcome.value, "recovered": "timeout"}
    return {"counted_as": "lost", "recovered": "lost"}


def give_back(connection: redis.Redis, execution_ids: Sequence[str]) -> int:
    """Return claimed jobs that were not begun to the heads of their queues, in their order. Returns how many."""
    if not execution_ids:
        return 0
    held = {execution.id: execution for execution in executions(connection)}
    given = [held[execution_id] for execution_id in reversed(execution_ids) if execution_id in held]
    for execution in given:
        recover(connection, execution, NOT_BEGUN, lambda _: Outcome.RETURNED)
    return len(given)


def fence(connection: redis.Redis, worker_name: str) -> int:
    """Increase a worker's fence number. Claims with an older number, which may still be on their way, claim nothing."""
    key = worker_key(worker_name)
    with connection.pipeline() as pipeline:
        pipeline.hincrby(key, "fence", 1)
        pipeline.expire(key, WORKER_TTL_SECONDS)  # the worker may have been given up, and its hash be gone
        return int(pipeline.execute()[0])


def _follow(connection: redis.Redis, job_id: str, outcome: Outcome, reason: str) -> None:
    """Call back and send RQ's webhooks, as RQ 2.12 does after a job failed for good."""
    try:
        job = Job.fetch(job_id, connection=connection)
    except NoSuchJobError:  # its failure_ttl is 0
        return
    if outcome is Outcome.STOPPED:
        if job.stopped_callback:
            job.execute_stopped_callback(UnixSignalDeathPenalty)
        return
    job.send_webhooks("failed", exc_string=reason)
    error = AbandonedJobError(reason)
    job.execute_failure_callback(UnixSignalDeathPenalty, type(error), error, None)


def _began_at(job: Raw) -> float | str:
    """Seconds; '' if its hash does not say."""
    try:
        return datetime.fromisoformat(job.get(b"started_at", b"").decode()).timestamp()
    except ValueError:  # UnicodeDecodeError is one
        return ""
