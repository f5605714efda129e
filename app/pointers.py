"""JSON pointers (RFC 6901, section 6: as a URI fragment), and the paths in pydantic's errors they are made from."""

from typing import Any

from pydantic_core import ErrorDetails, ValidationError

MAX_DETAILED_ERRORS = 10_000  # pydantic takes 10 us to describe one, and describes all or none

DocumentPath = tuple[int | str, ...]


def error_details(error: ValidationError) -> list[ErrorDetails]:
    """Return the errors of a validation; more than MAX_DETAILED_ERRORS as a single error with their number."""
    count = error.error_count()
    if count > MAX_DETAILED_ERRORS:
        return [ErrorDetails(type="too_many", loc=(), msg=f"{count} values do not fit", input=None)]
    return error.errors(include_url=False, include_context=False, include_input=False)


def join_pointer(pointer: str, *parts: object) -> str:
    """Extend a pointer by path parts, escaped."""
    return pointer + "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in parts)


def path_in(document: Any, error: ErrorDetails) -> DocumentPath:
    """Return an error's path in the document. Parts that pydantic adds for the members of a union are left out."""
    path: list[int | str] = []
    for part in error["loc"]:
        exists = part in document if isinstance(document, dict) else _has(document, part)
        if exists:
            document = document[part]
        if exists or (part == error["loc"][-1] and error["type"].startswith("missing")):
            path.append(part)
    return tuple(path)


def _has(document: Any, part: int | str) -> bool:
    return isinstance(document, list) and isinstance(part, int) and part < len(document)
