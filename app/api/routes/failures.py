"""/failures: failed jobs in groups."""

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
    """Failed jobs by function and type of error, most frequent first; of very many the newest are looked at."""
    groups, complete = failures.groups(context().redis, **dict(query))
    return json_response({"failures": groups, "complete": complete})
