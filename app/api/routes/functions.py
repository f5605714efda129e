"""/functions: the catalogue, and a call of one function by its arguments alone."""

from dataclasses import asdict

from flask import Response, request

from app.api import new_jobs
from app.api.auth import requires
from app.api.context import context, json_response
from app.api.openapi import PREFER_AND_IDEMPOTENCY_KEY, blueprint
from app.api.schemas.functions import Function as FunctionAnswer
from app.api.schemas.functions import Functions
from app.api.schemas.jobs import JobDetailOrReference
from app.api.schemas.system import NamePath
from app.catalog.catalog import Function
from app.enqueue import new_job
from app.errors import Invalid

api = blueprint("functions", "functions", "/api/v1/functions")


@api.get("", responses={200: Functions})
@requires("read")
def list_functions() -> Response:
    """Every function that can be run: the public ones (no underscore) that are defined in a module of `jobs/`.

    Also the modules that do not import, and the functions that are set aside for their options or annotations.
    """
    catalog = context().catalog.refresh()
    functions = [_as_json(function) for _, function in sorted(catalog.offered.items())]
    rejected = [asdict(function) for _, function in sorted(catalog.rejected.items())]
    return json_response({"functions": functions, "broken": catalog.broken, "rejected": rejected})


@api.get("/<string:name>", responses={200: FunctionAnswer})
@requires("read")
def get_function(path: NamePath) -> Response:
    """One function, with the JSON Schema of its arguments and its result; 404 says why, if it is set aside."""
    return json_response(_as_json(context().catalog.get(path.name)))


@api.post(
    "/<string:name>/jobs",
    responses={200: JobDetailOrReference, 202: JobDetailOrReference},
    openapi_extensions=PREFER_AND_IDEMPOTENCY_KEY,
)
@requires("enqueue")
def call(path: NamePath) -> Response:
    """Enqueue a call of this function; the body is its arguments by name."""
    function = context().catalog.get(path.name)
    body = request.get_json()
    if not isinstance(body, dict):
        raise Invalid("The request does not fit its schema", [{"detail": "Input should be an object", "pointer": "#"}])
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
        },
        "arguments": function.schema,
        "result": function.result_schema,
    }
