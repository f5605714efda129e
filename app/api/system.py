"""What is outside /api/v1: health, the OpenAPI document, the documentation page, and the way in."""

from flask import Blueprint, Response, current_app, render_template, request

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
    """How old the scheduler's last move is, and what is set aside. 503 while Redis is away or takes no writes.

    Also if no scheduler has moved for 15 seconds; one may take so long to appear after this process has started.
    `warnings`: queues of QUEUES that no worker serves.
    `degraded`: there are modules that do not import, or functions or schedules that are set aside.
    """
    readiness = context().readiness
    age, warnings = readiness.check(), readiness.warnings()
    catalog = context().catalog.refresh()
    set_aside = {
        "broken": catalog.broken,
        "rejected_functions": {name: str(one) for name, one in catalog.rejected.items()},
        "rejected_schedules": store.set_aside(readiness.connection),
    }
    status = "degraded" if any(set_aside.values()) else "ok"
    return answer({"status": status, "redis": "ok", "scheduler": age, "warnings": warnings, **set_aside})


@pages.get("/openapi.json")
def openapi() -> Response:
    return answer(document(current_app, context().catalog.refresh(), secured=bool(context().keys)))


@pages.get("/")
def index() -> str:
    return render_template("index.html", base=request.host_url.rstrip("/"), secured=bool(context().keys))
