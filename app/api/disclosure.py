"""What a response may disclose about a job: everything to callers with the scope `read`, to others only its id.

The response to a request that creates a job shows it whole, since the caller knows what it has sent. About any other
job (changed, returned by a `unique` rule, or run by a schedule), a caller without `read` learns only its id, and from
the status code whether the request was accepted. Errors follow the same rule: see `JoblineError.concealed`.
"""

from typing import Any

from flask import g

from app.errors import JoblineError


def may_read() -> bool:
    """Whether the caller may read jobs that others have created; False before it is authorized."""
    return bool(g.get("may_read", False))


def redact(resource: dict[str, Any]) -> dict[str, Any]:
    """A job or workflow that this request did not create; only its id and links, without the scope `read`."""
    if may_read():
        return resource
    return {"id": resource["id"], **({"links": resource["links"]} if "links" in resource else {})}


def redact_error(error: JoblineError) -> JoblineError:
    """An error, without details of other jobs if the caller lacks the scope `read`."""
    return error.concealed if error.concealed and not may_read() else error
