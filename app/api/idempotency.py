"""The Idempotency-Key header, on every POST that creates jobs: a repeated request gets its first response."""

from typing import Any

from flask import Response, g

from app.api.context import current_request, json_response
from app.enqueue.idempotency import Answer, Receipt
from app.errors import BadRequest

MAX_KEY_LENGTH = 255


def receipt() -> Receipt | None:
    """The receipt for the request's Idempotency-Key; None without one. Raises BadRequest: its length is wrong."""
    request = current_request()
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return None
    if not 0 < len(key) <= MAX_KEY_LENGTH:
        raise BadRequest(f"An Idempotency-Key must have 1 to {MAX_KEY_LENGTH} characters")
    return Receipt.of(g.caller, key, f"{request.method} {request.full_path}\n".encode() + request.get_data())


def replay(stored: Answer) -> Response:
    """The stored response to an earlier request with this key."""
    return respond(stored["body"], stored["status"], Idempotent_Replayed="true")


def respond(body: Any, status: int, **headers: str) -> Response:
    """A JSON response with the Location of its resource."""
    where = body.get("links", {}).get("self")
    return json_response(body, status, **headers, **({"Location": where} if where else {}))
