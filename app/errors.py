"""The tree of errors that callers of the API see, rendered in one place (app/api/errors.py)."""

from typing import ClassVar

MAX_LISTED_ERRORS = 100
"""Errors per response: code that collects errors may stop there."""


class JoblineError(Exception):
    """An error with a fixed HTTP status and title. `detail` describes the occurrence."""

    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"

    def __init__(self, detail: str, errors: list[dict[str, str]] | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = errors
        self.concealed: JoblineError | None = None
        """The error for callers who may not read jobs, if `detail` or `errors` disclose something about one."""


class BadRequest(JoblineError):
    status, title = 400, "Bad request"


class Unauthorized(JoblineError):
    status, title = 401, "Unauthorized"


class Forbidden(JoblineError):
    status, title = 403, "Forbidden"


class NotFound(JoblineError):
    status, title = 404, "Not found"


class Conflict(JoblineError):
    status, title = 409, "Conflict"


class WrongState(Conflict):
    """The request needs a job in another state."""

    def __init__(self, subject: str, state: str, rule: str) -> None:
        super().__init__(f"{subject} is {state}: {rule}")
        self.concealed = Conflict(f"{subject} is in another state: {rule}")


class TooLarge(JoblineError):
    status, title = 413, "Content too large"


class Misdirected(JoblineError):
    status, title = 421, "Misdirected request"


class Invalid(JoblineError):
    """`errors`: [{detail, pointer}], each pointer an RFC 6901 fragment into the request body."""

    status, title = 422, "Unprocessable content"


class TooManyRequests(JoblineError):
    status, title = 429, "Too many requests"

    def __init__(self, detail: str, retry_after: int) -> None:
        super().__init__(detail)
        self.retry_after = retry_after
        """Seconds."""


class Unavailable(JoblineError):
    status, title = 503, "Service unavailable"
    retry_after = 2
    """Seconds."""
