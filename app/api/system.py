"""What is outside /api/v1: health, the OpenAPI document, the documentation page, and the way in."""

from flask import Blueprint, Response, current_app, render_template, request
from flask_openapi3 import APIBlueprint

from app.api import schemas
from app.api.context import answer, context
from app.api.openapi import TAGS, document

api = APIBlueprint("system", __name__, abp_tags=[TAGS["system"]])
pages = Blueprint("pages", __name__, template_folder="templates")


@api.get("/livez", responses={200: schemas.Health})
def livez() -> Response:
    """This process answers."""
    return answer({"status": "ok"})


@api.get("/readyz", responses={200: schemas.Health})
def readyz() -> Response:
    """Redis answers; modules of jobs/ that do not import are named. 503 while Redis is away."""
    context().redis.ping()
    broken = context().catalog.refresh().broken
    return answer({"status": "degraded" if broken else "ok", "redis": "ok", "broken": broken})


@pages.get("/openapi.json")
def openapi() -> Response:
    return answer(document(current_app, context().catalog.refresh()))


@pages.get("/")
def index() -> str:
    return render_template("index.html", base=request.host_url.rstrip("/"), secured=bool(context().keys))
