"""What can go wrong for a caller: one tree, rendered in one place (app/api/errors.py)."""

from typing import ClassVar

MAX_LISTED_ERRORS = 100
"""Errors in one answer; whoever collects them may stop beyond."""


class JoblineError(Exception):
    """A failure with an HTTP status and a title that never varies; `detail` says what happened this time."""

    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"

    def __init__(self, detail: str, errors: list[dict[str, str]] | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = errors
        self.concealed: JoblineError | None = None
        """What callers are told who may not read jobs, where `detail` or `errors` say something of one."""


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
    """A job is in another state than what was asked for needs."""

    def __init__(self, what: str, state: str, rule: str) -> None:
        super().__init__(f"{what} is {state}: {rule}")
        self.concealed = Conflict(f"{what} is in another state: {rule}")


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
