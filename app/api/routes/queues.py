"""/queues: list, get, pause, resume, empty. /workers: list, get."""

from typing import Any

from flask import Response

from app.api.auth import requires
from app.api.context import context, json_response, unreadable_field
from app.api.openapi import blueprint
from app.api.schemas.queues import Deleted, Queue, QueuePath, Queues, Worker, Workers
from app.api.schemas.system import NamePath
from app.lifecycle import queues
from app.views import listing

api = blueprint("queues", "queues", "/api/v1")


@api.get("/queues", responses={200: Queues})
@requires("read")
def list_queues() -> Response:
    """List queues."""
    readable, unreadable = listing.queues(context().redis)
    return json_response({"queues": context().served_queues.with_warnings(readable), **unreadable_field(unreadable)})


@api.get("/queues/<string:name>", responses={200: Queue})
@requires("read")
def get_queue(path: NamePath) -> Response:
    """Get a queue."""
    return _queue_response(listing.queue(context().redis, path.name))


@api.post("/queues/<string:name>/pause", responses={200: Queue})
@requires("admin")
def pause(path: QueuePath) -> Response:
    """Pause a queue.

    It accepts jobs, but workers start none of them.
    """
    queues.pause(context().redis, path.name)
    return _queue_response(listing.read_queue(context().redis, path.name))


@api.post("/queues/<string:name>/resume", responses={200: Queue})
@requires("admin")
def resume(path: QueuePath) -> Response:
    """Resume a paused queue."""
    queues.resume(context().redis, path.name)
    return _queue_response(listing.read_queue(context().redis, path.name))


@api.post("/queues/<string:name>/empty", responses={200: Deleted})
@requires("admin")
def empty(path: QueuePath) -> Response:
    """Delete all queued jobs of a queue."""
    listing.queue(context().redis, path.name)
    return json_response({"deleted": queues.empty(context().redis, path.name)})


@api.get("/workers", responses={200: Workers})
@requires("read")
def list_workers() -> Response:
    """List workers."""
    readable, unreadable = listing.workers(context().redis)
    return json_response({"workers": readable, **unreadable_field(unreadable)})


@api.get("/workers/<string:name>", responses={200: Worker})
@requires("read")
def get_worker(path: NamePath) -> Response:
    """Get a worker."""
    return json_response(listing.worker(context().redis, path.name))


def _queue_response(queue: dict[str, Any]) -> Response:
    return json_response(context().served_queues.with_warnings([queue])[0])
