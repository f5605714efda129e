"""/queues: look, pause, resume, empty; and /workers."""

from flask import Response

from app import listing, queues
from app.api import schemas
from app.api.auth import authorize
from app.api.context import answer, context
from app.api.openapi import blueprint

api = blueprint("queues", "queues", "/api/v1")


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


@api.post("/queues/<string:name>/pause", responses={200: schemas.Queue})
def pause(path: schemas.QueuePath) -> Response:
    """Accept jobs, and run none."""
    authorize("admin")
    queues.pause(context().redis, path.name)
    return answer(listing.queues(context().redis, [path.name])[0])


@api.post("/queues/<string:name>/resume", responses={200: schemas.Queue})
def resume(path: schemas.QueuePath) -> Response:
    """Run jobs again."""
    authorize("admin")
    queues.resume(context().redis, path.name)
    return answer(listing.queues(context().redis, [path.name])[0])


@api.post("/queues/<string:name>/empty", responses={200: schemas.Deleted})
def empty(path: schemas.QueuePath) -> Response:
    """Delete the jobs that wait in it."""
    authorize("admin")
    listing.queue(context().redis, path.name)
    return answer({"deleted": queues.empty(context().redis, path.name)})


@api.get("/workers", responses={200: schemas.Workers})
def list_workers() -> Response:
    """The workers that are registered."""
    authorize("read")
    return answer({"workers": listing.workers(context().redis)})
