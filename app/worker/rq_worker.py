"""rq.Worker 2.12 on JSON and the catalogue: its hooks, without the processes. app/worker/parent.py adds those."""

import threading
from datetime import UTC, datetime
from typing import Any

import redis
import rq
import structlog
from rq import worker_registration
from rq.executions import Execution

from app import limits
from app.catalog.catalog import function_name
from app.lifecycle.lost_workers import Sweeper
from app.redis.keys import LEASES, registry_key
from app.redis.pipelined import PipelinedConnection
from app.rq_adapter.rq_parts import Job, Queue, catalog
from app.serializer import JSON
from app.settings import get_settings
from app.worker.timeouts import Alarm
from app.worker.usage import Usage

log = structlog.get_logger("jobline.worker")


class RqWorker(rq.Worker):
    """What the modules of this folder know of a worker."""

    job_class = Job
    queue_class = Queue
    connection_class = PipelinedConnection
    death_penalty_class = Alarm
    log_result_lifespan = False

    def __init__(self, queues: Any, *args: Any, **kwargs: Any) -> None:
        queues = queues if isinstance(queues, list | tuple) else [queues]
        names = [queue if isinstance(queue, str) else queue.name for queue in queues]
        kwargs |= {"serializer": JSON, "job_class": Job, "queue_class": Queue}
        kwargs["log_job_description"] = False  # it shows arguments, which may be secret
        super().__init__(names, *args, **kwargs)
        self.execution: Execution | None = None
        self.rq_lock = threading.Lock()
        """Held while methods of `rq.Worker` work on `execution`."""
        self.sweeper = Sweeper(self.connection)
        self.usage = Usage()

    @property
    def stop_requested(self) -> bool:
        return self._stop_requested

    def clean_registries(self) -> None:
        """Clean the finished, failed and deferred registries, as rq.Worker.clean_registries (RQ 2.12).

        The started registry is left to the Sweeper.

        RQ goes by wall time there, and settles an execution in several steps, while a sweeper may settle it too.
        """
        for queue in self.queues:
            if queue.acquire_maintenance_lock():
                for registry in (queue.finished_job_registry, queue.failed_job_registry, queue.deferred_job_registry):
                    registry.cleanup()
                worker_registration.clean_worker_registry(queue)
                queue.intermediate_queue.cleanup(self, queue)
                queue.release_maintenance_lock()
        self.last_cleaned_at = datetime.now(UTC)

    def register_birth(self) -> None:
        super().register_birth()
        self.connection.zincrby(LEASES, 1, self.name)

    def register_death(self) -> None:
        super().register_death()
        self.connection.zrem(LEASES, self.name)

    def cleanup_execution(self, job: Any, pipeline: Any) -> None:
        """RQ forgets the execution here, so that a second try after a WatchError would leave it behind (rq#2424)."""
        execution = self.execution
        super().cleanup_execution(job, pipeline)
        self.execution = execution

    def handle_job_success(self, job: Any, queue: Any, started_job_registry: Any) -> None:
        if self._still_holds(job):
            super().handle_job_success(job, queue, started_job_registry)

    def handle_job_failure(self, job: Any, queue: Any, started_job_registry: Any = None, exc_string: str = "") -> None:
        if self._still_holds(job):
            _set_failure_ttl(job)
            job.reason = exc_string
            job.failed_attempt = {
                "exc_string": exc_string,
                "worker_name": self.name,
                "execution_id": self.execution and self.execution.id,
                "execution_started_at": self.execution and self.execution.created_at,
                "execution_ended_at": job.ended_at,
            }
            super().handle_job_failure(job, queue, started_job_registry, exc_string)

    def handle_job_retry(self, job: Any, queue: Any, *args: Any, **kwargs: Any) -> None:
        if self._still_holds(job):
            _set_failure_ttl(job)
            super().handle_job_retry(job, queue, *args, **kwargs)

    def _still_holds(self, job: Any) -> bool:
        """Whether its execution is still ours to end: one that was recovered meanwhile is another worker's.

        Nor is that of a job which was deleted: RQ's writes would make its keys anew, and nothing would remove them.
        """
        if self.execution is None:
            return True
        with self.connection.pipeline(transaction=False) as pipeline:
            pipeline.zscore(registry_key("wip", job.origin), f"{job.id}:{self.execution.id}")
            pipeline.exists(job.key)
            score, exists = pipeline.execute()
        return score is not None and bool(exists)

    def handle_exception(self, job: Any, *exc_info: Any) -> None:
        """RQ calls this just before it decides on a retry."""
        if isinstance(job, Job):
            job.retry_by_options(exc_info[1])
            if function := catalog().functions.get(function_name(job.func_name)):
                try:
                    limits.count_failure(self.connection, function)
                except redis.RedisError as error:
                    log.warning("a failure is not counted by its breaker", error=f"{type(error).__name__}: {error}")
        super().handle_exception(job, *exc_info)


def _set_failure_ttl(job: Any) -> None:
    """RQ 2.12 keeps the results of a failed job for ever, if it was enqueued without a failure_ttl."""
    if job.failure_ttl is None:
        job.failure_ttl = get_settings().failure_ttl
