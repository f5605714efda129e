"""What is outside /api/v1: health, the OpenAPI document, the documentation page, and the way in.

Probes have no key: they are told of the parts of the service and their states, and no name of a function, a schedule or
a queue, nor an error of one.
"""

from typing import Any

from flask import Blueprint, Response, current_app, render_template, request

from app import health
from app.api.auth import is_reader, requires
from app.api.context import answer, context
from app.api.openapi import PROBLEMS, blueprint, document
from app.api.schemas.system import Health
from app.schedules import store

api = blueprint("system", "system", "")
pages = Blueprint("pages", __name__, template_folder="templates")


@api.get("/livez", responses={200: Health})
def livez() -> Response:
    """This process answers."""
    return answer({"status": "ok"})


@api.get("/readyz", responses={200: Health, 503: PROBLEMS[503]})
def readyz() -> Response:
    """Redis answers, how old the scheduler's last move is, and what is set aside. 503 while Redis is away.

    `degraded`: there are modules that do not import, or functions or schedules that are set aside. Which they are is
    for callers with the scope `read`.
    """
    context().redis.ping()
    catalog, age = context().catalog.refresh(), health.scheduler_age(context().redis)
    set_aside = {
        "broken": catalog.broken,
        "rejected_functions": {name: str(one) for name, one in catalog.rejected.items()},
        "rejected_schedules": store.set_aside(context().redis),
    }
    status = "degraded" if any(set_aside.values()) else "ok"
    return answer(_as_known({"status": status, "redis": "ok", "scheduler": age, **set_aside}))


def _as_known(health: dict[str, Any]) -> dict[str, Any]:
    """To callers who may not read, without what has details."""
    return (
        health if is_reader() else {part: state for part, state in health.items() if not isinstance(state, dict | list)}
    )


@pages.get("/openapi.json")
@requires("read")
def openapi() -> Response:
    return answer(document(current_app, context().catalog.refresh(), secured=bool(context().keys)))


@pages.get("/")
def index() -> str:
    return render_template("index.html", base=request.host_url.rstrip("/"), secured=bool(context().keys))
