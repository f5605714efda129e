"""What an answer may say of a job: all of it to callers with the scope `read`, to others no more than its id.

A caller without `read` knows what it has sent, so the answer to the request that makes a job shows it whole. Of every
other job (one that is changed, one that a `unique` rule finds, the run of a schedule) such a caller learns the id, and
from the status whether its request was accepted. Errors obey the same rule: see `JoblineError.concealed`.
"""

from typing import Any

from flask import g

from app.errors import JoblineError


def may_read() -> bool:
    """Whether the caller of this request may know jobs that others have made; False before it is authorized."""
    return bool(g.get("may_read", False))


def redact(resource: dict[str, Any]) -> dict[str, Any]:
    """A job or a workflow that this request has not made, as far as its caller may know it."""
    if may_read():
        return resource
    return {"id": resource["id"], **({"links": resource["links"]} if "links" in resource else {})}


def redact_error(error: JoblineError) -> JoblineError:
    """An error as far as the caller may know it."""
    return error.concealed if error.concealed and not may_read() else error
