"""/audit, and the recording of each request in the audit log."""

import re

from flask import Response, g, request

from app.api.auth import requires
from app.api.context import context, current_request, page
from app.api.openapi import blueprint
from app.api.schemas.audit import Audit, AuditQuery
from app.audit import audit_log

SINGLE_ENQUEUE_ENDPOINTS = ("jobs.enqueue", "functions.call")  # enqueue one job each
ROUTE_PARAMETER = re.compile(r"<(?:\w+:)?(\w+)>")
MAX_TARGET_CHARS = 200  # characters of a target

api = blueprint("audit", "system", "/api/v1/audit")


@api.get("", responses={200: Audit})
@requires("admin")
def list_audit(query: AuditQuery) -> Response:
    """List audit log entries, newest first."""
    return page("entries", *audit_log.page(context().redis, **dict(query)))


def record_request(response: Response) -> None:
    """Record a request of a known caller that changed something, may have done so (500, 503), or was forbidden."""
    request, settings = current_request(), context().settings
    changes = request.method not in ("GET", "HEAD", "OPTIONS") and g.get("scope", "read") != "read"
    is_audited = settings.audit == "all" or (
        settings.audit == "changes" and request.endpoint not in SINGLE_ENQUEUE_ENDPOINTS
    )
    if changes and is_audited and (response.status_code < 400 or response.status_code in (403, 500, 503)):
        entry = audit_log.Entry(
            actor=g.caller,
            action=request.endpoint or "",
            method=request.method,
            route=ROUTE_PARAMETER.sub(r"{\1}", request.url_rule.rule if request.url_rule else ""),
            target=_target(response),
            status=response.status_code,
            address=request.remote_addr or "",
            details=g.get("audit_details", {}),
        )
        context().audit_log.record(entry, defer=response.status_code == 503)


def _target(response: Response) -> str:
    path_values = [str(value) for name, value in (request.view_args or {}).items() if name != "instance_number"]
    created = response.headers.get("Location", "").rpartition("/")[2]
    return " ".join(path_values or [created])[:MAX_TARGET_CHARS]
