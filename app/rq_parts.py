"""RQ's Job and Queue on JSON and the catalogue: what workers, the scheduler and the dashboard make of RQ 2.12's own."""

import asyncio
import time
from datetime import timedelta
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any

import rq
from rq.job import JobStatus
from rq.results import Result

from app import progress
from app.catalog import Catalog, name_of
from app.options import Discard, Retry
from app.serializer import JSON
from app.settings import get_settings


@cache
def catalog() -> Catalog:
    """This process's catalogue."""
    return Catalog(reload=get_settings().reload)


class Job(rq.job.Job):
    """A job whose function comes from the catalogue, never from an import by name."""

    retry_after: float | None = None
    """Seconds that its exception asked to wait before the next attempt."""
    outcome: Any = None
    """What its function returned or raised, until it is reported."""
    failed_attempt: dict[str, Any] | None = None
    """Of the attempt that has just failed: what `rq.results.Result` keeps."""

    def __init__(self, id: str | None = None, connection: Any = None, serializer: Any = None) -> None:  # noqa: ARG002
        super().__init__(id, connection=connection, serializer=JSON)

    @classmethod
    def begun(cls, job_id: str, connection: Any, queue: str, call: list[Any]) -> "Job":
        """A job known by its call alone; all else is read from Redis at the first use of it.

        Raises:
            ValueError: `call` is not what RQ writes: function, None, arguments, keyword arguments.
        """
        path, instance, args, kwargs = call
        if not (isinstance(path, str) and instance is None and isinstance(args, list) and isinstance(kwargs, dict)):
            raise ValueError("not the call of a function")
        job = cls.__new__(cls)
        job.__dict__.update(
            _id=job_id, connection=connection, origin=queue, _func_name=path, _instance=None, _args=args,
            _kwargs=kwargs, _status=JobStatus.STARTED,
        )  # fmt: skip
        return job

    def __getattr__(self, name: str) -> Any:
        """Only for a job of `begun`, and only the first time."""
        if name.startswith("__") or "meta" in self.__dict__ or "connection" not in self.__dict__:
            raise AttributeError(name)
        known = dict(self.__dict__)
        Job.__init__(self, known["_id"], known["connection"])
        self.refresh()
        self.__dict__.update(known)
        return getattr(self, name)

    def _execute(self) -> Any:
        """Raises NotFound for a function outside the catalogue, ValidationError for arguments that do not fit."""
        function = catalog().by_path(self.func_name or "")
        args, kwargs = function.typed(list(self.args), self.kwargs)
        progress.report_to(self._save_progress)
        try:
            result = function.call(*args, **kwargs)
            result = asyncio.run(result) if asyncio.iscoroutine(result) else result
        finally:
            progress.report_to(None)
        if isinstance(result, Retry):
            return rq.Retry(result.max, result.waits())
        return result

    def _save_progress(self, report: dict[str, object]) -> None:
        self.meta["progress"] = report
        self.save_meta()

    def retry_by_options(self, error: BaseException) -> None:
        """Decide on its retry by what the exception and its function's options say."""
        function = catalog().functions.get(name_of(self.func_name))
        retry = function.options.retry if function else None
        if isinstance(error, Discard) or (retry and not retry.retries(error)):
            self.retries_left = 0
        self.retry_after = _retry_after(error)

    def retry(self, queue: rq.Queue, pipeline: Any) -> None:
        """RQ's own keeps nothing of an attempt that failed and is retried: ours keeps it as one that asked for it."""
        if self.failed_attempt:
            ttl = get_settings().failure_ttl if self.failure_ttl is None else self.failure_ttl
            Result.create(self, Result.Type.RETRIED, ttl, pipeline=pipeline, **self.failed_attempt)
        super().retry(queue, pipeline)

    def get_retry_interval(self) -> int:
        return super().get_retry_interval() if self.retry_after is None else round(self.retry_after)


def _retry_after(error: BaseException) -> float | None:
    """Seconds: the exception's own `retry_after`, or the header of its HTTP response (RFC 9110, section 10.2.3)."""
    wait: Any = getattr(error, "retry_after", None)
    headers = getattr(getattr(error, "response", None), "headers", None)
    if wait is None and headers is not None:
        wait = headers.get("Retry-After")
    if isinstance(wait, timedelta):
        wait = wait.total_seconds()
    try:
        return max(0.0, float(wait))
    except (TypeError, ValueError):
        pass
    try:
        return max(0.0, parsedate_to_datetime(str(wait)).timestamp() - time.time())
    except (TypeError, ValueError):
        return None


class Queue(rq.Queue):
    """A queue of JSON jobs."""

    job_class = Job

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "serializer": JSON})
