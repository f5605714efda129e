"""rq-dashboard 0.9 under /dashboard/, made safe. Owns all changes to that package, which are per process and per app.

Invariants:
- nothing is unpickled: its Job, Queue and Worker read and write JSON, whatever serializer the caller passes;
- pages show the data of jobs as text, never as markup, and only scripts with the request's nonce run;
- every request is authorized first: scope "read" for GET and HEAD, "admin" for all other methods;
- state changes only by a POST from the dashboard's own pages (enforced by app/access/origin.py);
- there is one instance, 0, on the given connection; its URL is unknown here;
- unreadable entries are shown as such, and missing ones are 404.
"""

import re
import secrets
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import redis
import rq
import rq.registry
from flask import Flask, Response, g, request
from jinja2 import BaseLoader, ChoiceLoader, FunctionLoader
from rq.exceptions import NoSuchJobError
from rq.results import Result
from rq_dashboard import web
from werkzeug.exceptions import BadRequest, Conflict, MethodNotAllowed, NotFound

from app import errors
from app.lifecycle import actions
from app.redis.keys import WORKERS
from app.serializer import JSON

UNREADABLE = "(unreadable)"
CONNECTION_ERRORS = (redis.ConnectionError, redis.TimeoutError)  # not a sign of an unreadable job
REGISTRIES = ("queued", "started", "finished", "failed", "deferred", "scheduled", "canceled")
MAX_PARAMETERS = {"page": 1_000_000, "per_page": 1_000}
BLUEPRINT_NAME = web.blueprint.name
TEMPLATES = Path(web.__file__).parent / "templates"
SECURITY_HEADERS = {
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # "no-referrer" would blank the Origin of the buttons' POST
}
CONTENT_SECURITY_POLICY = (  # unsafe-eval: Underscore.js compiles the pages' templates in the browser
    "default-src 'none'; script-src 'nonce-{nonce}' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; font-src 'self'; connect-src 'self'; object-src 'none'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)


class _TextId(str):
    """An id that is text (as in RQ 2.12) and can still be decoded, as the dashboard does."""

    def decode(self, *_: str) -> str:
        return str(self)


def _with_fallback(fallback: Callable[["Job"], Any], read: Callable[["Job"], Any]) -> Any:
    """`read` without further arguments; `fallback` if it fails for another reason than the connection."""

    @wraps(read)
    def tolerant(self: "Job", *_: Any, **__: Any) -> Any:
        try:
            return read(self)
        except CONNECTION_ERRORS:
            raise
        except Exception:  # Redis may hold anything
            return fallback(self)

    return tolerant


def _unreadable_result(job: "Job") -> Result:
    return Result(job.id, Result.Type.SUCCESSFUL, job.connection, id="0-0", return_value=UNREADABLE, serializer=JSON)


class Job(rq.job.Job):
    unreadable = False

    def __init__(self, id: str | None = None, connection: Any = None, serializer: Any = None) -> None:  # noqa: ARG002
        try:
            super().__init__(id, connection, JSON)
        except ValueError as error:
            raise NoSuchJobError(str(error)) from error

    def refresh(self) -> None:
        try:
            super().refresh()
        except (NoSuchJobError, *CONNECTION_ERRORS):
            raise
        except Exception:  # Redis may hold anything
            self.unreadable, self.description = True, UNREADABLE

    latest_result = _with_fallback(_unreadable_result, rq.job.Job.latest_result)
    get_status = _with_fallback(lambda _: "unknown", rq.job.Job.get_status)
    get_meta = _with_fallback(lambda _: UNREADABLE, rq.job.Job.get_meta)
    get_call_string = _with_fallback(lambda _: UNREADABLE, rq.job.Job.get_call_string)
    dependency_ids = property(
        _with_fallback(lambda _: [], lambda self: [_TextId(i) for i in rq.job.Job.dependency_ids.fget(self)])
    )

    def delete(self, *_: Any, **__: Any) -> None:
        """Delete as the API does: not while the job runs."""
        if self.unreadable:
            raise Conflict(f"Job {self.id} cannot be read")
        try:
            actions.delete(self.connection, self.id)
        except errors.NotFound as error:
            raise NoSuchJobError(error.detail) from error


class Queue(rq.Queue):
    job_class = Job

    def __init__(self, name: str = "default", *args: Any, **kwargs: Any) -> None:
        super().__init__(name, *args, **kwargs | {"serializer": JSON, "job_class": Job})

    @classmethod
    def all(cls, connection: redis.Redis, *_: Any, **__: Any) -> list[Any]:
        prefix = cls.redis_queue_namespace_prefix
        keys = [key.decode(errors="replace") for key in connection.smembers(cls.redis_queues_keys)]
        return [cls(key.removeprefix(prefix), connection=connection) for key in keys if key.startswith(prefix)]

    def get_job_ids(self, offset: int = 0, length: int = -1) -> list[str]:
        end = offset + length - 1 if length >= 0 else length
        return [job_id.decode(errors="replace") for job_id in self.connection.lrange(self.key, offset, end)]

    def fetch_job(self, job_id: str) -> Job | None:
        """Unlike RQ's own, this does not remove a missing job from the queue."""
        try:
            job: Any = Job.fetch(job_id, connection=self.connection)
        except NoSuchJobError:
            return None
        return job if job.unreadable or job.origin == self.name else None

    def compact(self) -> None:
        if self.count:
            super().compact()


def _with_text_ids(registry: type[rq.registry.BaseRegistry]) -> type[rq.registry.BaseRegistry]:
    """A registry whose ids may be any bytes."""
    return type(registry.__name__, (registry,), {"parse_job_id": staticmethod(_entry_id)})


def _entry_id(entry: bytes) -> str:
    """The id of a job from an entry of a registry: JOB:EXECUTION in that of started jobs."""
    return entry.decode(errors="replace").partition(":")[0]


class Worker(rq.Worker):
    job_class, queue_class = Job, Queue

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs | {"serializer": JSON})

    def _set_connection(self, connection: redis.Redis) -> redis.Redis:
        """Unlike RQ's own, this does not raise the timeout of the shared connection."""
        return connection

    @classmethod
    def all(cls, connection: redis.Redis | None = None, *_: Any, **__: Any) -> list[Any]:
        assert connection is not None
        keys = sorted(key.decode(errors="replace") for key in connection.smembers(WORKERS))
        return [worker for key in keys if (worker := cls.find_by_key(key, connection=connection))]

    @classmethod
    def find_by_key(cls, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().find_by_key(*args, **kwargs)
        except CONNECTION_ERRORS:
            raise
        except Exception:  # Redis may hold anything
            return None

    def get_current_job(self) -> Any:
        try:
            return super().get_current_job()
        except NoSuchJobError:
            return None


REGISTRY_CLASSES = [
    _with_text_ids(registry)
    for registry in (
        rq.registry.StartedJobRegistry,
        rq.registry.FinishedJobRegistry,
        rq.registry.FailedJobRegistry,
        rq.registry.DeferredJobRegistry,
        rq.registry.ScheduledJobRegistry,
        rq.registry.CanceledJobRegistry,
    )
]


def requeue_job(job_id: str, connection: redis.Redis) -> None:
    """Requeue as the API does. In "requeue all", jobs that cannot be requeued are skipped."""
    try:
        actions.requeue(connection, job_id)
    except (errors.JoblineError, redis.ResponseError):
        if "job_id" in (request.view_args or {}):
            raise


def _template_source(name: str) -> str | None:
    """The source of a dashboard template, changed to escape values and to add the nonce to scripts."""
    if not name.startswith("rq_dashboard/"):
        return None
    source = (TEMPLATES / name).read_text()
    source = re.sub(r"\$\('<div/>'\)\.text\(([\w.]+)\)\.html\(\)", r"\1", source)  # would be escaped twice
    source = source.replace("<%=", "<%-").replace("<script ", '<script nonce="{{ g.dashboard_nonce }}" ')
    source = source.replace("'{{ queue.name }}'", "{{ queue.name|tojson }}")  # in a .js file Jinja escapes nothing
    return source.replace("url_for('static', filename='favicon.ico')", "url_for('rq_dashboard.favicon')")


def _check_request() -> None:
    args, endpoint = request.view_args or {}, (request.endpoint or "").removeprefix(f"{BLUEPRINT_NAME}.")
    if request.method in ("GET", "HEAD") and endpoint == "requeue_all":
        raise MethodNotAllowed(valid_methods=["POST"])
    if args.get("instance_number", 0) != 0:
        raise NotFound("The only instance is 0")
    if args.get("registry_name", "queued") not in REGISTRIES or args.get("order", "asc") not in ("asc", "dsc"):
        raise NotFound("No such registry or order")
    for name, maximum in MAX_PARAMETERS.items():
        number = str(args.get(name, 1))
        if not re.fullmatch(r"[0-9]{1,9}", number) or not 1 <= int(number) <= maximum:
            raise BadRequest(f"{name} must be a number from 1 to {maximum}")
    if endpoint == "empty_queue" and args["registry_name"] == "started":
        raise Conflict("A running job cannot be deleted: cancel it first")


def _add_security_headers(response: Response) -> Response:
    response.headers.update(SECURITY_HEADERS)
    response.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY.format(nonce=g.get("dashboard_nonce", ""))
    return response


def _missing_job_is_404(view: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(view)
    def answer(*args: Any, **kwargs: Any) -> Any:
        try:
            return view(*args, **kwargs)
        except NoSuchJobError as error:
            raise NotFound("No such job") from error

    return answer


def mount(app: Flask, connection: redis.Redis, authorize: Callable[[str], None]) -> None:
    """Mount the dashboard. `authorize(scope)` raises if the caller of the current request lacks this scope."""

    def prepare_request() -> None:
        g.dashboard_nonce = secrets.token_urlsafe(16)
        authorize("read" if request.method in ("GET", "HEAD") else "admin")
        _check_request()

    replacements: list[Any] = [Job, Queue, Worker, *REGISTRY_CLASSES, requeue_job]
    for replacement in replacements:
        setattr(web, replacement.__name__, replacement)
    web.config.serializer = JSON
    app.redis_conn = connection  # type: ignore[attr-defined]
    app.config["RQ_DASHBOARD_REDIS_URL"] = ("Redis",)  # a text to show
    loaders: list[BaseLoader] = [FunctionLoader(_template_source)]
    app.jinja_loader = ChoiceLoader(loaders + ([app.jinja_loader] if app.jinja_loader else []))
    app.register_blueprint(web.blueprint, url_prefix="/dashboard")
    app.before_request_funcs[BLUEPRINT_NAME] = [
        prepare_request
    ]  # in place of the one that connects to the instance in the path
    app.after_request_funcs.setdefault(BLUEPRINT_NAME, []).append(_add_security_headers)
    for endpoint in [name for name in app.view_functions if name.startswith(f"{BLUEPRINT_NAME}.")]:
        app.view_functions[endpoint] = _missing_job_is_404(app.view_functions[endpoint])
