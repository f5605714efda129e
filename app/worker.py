"""The RQ worker of Jobline: `rq worker -w app.worker.Worker -c app.worker_config`.

JSON only, functions of the catalogue only, typed arguments, progress; a job that cannot even be read ends in the failed
registry with the reason, and the worker goes on. Subclasses of RQ 2.12's parts that change what their hooks allow.
"""

import asyncio
from typing import Any

import rq
import structlog

from app import progress
from app.catalog import PACKAGE, Catalog
from app.options import Discard, Retry
from app.quarantine import quarantine
from app.serializer import JSON
from app.settings import get_settings

catalog = Catalog(reload=get_settings().reload)


class Job(rq.job.Job):
    """A job whose function comes from the catalogue, never from an import by name."""

    def __init__(self, id: str | None = None, connection: Any = None, serializer: Any = None) -> None:  # noqa: ARG002
        super().__init__(id, connection=connection, serializer=JSON)

    def _execute(self) -> Any:
        """Raises NotFound for a function outside the catalogue, ValidationError for arguments that do not fit."""
        function = catalog.by_path(self.func_name or "")
        args, kwargs = function.typed(list(self.args), self.kwargs)
        progress.report_to(self._save_progress)
        try:
            result = function.call(*args, **kwargs)
            result = asyncio.run(result) if asyncio.iscoroutine(result) else result
        finally:
            progress.report_to(None)
        if isinstance(result, Retry):
            return rq.Retry(result.max, result.waits())
        JSON.dumps(result)  # a result without a JSON form fails the job here, with its reason
        return result

    def _save_progress(self, report: dict[str, object]) -> None:
        self.meta["progress"] = report
        self.save_meta()

    def prepare_for_execution(self, worker_name: str, pipeline: Any) -> None:
        self.meta["attempts"] = int(self.meta.get("attempts", 0)) + 1
        pipeline.hset(self.key, "meta", JSON.dumps(self.meta))
        super().prepare_for_execution(worker_name, pipeline)

    @property
    def fields(self) -> dict[str, Any]:
        """What every line of log about this job's next attempt says."""
        name = (self.func_name or "").removeprefix(f"{PACKAGE}.")
        attempt = int(self.meta.get("attempts", 0)) + 1
        return {"job_id": self.id, "function": name, "queue": self.origin, "attempt": attempt}


class Queue(rq.Queue):
    """A queue of JSON jobs, which sets aside what cannot be read and takes the next."""

    job_class = Job

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "serializer": JSON})

    @classmethod
    def dequeue_any(cls, queues: Any, timeout: Any, connection: Any, **kwargs: Any) -> Any:
        kwargs |= {"job_class": Job, "serializer": JSON}
        while True:
            try:
                return super().dequeue_any(queues, timeout, connection, **kwargs)
            except UnicodeDecodeError as error:  # the id itself: RQ decodes it before it knows the queue
                quarantine(connection, bytes(error.object), cls._named(queues), error)
            except Exception as error:
                if not hasattr(error, "job_id"):
                    raise
                quarantine(connection, error.job_id.encode(), [error.queue.name], error)  # type: ignore[attr-defined]

    @staticmethod
    def _named(queues: Any) -> list[str]:
        return [queue.name for queue in queues]


class Worker(rq.Worker):
    """`rq.Worker` on JSON and the catalogue; started by the `rq worker` command."""

    job_class = Job
    queue_class = Queue
    log_result_lifespan = False

    def __init__(self, queues: Any, *args: Any, **kwargs: Any) -> None:
        queues = queues if isinstance(queues, list | tuple) else [queues]
        names = [queue if isinstance(queue, str) else queue.name for queue in queues]
        kwargs |= {"serializer": JSON, "job_class": Job, "queue_class": Queue}
        kwargs["log_job_description"] = False  # it shows arguments, which may be secret
        super().__init__(names, *args, **kwargs)
        catalog.refresh()

    def perform_job(self, job: Any, queue: Any) -> bool:
        """In the work horse. A job that cannot be deserialised is set aside; every line of log names the job."""
        try:
            fields = job.fields
        except Exception as error:  # garbage: RQ would read it before its own guard, and die
            self._set_aside(job, queue, error)
            return False
        catalog.refresh()
        with structlog.contextvars.bound_contextvars(**fields):
            return super().perform_job(job, queue)

    def _set_aside(self, job: Any, queue: Any, error: Exception) -> None:
        quarantine(self.connection, job.id.encode(), [queue.name], error)
        with self.connection.pipeline() as pipeline:
            self.cleanup_execution(job, pipeline=pipeline)
            self.increment_failed_job_count(pipeline)
            pipeline.execute()

    def handle_exception(self, job: Any, *exc_info: Any) -> None:
        """RQ calls this just before it decides on a retry: none after Discard, or where the filter refuses."""
        error = exc_info[1]
        function = catalog.functions.get((job.func_name or "").removeprefix(f"{PACKAGE}."))
        retry = function.options.retry if function else None
        if isinstance(error, Discard) or (retry and not retry.retries(error)):
            job.retries_left = 0
        super().handle_exception(job, *exc_info)
