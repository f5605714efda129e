"""Requests that act once: the Idempotency-Key header, on every POST that makes jobs."""

import contextlib
from collections.abc import Callable
from typing import Any

from flask import Response, g
from redis.exceptions import RedisError

from app.api.context import answer, asked, context
from app.errors import BadRequest
from app.idempotency import Answer, Receipt, Repeated

LONGEST = 255


def once(act: Callable[[Receipt | None], Response]) -> Response:
    """`act`, unless the request's key says that it has been done: then the answer that was given first.

    Raises:
        BadRequest, Invalid, Conflict: a key that is none, that came with another request, or is under way.
    """
    request = asked()
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return act(None)
    if not 0 < len(key) <= LONGEST:
        raise BadRequest(f"An Idempotency-Key has 1 to {LONGEST} characters")
    said = f"{request.method} {request.full_path}\n".encode() + request.get_data()
    receipt = Receipt(context().redis, g.caller, key, said)
    try:
        return act(receipt)
    except Repeated as earlier:
        return answered(earlier.answer["body"], earlier.answer["status"], Idempotent_Replayed="true")
    except BaseException:
        with contextlib.suppress(RedisError):
            receipt.give_up()
        raise


def answered(body: Any, status: int, **headers: str) -> Response:
    """A job's answer says where the job is."""
    where = body.get("links", {}).get("self")
    return answer(body, status, **headers, **({"Location": where} if where else {}))


def kept(body: Any, status: int) -> Answer:
    return {"body": body, "status": status}
