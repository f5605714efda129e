"""Rendering of all errors as RFC 9457 `application/problem+json`.

Responses stay small whatever was sent: the number of listed errors is limited, and long texts are truncated.
"""

import logging
from typing import Any

import orjson
from flask import Flask, Response, request
from pydantic import ValidationError
from redis.exceptions import RedisError
from werkzeug.exceptions import HTTPException

from app.api.disclosure import redact_error
from app.errors import MAX_LISTED_ERRORS, Conflict, Invalid, JoblineError, TooManyRequests, Unauthorized, Unavailable
from app.pointers import error_details, join_pointer, path_in
from app.redis.errors import is_transient

MAX_TEXT = 500  # characters of a detail or a pointer
MAX_LISTED_SIZE = 50_000  # bytes, as JSON

log = logging.getLogger(__name__)


def install(app: Flask) -> None:
    app.register_error_handler(JoblineError, render)
    app.register_error_handler(HTTPException, _from_werkzeug)
    app.register_error_handler(RedisError, _from_redis)
    app.register_error_handler(Exception, _internal_error)


def render(error: JoblineError) -> Response:
    error = redact_error(error)
    response = problem_response(error.status, error.title, error.detail, error.errors)
    if isinstance(error, Unavailable | TooManyRequests):
        response.headers["Retry-After"] = str(error.retry_after)
    if isinstance(error, Unauthorized):
        response.headers["WWW-Authenticate"] = 'Basic realm="jobline", charset="UTF-8"'
    return response


def problem_response(status: int, title: str, detail: str, errors: list[dict[str, str]] | None = None) -> Response:
    body: dict[str, Any] = {"type": "about:blank", "title": title, "status": status, "detail": _truncate(detail)}
    if errors is not None:
        body["errors"] = listed = _limit_errors(errors)
        if len(listed) < len(errors):
            body["detail"] += f": the first {len(listed)} errors are listed"
    return Response(orjson.dumps(body), status, content_type="application/problem+json")


def _limit_errors(errors: list[dict[str, str]]) -> list[dict[str, str]]:
    """The first errors, up to MAX_LISTED_ERRORS and MAX_LISTED_SIZE."""
    listed: list[dict[str, str]] = []
    size = 0
    for error in errors[:MAX_LISTED_ERRORS]:
        truncated = {name: _truncate(text) for name, text in error.items()}
        size += len(orjson.dumps(truncated))
        if size > MAX_LISTED_SIZE:
            break
        listed.append(truncated)
    return listed


def _truncate(text: str) -> str:
    return text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + "..."


def render_validation_error(error: ValidationError) -> Response:
    """422 for a request that does not match its schema."""
    body = request.get_json(silent=True)
    errors = [
        {"detail": item["msg"], "pointer": join_pointer("#", *(item["loc"] if body is None else path_in(body, item)))}
        for item in error_details(error)
    ]
    return render(Invalid("The request does not match its schema", errors))


def not_an_object() -> Invalid:
    """The error for a body that is JSON, but not an object."""
    return Invalid("The request does not match its schema", [{"detail": "Input should be an object", "pointer": "#"}])


def _from_werkzeug(error: HTTPException) -> Response:
    if error.response is not None:
        return error.response  # type: ignore[return-value]
    response = problem_response(error.code or 500, error.name, error.description or error.name)
    for name, value in error.get_headers():
        if name.lower() in ("allow", "location", "retry-after", "www-authenticate"):
            response.headers[name] = value
    return response


def _from_redis(error: RedisError) -> Response:
    if "WRONGTYPE" in str(error):
        return render(Conflict("Redis holds a value of an unexpected type here: Jobline cannot read it"))
    if not is_transient(error):
        return _internal_error(error)
    log.warning("Redis is unavailable: %s", type(error).__name__)
    return render(Unavailable("Redis does not answer, or accepts no writes"))


def _internal_error(error: Exception) -> Response:
    log.error("unexpected error", exc_info=error)
    return problem_response(500, "Internal error", "An unexpected error occurred. It has been logged")
