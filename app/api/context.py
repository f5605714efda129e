"""What all routes share: the application's services (`extensions["jobline"]`) and the building of responses."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlencode

from flask import Request, Response, current_app, g, request
from redis import Redis

from app import tracing
from app.access.api_keys import ApiKey
from app.audit import audit_log
from app.catalog.catalog import Catalog
from app.events.stream import Hub
from app.serializer import JSON
from app.settings import Settings
from app.views.health import Readiness
from app.views.served import ServedQueues

if TYPE_CHECKING:
    from app.api.request_metrics import RequestMetrics


@dataclass(frozen=True)
class Context:
    settings: Settings
    redis: Redis
    blocking_redis: Redis
    """For blocking reads: its socket timeout is longer than they block."""
    readiness: Readiness
    catalog: Catalog
    api_keys: list[ApiKey]
    events: Hub
    served_queues: ServedQueues
    audit_log: audit_log.Log
    request_metrics: "RequestMetrics"


def context() -> Context:
    return cast(Context, current_app._get_current_object().extensions["jobline"])  # type: ignore[attr-defined]


def current_request() -> Request:
    """The current request itself. Each access through Flask's `request` proxy would look it up again."""
    return cast(Request, request._get_current_object())  # type: ignore[attr-defined]


def request_traceparent() -> str | None:
    """The trace context of the current request; None without one, or if traces are off."""
    return current_request().headers.get(tracing.TRACEPARENT) if tracing.is_enabled() else None


SECURITY_HEADERS = (("X-Content-Type-Options", "nosniff"), ("Cache-Control", "no-store"))
"""Headers of every response."""


class JsonResponse(Response):
    """A response with complete headers. It skips werkzeug's header fixing, a tenth of a request's time."""

    def get_wsgi_response(self, environ: Any) -> tuple[Iterable[bytes], str, list[tuple[str, str]]]:
        if self.status_code == 304 or environ["REQUEST_METHOD"] == "HEAD":
            return super().get_wsgi_response(environ)
        return cast(list[bytes], self.response), self.status, self.headers.to_wsgi_list()


def json_response(body: Any, status: int = 200, **headers: str) -> Response:
    response = JsonResponse(JSON.dumps(body), status, SECURITY_HEADERS, content_type="application/json")
    for name, value in headers.items():
        response.headers[name.replace("_", "-")] = value
    return response


def add_audit_details(**details: Any) -> None:
    """Set the `details` of the request's audit entry: counts and filters, but no job arguments and no secrets."""
    g.audit_details = details


def unreadable_field(entries: Sequence[Any]) -> dict[str, Sequence[Any]]:
    """The field `unreadable` of a list response, if there are such entries."""
    return {"unreadable": entries} if entries else {}


def page(name: str, items: list[Any], cursor: str | None, unreadable: Sequence[Any] = ()) -> Response:
    """The response with one page of a list: JSON, and a Link header to the next page (RFC 8288) if there is one."""
    response = json_response({name: items, "next_cursor": cursor, **unreadable_field(unreadable)})
    if cursor:
        next_url = f"{request.path}?{urlencode({**request.args.to_dict(), 'cursor': cursor})}"
        response.headers["Link"] = f'<{next_url}>; rel="next"'
    return response
