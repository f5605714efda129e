"""Run and end a job by RQ's own methods: for jobs with callbacks, webhooks, groups or repeats, and for `Retry` results.

What the job returned or raised is known before its end is written. So an end that Redis cannot take now is written
again later, and never replaced by another one.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, TypeVar

import redis
import rq
import structlog
from rq.exceptions import NoSuchJobError
from rq.executions import Execution
from rq.job import JobStatus

from app import log
from app.catalog.catalog import function_name
from app.lifecycle import executions, recovery
from app.lifecycle.quarantine import quarantine
from app.lifecycle.recovery import Outcome, Raw
from app.redis.errors import is_transient
from app.redis.keys import registry_key
from app.rq_adapter.rq_parts import Job
from app.worker.attempt import Attempt, JobAborted
from app.worker.claimed import Claimed, Ended, Reports
from app.worker.reporter import expire_log
from app.worker.rq_worker import RqWorker

FIRST_WAIT_SECONDS, MAX_WAIT_SECONDS = 0.05, 1.0  # seconds between two tries while Redis is away
TRIES = 5  # at an end that Redis refuses although it is there

OUTCOMES = {JobStatus.FINISHED: "finished", JobStatus.FAILED: "failed"}
"""In the metrics, by the status that RQ's methods leave in their job."""

Answer = TypeVar("Answer")

logger = structlog.get_logger("jobline.worker")


class RqFallback:
    """Of one horse. RQ writes on another connection than `session`, and not in one step."""

    def __init__(self, worker: RqWorker, reports: Reports, attempt: Attempt, give_up: Callable[[], bool]) -> None:
        self.worker, self.reports, self.attempt, self.give_up = worker, reports, attempt, give_up
        self.connection = worker.connection

    def run(self, claimed: Claimed, begun_at: float) -> None:
        """Run a claimed job and write its end."""
        self._safely(claimed, lambda: self._perform(claimed, begun_at))

    def end(self, job: Job, claimed: Claimed, begun_at: float, error: BaseException | None) -> None:
        """Write the end of a job that has run: `error` is what it raised; None if it returned a `Retry`."""
        self._safely(claimed, lambda: self._end(job, claimed, begun_at, error))

    def _safely(self, claimed: Claimed, write_end: Callable[[], bool]) -> None:
        """Call `write_end`, and end the execution by `recovery.recover` if it fails or returns False."""
        why = "its end could not be written"
        try:
            self.reports.settle()
            if write_end():
                return
        except NoSuchJobError:
            logger.warning("deleted while it ran")
        except redis.RedisError as error:
            logger.warning("redis does not take its end", error=str(error))
            why = f"{why}: {type(error).__name__}: {error}"
        except Exception as error:
            logger.exception("unreadable job", job_id=claimed.id)
            unreadable = error  # the name `error` ends with this block
            self._patiently(
                lambda: quarantine(self.connection, claimed.raw_id, claimed.queue, unreadable, claimed.execution_id)
            )
        self._recover(claimed, why, recovery.policy)

    @contextlib.contextmanager
    def _execution(self, claimed: Claimed, begun_at: float) -> Iterator[None]:
        """Have the methods of RQ's worker work on this execution: they know one at a time."""
        with self.worker.rq_lock:
            self.worker.execution = Execution(claimed.execution_id, claimed.id, self.connection, self.worker.name)
            self.worker.execution.created_at = datetime.fromtimestamp(begun_at, UTC)
            yield

    def _perform(self, claimed: Claimed, begun_at: float) -> bool:
        """As rq.Worker.perform_job (RQ 2.12), in three parts, of which the second alone runs code of the job."""
        with self._execution(claimed, begun_at):
            job = self._patiently(lambda: self._prepare(claimed))
        job.started_at = datetime.now(UTC)
        error = self.attempt.run(job, claimed, job.timeout or self.worker.queue_class.DEFAULT_TIMEOUT)
        if isinstance(error, JobAborted):
            return True
        self.attempt.reporter.settle(claimed)
        return self._end(job, claimed, begun_at, error, callbacks=True)

    def _prepare(self, claimed: Claimed) -> Job:
        found = self.worker.job_class.fetch(claimed.id, connection=self.connection, serializer=self.worker.serializer)
        found.check_callbacks()
        claimed.function = log.job_fields()["function"] = function_name(found.func_name)
        self.worker.prepare_job_execution(found, len(self.worker.queues) == 1)
        self.connection.persist(found.key)
        job: Job = found
        return job

    def _end(
        self, job: Job, claimed: Claimed, begun_at: float, error: BaseException | None, callbacks: bool = False
    ) -> bool:
        """As the end of rq.Worker.perform_job (RQ 2.12); whether Redis has taken it."""
        with self._execution(claimed, begun_at):
            return self._write_end(job, claimed, error, callbacks)

    def _write_end(self, job: Job, claimed: Claimed, error: BaseException | None, callbacks: bool) -> bool:
        worker, queue = self.worker, self._queue(claimed.queue)
        if not callbacks:
            job.started_at = worker.execution and worker.execution.created_at
        job.ended_at = datetime.now(UTC)
        with contextlib.suppress(redis.RedisError):  # a sign of life, which its end repeats
            worker.handle_execution_ended(job, queue, 0)
        if error is None and isinstance(job.outcome, rq.Retry):
            retry = job.outcome
            return self._write(job, claimed, lambda: worker.handle_job_retry(
                job, queue, retry, queue.started_job_registry, execution=worker.execution
            ))  # fmt: skip
        if error is None:
            job._result, job._status = job.outcome, JobStatus.FINISHED
            error = _raised_by(lambda: job.execute_success_callback(worker.death_penalty_class, job.outcome))
        if error is None:
            taken = self._write(job, claimed, lambda: worker.handle_job_success(job, queue, queue.started_job_registry))
            if taken:
                job.send_webhooks(JobStatus.FINISHED)
            return taken
        return self._fail(job, claimed, queue, error, callbacks)

    def _fail(self, job: Job, claimed: Claimed, queue: rq.Queue, error: BaseException, callbacks: bool) -> bool:
        worker = self.worker
        logger.warning("job failed", error=log.safe_repr(error))
        if callbacks:
            job._status = JobStatus.FAILED
            failed = error
            error = _raised_by(lambda: job.execute_failure_callback(
                worker.death_penalty_class, type(failed), failed, failed.__traceback__
            )) or error  # fmt: skip
        text, may_retry = self.attempt.handle_failure(job, error)
        taken = self._write(job, claimed, lambda: worker.handle_job_failure(job=job, queue=queue, exc_string=text))
        if taken:
            self._patiently(lambda: self._queue_dependents(job, queue))
        else:
            self._recover(claimed, text, lambda job_hash: recovery.as_a_failure(job_hash, may_retry))
        return True

    def _queue_dependents(self, job: Job, queue: rq.Queue) -> None:
        """RQ does so after the transaction that ends a failed job, and swallows what goes wrong there.

        Not those of a job that is retried: RQ (2.12) would take it for one that has ended.
        """
        if self.connection.hget(job.key, "status") == JobStatus.FAILED.value.encode():
            queue.enqueue_dependents(job)

    def _write(self, job: Job, claimed: Claimed, end: Callable[[], object]) -> bool:
        """Call `end` until Redis has taken the end of the job. RQ ignores some failures, so the execution is checked.

        Returns False if Redis answers but does not take it. Changes that RQ makes to `job` are undone before each try.
        """
        before, started_at = dict(job.__dict__), job.started_at or datetime.now(UTC)
        for tries in range(1, TRIES + 1):
            try:
                end()
            except redis.RedisError as error:
                if not is_transient(error):
                    raise
                logger.warning("redis is away", error=f"{type(error).__name__}: {error}")
            if not self._patiently(lambda: self._is_held(claimed)):
                outcome = OUTCOMES.get(job._status, "retried")
                self.reports.counts(Ended(claimed, outcome, started_at.timestamp(), time.time()))
                if claimed.has_log:
                    self._patiently(lambda: expire_log(self.connection, claimed))
                return True
            job.__dict__.clear()
            job.__dict__.update(before)
            time.sleep(FIRST_WAIT_SECONDS * tries)
        return False

    def _recover(self, claimed: Claimed, reason: str, decide: Callable[[Raw], Outcome]) -> None:
        """End the execution by the script of lifecycle/recovery.py, unless it has ended."""
        execution = executions.Execution(claimed.queue, claimed.id, claimed.execution_id)
        self._patiently(lambda: self._is_held(claimed) and recovery.recover(self.connection, execution, reason, decide))

    def _is_held(self, claimed: Claimed) -> bool:
        member = f"{claimed.id}:{claimed.execution_id}"
        return self.connection.zscore(registry_key("wip", claimed.queue), member) is not None

    def _patiently(self, ask: Callable[[], Answer]) -> Answer:
        """Call `ask` until Redis answers. Raises redis.RedisError: the worker is to stop."""
        wait = FIRST_WAIT_SECONDS
        while True:
            try:
                return ask()
            except redis.RedisError as error:
                if not is_transient(error):
                    raise
                logger.warning("redis is away", error=f"{type(error).__name__}: {error}", again_in=wait)
                if self.give_up():
                    raise
                time.sleep(wait)
                wait = min(2 * wait, MAX_WAIT_SECONDS)

    def _queue(self, name: str) -> rq.Queue:
        return next(queue for queue in self.worker.queues if queue.name == name)


def _raised_by(call: Callable[[], Any]) -> BaseException | None:
    try:
        call()
    except BaseException as error:
        return error
    return None
