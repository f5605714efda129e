"""RQ's own way of running and ending a job: for every job that is not plain, and every end that is no plain success."""

import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import redis
import rq
import structlog
from rq.exceptions import NoSuchJobError
from rq.executions import Execution

from app import log, recovery
from app.catalog import name_of
from app.quarantine import quarantine
from app.redis import registry_key
from app.rq_parts import Job
from app.worker.claims import Claimed, Claims

if TYPE_CHECKING:
    from app.worker.parent import Worker

LOOK_EVERY = 1.0  # seconds between two tries while Redis is away

logger = structlog.get_logger("jobline.worker")


class RqWay:
    """Of one horse. RQ writes on another connection than `claims`, and not in one step."""

    def __init__(self, worker: "Worker", claims: Claims, give_up: Callable[[], bool]) -> None:
        self.worker, self.claims, self.give_up, self.connection = worker, claims, give_up, worker.connection

    def run(self, claimed: Claimed, begun_at: float) -> None:
        """A job from its beginning to its end."""
        self._safely(claimed, begun_at, self._perform)

    def end(self, job: Job, claimed: Claimed, begun_at: float) -> None:
        """A job that has run without callbacks: `job.outcome` is an exception, or a `Retry` that it returned."""
        self._safely(claimed, begun_at, lambda _: self._end(job))

    def _safely(self, claimed: Claimed, begun_at: float, way: Callable[[Claimed], None]) -> None:
        """Whatever happens on the way, the execution is over in the end."""
        try:
            self.claims.settle()
            self.worker.execution = Execution(claimed.execution_id, claimed.id, self.connection, self.worker.name)
            self.worker.execution.created_at = datetime.fromtimestamp(begun_at, UTC)
            way(claimed)
        except NoSuchJobError:
            logger.warning("deleted while it ran")
        except redis.RedisError as error:
            logger.warning("redis does not take its end", error=str(error))
        except Exception as error:
            logger.exception("unreadable job", job_id=claimed.id)
            quarantine(self.connection, claimed.raw_id, claimed.queue, error, claimed.execution_id)
        self._make_sure(claimed)

    def _perform(self, claimed: Claimed) -> None:
        job = self.worker.job_class.fetch(claimed.id, connection=self.connection, serializer=self.worker.serializer)
        log.about["function"] = name_of(job.func_name)
        self.worker.perform_job(job, self._queue(claimed.queue))

    def _end(self, job: Job) -> None:
        """As the end of rq.Worker.perform_job (RQ 2.12) for a job without callbacks."""
        worker, queue, outcome = self.worker, self._queue(job.origin), job.outcome
        job.started_at = worker.execution and worker.execution.created_at
        if isinstance(outcome, rq.Retry):
            worker.handle_execution_ended(job, queue, job.success_callback_timeout)
            worker.handle_job_retry(job, queue, outcome, queue.started_job_registry, execution=worker.execution)
            return
        logger.warning("job failed", error=repr(outcome))
        worker.handle_execution_ended(job, queue, job.failure_callback_timeout)
        worker.handle_exception(job, type(outcome), outcome, outcome.__traceback__)
        worker.handle_job_failure(job=job, queue=queue, exc_string="".join(traceback.format_exception(outcome)))

    def _queue(self, name: str) -> rq.Queue:
        return next(queue for queue in self.worker.queues if queue.name == name)

    def _make_sure(self, claimed: Claimed) -> None:
        """RQ's ways end a job with several writes, and swallow their failure: see that it has ended, or recover it."""
        member = f"{claimed.id}:{claimed.execution_id}"
        while True:
            try:
                if self.connection.zscore(registry_key("wip", claimed.queue), member) is not None:
                    recovery.recover(
                        self.connection, claimed.queue, claimed.id, claimed.execution_id,
                        "Redis did not take its end", recovery.policy,
                    )  # fmt: skip
            except redis.RedisError:
                if self.give_up():
                    raise
                time.sleep(LOOK_EVERY)
            else:
                return
