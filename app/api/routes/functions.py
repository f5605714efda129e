"""/functions: the catalogue, and enqueueing a call by its arguments alone."""

from dataclasses import asdict

from flask import Response, request

from app.api import new_jobs
from app.api.auth import requires
from app.api.context import context, json_response
from app.api.errors import not_an_object
from app.api.openapi import PREFER_AND_IDEMPOTENCY_KEY, blueprint
from app.api.schemas.functions import Function as FunctionAnswer
from app.api.schemas.functions import Functions
from app.api.schemas.jobs import JobDetailOrReference
from app.api.schemas.system import NamePath
from app.catalog.catalog import Function
from app.enqueue import new_job

api = blueprint("functions", "functions", "/api/v1/functions")


@api.get("", responses={200: Functions})
@requires("read")
def list_functions() -> Response:
    """List functions.

    Every public function (no underscore) defined in a module of `jobs/`. Also modules that cannot be imported, and
    functions that are set aside because their options or annotations are invalid.
    """
    catalog = context().catalog.refresh()
    functions = [_as_json(function) for _, function in sorted(catalog.offered.items())]
    rejected = [asdict(function) for _, function in sorted(catalog.rejected.items())]
    return json_response({"functions": functions, "broken": catalog.broken, "rejected": rejected})


@api.get("/<string:name>", responses={200: FunctionAnswer})
@requires("read")
def get_function(path: NamePath) -> Response:
    """Get a function.

    It has the JSON Schema of its arguments and its result. For a function that is set aside, 404 says why.
    """
    return json_response(_as_json(context().catalog.get(path.name)))


@api.post(
    "/<string:name>/jobs",
    responses={200: JobDetailOrReference, 202: JobDetailOrReference},
    openapi_extensions=PREFER_AND_IDEMPOTENCY_KEY,
)
@requires("enqueue")
def call(path: NamePath) -> Response:
    """Enqueue a call of a function.

    The body is an object of its arguments by name.
    """
    function = context().catalog.get(path.name)
    body = request.get_json()
    if not isinstance(body, dict):
        raise not_an_object()
    args, kwargs = function.from_body(body)
    return new_jobs.enqueue(new_job.prepare(function, context().settings, args, kwargs))


def _as_json(function: Function) -> dict[str, object]:
    options = function.options
    return {
        "name": function.name,
        "module": function.module,
        "description": function.description,
        "options": {
            "queue": options.queue,
            "timeout": options.timeout,
            "ttl": options.ttl,
            "result_ttl": options.result_ttl,
            "failure_ttl": options.failure_ttl,
            "max_retries": options.retry.max if options.retry else 0,
            "rate_limit": options.rate_limit and asdict(options.rate_limit),
            "concurrency": options.concurrency and asdict(options.concurrency),
            "breaker": options.breaker and asdict(options.breaker),
            "unique": options.unique and {**asdict(options.unique), "lasts": options.unique.ttl},
            "tags": options.tags,
            "webhook": options.webhook.without_secret() if options.webhook else None,
            "idempotent": options.idempotent,
            "alone": options.alone,
            "critical": options.critical,
        },
        "arguments": function.schema,
        "result": function.result_schema,
    }
