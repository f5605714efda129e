"""What is outside /api/v1: health, the OpenAPI document, the documentation page, and the way in."""

from flask import Blueprint, Response, current_app, render_template, request

from app import health
from app.api.context import answer, context
from app.api.openapi import PROBLEMS, blueprint, document
from app.api.schemas.system import Health

api = blueprint("system", "system", "")
pages = Blueprint("pages", __name__, template_folder="templates")


@api.get("/livez", responses={200: Health})
def livez() -> Response:
    """This process answers."""
    return answer({"status": "ok"})


@api.get("/readyz", responses={200: Health, 503: PROBLEMS[503]})
def readyz() -> Response:
    """Redis answers, how old the scheduler's last move is, and modules that do not import. 503 while Redis is away."""
    context().redis.ping()
    broken, age = context().catalog.refresh().broken, health.scheduler_age(context().redis)
    return answer({"status": "degraded" if broken else "ok", "redis": "ok", "scheduler": age, "broken": broken})


@pages.get("/openapi.json")
def openapi() -> Response:
    return answer(document(current_app, context().catalog.refresh(), secured=bool(context().keys)))


@pages.get("/")
def index() -> str:
    return render_template("index.html", base=request.host_url.rstrip("/"), secured=bool(context().keys))
