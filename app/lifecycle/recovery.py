"""Recover jobs whose worker died: each is queued again, retried, or failed with the reason. None is lost.

Each worker has a lease: a count in `jobline:leases` that its parent increases every LEASE_RENEWAL_SECONDS. All workers
and the scheduler process sweep. A sweeper gives a worker up when its count did not change in LOOKS_BEFORE_LOST looks,
SWEEP_INTERVAL_SECONDS apart. So no clocks of two machines are compared, and nobody is given up because Redis was away
or a machine slept.
A sweeper begins each look with a write: while Redis takes none (its memory or disk is full, it is a replica), workers
cannot beat either, and nobody is given up.
"""

import hashlib
import os
import signal
import time
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
from app.lifecycle.outbox import follow_up
from app.lifecycle.quarantine import quarantine
from app.redis.client import rq_timestamp
from app.redis.keys import LEASES, WORKERS, job_key, registry_key
from app.redis.scripts import Script
from app.rq_adapter.rq_parts import Job, catalog
from app.settings import get_settings
from app.views import job_view, listing

LEASE_RENEWAL_SECONDS = 3.0  # seconds
SWEEP_INTERVAL_SECONDS = 2.5
LOOKS_BEFORE_LOST = 5
MAX_LOSSES = 3  # an idempotent job that took so many workers with it fails
EXECUTION_TTL_SECONDS = 90  # seconds that an execution stays registered without a heartbeat, as RQ 2.12 keeps it
CHILD_TIMEOUT_SECONDS = 120.0  # seconds
WORKER_TTL_SECONDS = 480  # seconds, as RQ 2.12 keeps the hash of a worker; its next beat sets the time anew
MARK_LENGTH = 12  # characters of an execution's id that say whose it is
CALLED_BACK = (b"failure_callback_name", b"stopped_callback_name", b"webhooks")
"""Fields of a job's hash that name callbacks or RQ's webhooks, which are called after a failure."""
NOT_BEGUN = "claimed, but not begun"
LOST = "WorkerLost: the worker died while it ran this job"

END_ATTEMPT = Script("lifecycle/end_attempt")

log = structlog.get_logger("jobline.recovery")

Raw = dict[bytes, bytes]
_children: dict[int, float] = {}


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
    if function and function.options.idempotent and _number(job.get(b"losses"), 0) + 1 < MAX_LOSSES:
        return Outcome.AGAIN
    return Outcome.FAILED


def as_a_failure(job: Raw, may_retry: bool = True) -> Outcome:
    """Decide as after an exception of the job: by its retries alone."""
    return Outcome.RETRIED if may_retry and retries_left(job) > 0 else Outcome.FAILED


def _function(job: Raw) -> Function | None:
    return catalog().refresh().functions.get(job_view.function_of(job) or "")


def retries_left(job: Raw) -> int:
    return _number(job.get(b"retries_left"), 0)


def mark_of(worker_name: str) -> str:
    """The MARK_LENGTH hexadecimal digits with which all execution ids of a worker begin."""
    return hashlib.sha256(worker_name.encode()).hexdigest()[:MARK_LENGTH]


def held_by(connection: redis.Redis, worker_name: str) -> list[tuple[str, str, str]]:
    """Executions that a worker holds, over all queues: (queue, job id, execution id)."""
    mark = mark_of(worker_name)
    return [
        (queue, job_id, execution)
        for queue in listing.queue_names(connection)
        for job_id, execution in _executions(connection, queue)
        if execution.startswith(mark)
    ]


def recover(
    connection: redis.Redis,
    queue: str,
    job_id: str,
    execution_id: str,
    reason: str,
    decide: Callable[[Raw], Outcome],
) -> Outcome | None:
    """End a lost execution, and settle its job as `decide` says. None: the execution had ended already."""
    try:
        job: Raw = connection.hgetall(job_key(job_id))
    except redis.ResponseError as error:  # no hash
        quarantine(connection, job_id.encode(), queue, error)
        job = {}
    now, outcome = datetime.now(UTC), decide(job)
    settled = END_ATTEMPT(
        connection,
        queue=queue,
        id=job_id,
        execution=execution_id,
        outcome=outcome.value,
        now=rq_timestamp(now),
        now_seconds=now.timestamp(),
        reason=b64encode(zlib.compress(reason.encode())),
        failure_ttl=get_settings().failure_ttl,
        began_at=_began_at(job),
    )
    if not settled:
        return None
    log.warning("job recovered", job_id=job_id, queue=queue, outcome=outcome.value, reason=reason.splitlines()[-1])
    function = _function(job) if outcome in (Outcome.AGAIN, Outcome.RETRIED, Outcome.FAILED) else None
    if function:
        limits.count_failure(connection, function)
    if outcome in (Outcome.FAILED, Outcome.STOPPED):
        if any(job.get(field) for field in CALLED_BACK):
            in_child(lambda: _follow(connection, job_id, outcome, reason))
        follow_up(connection)
    return outcome


def give_back(connection: redis.Redis, execution_ids: Sequence[str]) -> int:
    """Return claimed jobs that were not begun to the heads of their queues, in their order. Returns how many."""
    if not execution_ids:
        return 0
    given = 0
    for queue in listing.queue_names(connection):
        found = {execution: job_id for job_id, execution in _executions(connection, queue)}
        for execution in reversed(execution_ids):
            if execution in found:
                recover(connection, queue, found[execution], execution, NOT_BEGUN, lambda _: Outcome.RETURNED)
                given += 1
    return given


def fence(connection: redis.Redis, worker_name: str) -> int:
    """Increase a worker's fence number. Claims with an older number, which may still be on their way, claim nothing."""
    key = f"rq:worker:{worker_name}"
    with connection.pipeline() as pipeline:
        pipeline.hincrby(key, "fence", 1)
        pipeline.expire(key, WORKER_TTL_SECONDS)  # the worker may have been given up, and its hash be gone
        return int(pipeline.execute()[0])


class Sweeper:
    """Finds lost workers, and recovers their jobs."""

    def __init__(self, connection: redis.Redis) -> None:
        self.connection = connection
        self._seen: dict[str, tuple[float, int]] = {}
        """By name of a live worker: how often it renewed its lease, and how many sweeps have found that unchanged."""
        self._overdue: dict[bytes, tuple[float, float]] = {}
        """Overdue executions of live workers: the score, and when it was first seen (time.monotonic)."""
        self._next_at = 0.0

    def sweep(self) -> None:
        """Look once, unless the last look was less than SWEEP_INTERVAL_SECONDS ago. Call it often.

        Raises:
            redis.RedisError: and then every worker is looked at anew.
        """
        if time.monotonic() < self._next_at:
            return
        self._next_at = time.monotonic() + SWEEP_INTERVAL_SECONDS
        reap()
        try:
            self.connection.zadd(LEASES, {"": 0}, xx=True)  # changes nothing, and is refused as any write is
            counts = {name.decode(): count for name, count in self.connection.zrange(LEASES, 0, -1, withscores=True)}
            self._seen = {name: (count, self._looks(name, count)) for name, count in counts.items()}
            for name, (_, looks) in list(self._seen.items()):
                if looks > LOOKS_BEFORE_LOST:
                    self._remove_worker(name)
            self._expire()
        except redis.RedisError:
            self._seen.clear()
            self._overdue.clear()
            raise

    def _looks(self, name: str, count: float) -> int:
        known, looks = self._seen.get(name, (count, 0))
        return looks + 1 if known == count else 0

    def _remove_worker(self, name: str) -> None:
        """Recover what a dead worker held, then remove the worker. The next sweep repeats it if this process dies."""
        for queue, job_id, execution in held_by(self.connection, name):
            self._recover_lost(queue, job_id, execution)
        forget(self.connection, name)
        self._seen.pop(name, None)
        log.warning("worker lost", worker=name)

    def _expire(self) -> None:
        """Recover executions past the time that RQ gives them: those of stock workers that died.

        A live worker renews its own. Its clock, this one or Redis's may have jumped: then the time is over, and the job
        still runs. So where the worker may live (it has a lease, or for a stock worker RQ's hash), they are recovered
        only if they are not renewed for as long by this process's monotonic clock.
        """
        live = {mark_of(name) for name in self._seen}
        now, monotonic, overdue = time.time(), time.monotonic(), dict[bytes, tuple[float, float]]()
        for queue in listing.queue_names(self.connection):
            for member, score in self.connection.zrangebyscore(registry_key("wip", queue), 0, now, withscores=True):
                job_id, execution = _parts(member)
                known, since = self._overdue.get(member, (score, monotonic))
                since = since if known == score else monotonic
                lives = execution[:MARK_LENGTH] in live or self._is_registered(job_id)
                if lives and monotonic - since < EXECUTION_TTL_SECONDS:
                    overdue[member] = score, since
                else:
                    self._recover_lost(queue, job_id, execution)
        self._overdue = overdue

    def _is_registered(self, job_id: str) -> bool:
        """Whether the worker of a job is known to RQ, stock ones too."""
        try:
            name = self.connection.hget(job_key(job_id), "worker_name")
        except redis.ResponseError:  # no hash
            return False
        return bool(name) and bool(self.connection.exists(b"rq:worker:" + name))

    def _recover_lost(self, queue: str, job_id: str, execution: str) -> None:
        recover(self.connection, queue, job_id, execution, LOST, policy)


def forget(connection: redis.Redis, worker_name: str) -> None:
    """Remove a worker from RQ's sets and from the leases. If it lives after all, its next beat registers it again."""
    key = f"rq:worker:{worker_name}"
    queues = (connection.hget(key, "queues") or b"").decode()
    with connection.pipeline() as pipeline:
        for queue in queues.split(","):
            pipeline.srem(f"rq:workers:{queue}", key)
        pipeline.srem(WORKERS, key)
        pipeline.delete(key)
        pipeline.zrem(LEASES, worker_name)
        pipeline.execute()


def in_child(work: Callable[[], object]) -> None:
    """Run callbacks of users in a child process, where they can block and crash nothing else."""
    reap()
    pid = os.fork()
    if pid:
        _children[pid] = time.monotonic() + CHILD_TIMEOUT_SECONDS
        return
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        work()
    except BaseException:
        log.exception("a callback after a failure has failed")
    finally:
        os._exit(0)


def reap() -> None:
    """Reap ended children, and kill those that run longer than CHILD_TIMEOUT_SECONDS."""
    for pid, until in list(_children.items()):
        if time.monotonic() > until:
            os.kill(pid, signal.SIGKILL)
        try:
            ended = os.waitpid(pid, os.WNOHANG)[0]
        except ChildProcessError:  # a child of the process that this one was forked from
            ended = pid
        if ended:
            del _children[pid]


def wait_for_children() -> None:
    """Wait until all children have ended. Call it before the process exits."""
    while _children:
        reap()
        time.sleep(0.01)


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


def _executions(connection: redis.Redis, queue: str) -> list[tuple[str, str]]:
    return [_parts(member) for member in connection.zrange(registry_key("wip", queue), 0, -1)]


def _parts(member: bytes) -> tuple[str, str]:
    """Split a member of RQ's started registry into job id and execution id."""
    job_id, _, execution = member.decode(errors="replace").rpartition(":")
    return job_id, execution


def _began_at(job: Raw) -> float | str:
    """Seconds; '' if its hash does not say."""
    try:
        return datetime.fromisoformat(job.get(b"started_at", b"").decode()).timestamp()
    except ValueError:  # UnicodeDecodeError is one
        return ""


def _number(text: bytes | None, default: int) -> int:
    try:
        return int(text) if text else default
    except ValueError:
        return default
