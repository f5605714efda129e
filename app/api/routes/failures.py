"""/failures: failed jobs, grouped."""

from flask import Response

from app.api.auth import requires
from app.api.context import context, json_response
from app.api.openapi import blueprint
from app.api.schemas.failures import Failures, FailuresQuery
from app.views import failures

api = blueprint("failures", "jobs", "/api/v1/failures")


@api.get("", responses={200: Failures})
@requires("read")
def list_failures(query: FailuresQuery) -> Response:
    """Count failed jobs by function and type of error.

    Most frequent first. Only the newest failed jobs are counted if there are very many.
    """
    groups, complete = failures.groups(context().redis, **dict(query))
    return json_response({"failures": groups, "complete": complete})
