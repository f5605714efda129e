"""Health checks, the OpenAPI document, and what an API key may do.

Health checks need no API key. Without one they disclose the state of the service's parts, but no names of functions,
schedules or queues, and no errors of these.
"""

from typing import Any, cast

from flask import Blueprint, Response, current_app, g
from flask_openapi3 import OpenAPI

from app.access import api_keys
from app.api.auth import has_read_scope, requires
from app.api.context import context, json_response
from app.api.openapi import PROBLEMS, blueprint, document
from app.api.schemas.system import Health, Key
from app.schedules import store

api = blueprint("system", "system", "")
pages = Blueprint("pages", __name__)


@api.get("/livez", responses={200: Health})
def livez() -> Response:
    """Check that this process answers."""
    return json_response({"status": "ok"})


@api.get("/readyz", responses={200: Health, 503: PROBLEMS[503]})
def readyz() -> Response:
    """Check that the service is ready.

    503 while Redis is unavailable or accepts no writes, and when no scheduler has been active for 15 seconds (also
    counted from the start of this process). `degraded`: modules cannot be imported, or functions or schedules are set
    aside. Their names, and the `warnings`, are only for callers with the scope `read`.
    """
    readiness = context().readiness
    age, warnings = readiness.check(), readiness.warnings()
    catalog = context().catalog.refresh()
    set_aside = {
        "broken": catalog.broken,
        "rejected_functions": {name: str(reason) for name, reason in catalog.rejected.items()},
        "rejected_schedules": store.unrunnable(readiness.connection),
    }
    status = "degraded" if any(set_aside.values()) else "ok"
    report = {"status": status, "redis": "ok", "scheduler": age, "warnings": warnings, **set_aside}
    return json_response(report if has_read_scope() else _without_details(report))


@api.get("/api/v1/key", responses={200: Key, **PROBLEMS})
@requires(api_keys.ANY)
def get_key() -> Response:
    """Get what the API key of this request may do.

    Without configured keys every request has all scopes.
    """
    api_key = g.get("api_key")
    scopes = [scope for scope in api_keys.SCOPES if api_key is None or api_key.allows(scope)]
    return json_response({"name": api_key and api_key.name, "scopes": scopes})


def _without_details(report: dict[str, Any]) -> dict[str, Any]:
    return {part: state for part, state in report.items() if not isinstance(state, dict | list)}


@pages.get("/openapi.json")
@requires("read")
def openapi() -> Response:
    app = cast(OpenAPI, current_app)
    return json_response(document(app, context().catalog.refresh(), requires_key=bool(context().api_keys)))
