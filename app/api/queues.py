"""/queues: look, pause, resume, empty; and /workers."""

from typing import Any

from flask import Response

from app import listing, queues
from app.api.auth import authorize
from app.api.context import answer, context
from app.api.openapi import blueprint
from app.api.schemas.queues import Deleted, Queue, QueuePath, Queues, Worker, Workers
from app.api.schemas.system import NamePath

api = blueprint("queues", "queues", "/api/v1")


@api.get("/queues", responses={200: Queues})
def list_queues() -> Response:
    """Every queue with its counts."""
    authorize("read")
    return answer({"queues": context().served.of_queues(listing.queues(context().redis))})


@api.get("/queues/<string:name>", responses={200: Queue})
def get_queue(path: NamePath) -> Response:
    """One queue with its counts."""
    authorize("read")
    return _shown(listing.queue(context().redis, path.name))


@api.post("/queues/<string:name>/pause", responses={200: Queue})
def pause(path: QueuePath) -> Response:
    """Accept jobs, and run none."""
    authorize("admin")
    queues.pause(context().redis, path.name)
    return _shown(listing.queues(context().redis, [path.name])[0])


@api.post("/queues/<string:name>/resume", responses={200: Queue})
def resume(path: QueuePath) -> Response:
    """Run jobs again."""
    authorize("admin")
    queues.resume(context().redis, path.name)
    return _shown(listing.queues(context().redis, [path.name])[0])


@api.post("/queues/<string:name>/empty", responses={200: Deleted})
def empty(path: QueuePath) -> Response:
    """Delete the jobs that wait in it."""
    authorize("admin")
    listing.queue(context().redis, path.name)
    return answer({"deleted": queues.empty(context().redis, path.name)})


@api.get("/workers", responses={200: Workers})
def list_workers() -> Response:
    """The workers that are registered."""
    authorize("read")
    return answer({"workers": listing.workers(context().redis)})


@api.get("/workers/<string:name>", responses={200: Worker})
def get_worker(path: NamePath) -> Response:
    """One worker."""
    authorize("read")
    return answer(listing.worker(context().redis, path.name))


def _shown(queue: dict[str, Any]) -> Response:
    return answer(context().served.of_queues([queue])[0])
