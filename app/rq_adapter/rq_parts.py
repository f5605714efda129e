"""RQ's Job and Queue on JSON and the catalogue: what workers, the scheduler and the dashboard make of RQ 2.12's own."""

import asyncio
import math
import time
import zlib
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from typing import Any, NamedTuple

import redis
import rq
from rq.job import JobStatus
from rq.results import Result
from rq.utils import utcformat

from app import log
from app.author import hooks, progress
from app.author.options import Discard, Misuse, Retry
from app.catalog.catalog import Catalog, function_name
from app.catalog.function_options import validated_retry
from app.errors import NotFound
from app.events import stream
from app.lifecycle import outbox
from app.redis.client import now as redis_now
from app.redis.errors import is_transient
from app.redis.keys import QUEUES, registry_key
from app.redis.scripts import Script
from app.rq_adapter import coroutines, retry_after
from app.rq_adapter.shared_loop import SharedLoop
from app.serializer import JSON, dumps_checked
from app.settings import get_settings
from app.states import ENDED
from app.views import job_view
from app.workflows.results import with_results

SET_FIELD = Script("lifecycle/set_field")
RETRY = (Retry, Misuse)
"""What a function returns that asks to be tried again, rightly or wrongly said."""
REDIS_RETRY_SECONDS = 0.5  # seconds

_override: Catalog | None = None


@cache
def catalog() -> Catalog:
    """This process's catalogue."""
    return _override or Catalog(reload=get_settings().reload)


@contextmanager
def override_catalog(functions: Catalog) -> Iterator[None]:
    """Have `catalog` return this one, in all threads. For tests."""
    global _override
    outer, _override = _override, functions
    catalog.cache_clear()
    try:
        yield
    finally:
        _override = outer
        catalog.cache_clear()


def _callback(name: str | None) -> Callable[..., Any] | None:
    """Raises NotFound: it is no function that callers may enqueue."""
    try:
        return catalog().get(function_name(name)).call if name else None
    except NotFound as error:
        raise NotFound(f"callback {name!r} is refused: {error.detail}") from None


class Follows(NamedTuple):
    """What hangs on the end of a job, as its hash says."""

    workflow: bool
    webhook: bool


NOTHING = Follows(workflow=False, webhook=False)


class Job(rq.job.Job):
    """A job whose function and callbacks come from the catalogue, never from an import by name."""

    retry_after: float | None = None
    """Seconds that its exception asked to wait before the next attempt."""
    outcome: Any = None
    """What its function returned or raised, until it is reported."""
    failed_attempt: dict[str, Any] | None = None
    """Of the attempt that has just failed: what `rq.results.Result` keeps."""
    follows: Follows = NOTHING
    """What hangs on its end."""
    reason = ""
    """Why it fails, when it does."""

    def __init__(self, id: str | None = None, connection: Any = None, serializer: Any = None) -> None:  # noqa: ARG002
        super().__init__(id, connection=connection, serializer=JSON)

    @classmethod
    def begun(cls, job_id: str, connection: Any, queue: str, call: list[Any], follows: Follows) -> "Job":
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
            _kwargs=kwargs, _status=JobStatus.STARTED, follows=follows,
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

    # RQ imports whatever the fields of the hash name; rq.job.Job (RQ 2.12) keeps the names in these attributes
    success_callback = property(lambda self: _callback(self._success_callback_name))
    failure_callback = property(lambda self: _callback(self._failure_callback_name))
    stopped_callback = property(lambda self: _callback(self._stopped_callback_name))

    def check_callbacks(self) -> None:
        """Raises NotFound: one of them is no function of the catalogue."""
        self.success_callback, self.failure_callback, self.stopped_callback  # noqa: B018 - they are looked up

    @property
    def attempt(self) -> int | None:
        """The number of the attempt that this process runs, from 1; None for a job that it does not run."""
        fields = log.job_fields()
        number: int | None = fields.get("attempt") if fields.get("job_id") == self.id else None
        return number

    @property
    def is_coroutine(self) -> bool:
        """Whether its function is `async def`."""
        function = catalog().functions.get(function_name(self.func_name))
        return function is not None and function.is_coroutine

    def _execute(self) -> Any:
        """Call the function; see `_call`."""
        result = self._call()
        return _outcome(coroutines.run(result) if asyncio.iscoroutine(result) else result)

    async def execute_on(self, loop: SharedLoop) -> Any:
        """Call an `async def` function, on the loop; see `_call`."""
        return _outcome(await loop.run_here(self._call()))

    def _call(self) -> Any:
        """Raises NotFound for a function outside the catalogue, ValidationError for arguments that do not fit."""
        function = catalog().by_path(self.func_name or "")
        given, named = list(self.args), self.kwargs
        if self.follows.workflow:
            given, named = self._with_results(given, named)
        return function.run(given, named, hooks.context)

    def _with_results(self, args: list[Any], kwargs: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """Waits for Redis while it is away, as long as the timeout lets it."""
        while True:
            try:
                args, kwargs = with_results(self.connection, self.id, args, kwargs)
            except redis.RedisError as error:
                if not is_transient(error):
                    raise
                time.sleep(REDIS_RETRY_SECONDS)
            else:
                return args, kwargs

    def heartbeat(self, timestamp: datetime, ttl: int, pipeline: Any = None, xx: bool = False) -> None:
        """Record that the job runs, as `rq.job.Job.heartbeat` (RQ 2.12), but without creating a deleted job anew."""
        if pipeline is not None:
            super().heartbeat(timestamp, ttl, pipeline, xx)
            return
        self.last_heartbeat = timestamp
        SET_FIELD(self.connection, id=self.id, field="last_heartbeat", value=utcformat(timestamp))

    def to_dict(self, include_meta: bool = True, include_result: bool = True) -> Any:
        self._keep_progress()
        return super().to_dict(include_meta, include_result)

    def save_meta(self) -> None:
        """Store `meta`, as `rq.job.Job.save_meta` (RQ 2.12), but without creating a deleted job anew.

        Raises:
            TypeError, TooDeep: `meta` cannot be stored as JSON.
        """
        self._keep_progress()
        SET_FIELD(self.connection, id=self.id, field="meta", value=dumps_checked(self.meta))

    def _keep_progress(self) -> None:
        """Its meta in Redis has a progress that this copy of it may not have: it must not be lost with a save."""
        report = progress.latest.get(self._id)
        if report and isinstance(self.meta, dict):
            self.meta["progress"] = report

    def retry_by_options(self, error: BaseException) -> None:
        """Decide on its retry by what the exception and its function's options say."""
        function = catalog().functions.get(function_name(self.func_name))
        retry = function.options.retry if function else None
        if isinstance(error, Discard) or (retry and not retry.retries(error)):
            self.retries_left = 0
        self.retry_after = retry_after.of(error)

    def retry(self, queue: rq.Queue, pipeline: Any) -> None:
        """RQ's own keeps nothing of an attempt that failed and is retried: ours keeps it as one that asked for it."""
        if self.failed_attempt:
            ttl = get_settings().failure_ttl if self.failure_ttl is None else self.failure_ttl
            Result.create(self, Result.Type.RETRIED, ttl, pipeline=pipeline, **self.failed_attempt)
        super().retry(queue, pipeline)

    def restore(self, raw_data: Any) -> None:
        super().restore(raw_data)
        self.follows = Follows(b"workflow" in raw_data, b"webhook" in raw_data)
        meta: Any = self.__dict__["meta"]
        if isinstance(meta, dict) and isinstance(meta.get("unserialized"), bytes):
            self.__dict__[
                "meta"
            ] = {}  # RQ put the bytes there that it could not read; what is empty is not written back

    def set_status(self, status: JobStatus, pipeline: Any = None) -> None:
        """RQ's own way ends a job in the transaction that sets its status."""
        if pipeline is None and status == JobStatus.SCHEDULED:
            return  # `retry` of RQ 2.12 does so before the transaction that schedules the job, which sets it again
        super().set_status(status, pipeline)
        stream.publish(pipeline if pipeline is not None else self.connection, [self.id], self.origin, str(status.value))
        if any(self.follows) and status in ENDED:
            self._note_end(status, pipeline)

    def cleanup(self, ttl: int | None = None, pipeline: Any = None, remove_from_queue: bool = True) -> None:
        """A success with a `ttl` of 0 is deleted without a status; a failure has had its own."""
        if any(self.follows) and ttl == 0 and self._status == JobStatus.FINISHED:
            self._note_end(JobStatus.FINISHED, pipeline)
        super().cleanup(ttl, pipeline, remove_from_queue)

    def _note_end(self, status: JobStatus, pipeline: Any) -> None:
        result: dict[str, Any] = {}
        if status == JobStatus.FINISHED:
            result = {"type": job_view.SUCCESSFUL, "return_value": b64encode(JSON.dumps(self._result))}
        elif self.reason:
            result = {"type": job_view.FAILED, "exc_string": b64encode(zlib.compress(self.reason.encode()))}
        outbox.record_end(pipeline, self.id, status, self.ended_at, **result)

    def get_retry_interval(self) -> float:
        """Seconds. RQ adds them to the time; `Queue.schedule_job` rounds the sum up, so that no attempt is early."""
        wait = float(super().get_retry_interval()) if self.retry_after is None else self.retry_after
        if not wait:
            return wait
        here = time.time()  # RQ adds the wait to the time of this machine: the retry is due by the clock of Redis
        return wait + redis_now(self.connection).timestamp() - here


def _outcome(result: Any) -> Any:
    """Return what RQ makes of the result of a function."""
    if isinstance(result, RETRY):
        retry = validated_retry(result)
        return rq.Retry(retry.max, retry.waits())
    return result


class Queue(rq.Queue):
    """A queue of JSON jobs."""

    job_class = Job

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "serializer": JSON})

    def schedule_job(self, job: Any, datetime: datetime, pipeline: Any = None, unique: bool = False) -> Any:
        """As RQ 2.12's, but never early, and all in the pipeline.

        RQ cuts the score in its registry to whole seconds; and it writes the registry beside the pipeline, so that a
        worker which dies between the two holds a job that goes on.
        """
        score = math.ceil(datetime.timestamp())
        if pipeline is None or unique:
            return super().schedule_job(job, datetime.fromtimestamp(score, UTC), pipeline, unique)
        pipeline.sadd(QUEUES, self.key)
        self._persist_job(job, pipeline, status=JobStatus.SCHEDULED)
        pipeline.zadd(registry_key("scheduled", self.name), {job.id: score})
        return job
