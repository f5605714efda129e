"""/queues: look, pause, resume, empty; and /workers."""

from typing import Any

from flask import Response

from app.api.auth import requires
from app.api.context import answer, context, unreadable
from app.api.openapi import blueprint
from app.api.schemas.queues import Deleted, Queue, QueuePath, Queues, Worker, Workers
from app.api.schemas.system import NamePath
from app.lifecycle import queues
from app.views import listing

api = blueprint("queues", "queues", "/api/v1")


@api.get("/queues", responses={200: Queues})
@requires("read")
def list_queues() -> Response:
    """Every queue with its counts."""
    known, bad = listing.queues(context().redis)
    return answer({"queues": context().served.with_warnings(known), **unreadable(bad)})


@api.get("/queues/<string:name>", responses={200: Queue})
@requires("read")
def get_queue(path: NamePath) -> Response:
    """One queue with its counts."""
    return _shown(listing.queue(context().redis, path.name))


@api.post("/queues/<string:name>/pause", responses={200: Queue})
@requires("admin")
def pause(path: QueuePath) -> Response:
    """Accept jobs, and run none."""
    queues.pause(context().redis, path.name)
    return _shown(listing.read_queue(context().redis, path.name))


@api.post("/queues/<string:name>/resume", responses={200: Queue})
@requires("admin")
def resume(path: QueuePath) -> Response:
    """Run jobs again."""
    queues.resume(context().redis, path.name)
    return _shown(listing.read_queue(context().redis, path.name))


@api.post("/queues/<string:name>/empty", responses={200: Deleted})
@requires("admin")
def empty(path: QueuePath) -> Response:
    """Delete the jobs that wait in it."""
    listing.queue(context().redis, path.name)
    return answer({"deleted": queues.empty(context().redis, path.name)})


@api.get("/workers", responses={200: Workers})
@requires("read")
def list_workers() -> Response:
    """The workers that are registered."""
    known, bad = listing.workers(context().redis)
    return answer({"workers": known, **unreadable(bad)})


@api.get("/workers/<string:name>", responses={200: Worker})
@requires("read")
def get_worker(path: NamePath) -> Response:
    """One worker."""
    return answer(listing.worker(context().redis, path.name))


def _shown(queue: dict[str, Any]) -> Response:
    return answer(context().served.with_warnings([queue])[0])
