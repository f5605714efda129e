"""/queues and /workers: read only."""

from flask import Response
from flask_openapi3 import APIBlueprint

from app import listing
from app.api import schemas
from app.api.auth import authorize
from app.api.context import answer, context
from app.api.openapi import PROBLEMS, TAGS

api = APIBlueprint("queues", __name__, url_prefix="/api/v1", abp_tags=[TAGS["queues"]], abp_responses=PROBLEMS)


@api.get("/queues", responses={200: schemas.Queues})
def list_queues() -> Response:
    """Every queue with its counts."""
    authorize("read")
    return answer({"queues": listing.queues(context().redis)})


@api.get("/queues/<string:name>", responses={200: schemas.Queue})
def get_queue(path: schemas.NamePath) -> Response:
    """One queue with its counts."""
    authorize("read")
    return answer(listing.queue(context().redis, path.name))


@api.get("/workers", responses={200: schemas.Workers})
def list_workers() -> Response:
    """The workers that are registered."""
    authorize("read")
    return answer({"workers": listing.workers(context().redis)})
