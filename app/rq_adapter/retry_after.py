"""How long an exception asks to wait before the next attempt: its own `retry_after`, or an HTTP header.

The header is that of RFC 9110, section 10.2.3, in both forms, as the errors of urllib, requests, httpx and aiohttp
carry it.
"""

import math
import time
from collections.abc import Mapping
from datetime import UTC, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

MAX_HEADER_SECONDS = 86_400.0  # what a server may ask for
MAX_OWN_SECONDS = 3650 * 86_400.0  # what the author of an exception may


def of(error: BaseException) -> float | None:
    """Seconds; None if it says nothing that can be read. Never raises: the exception is somebody else's object."""
    try:
        own = getattr(error, "retry_after", None)
        wait = own.total_seconds() if isinstance(own, timedelta) else parse(own)
        if wait is not None:
            return min(max(0.0, wait), MAX_OWN_SECONDS)
        wait = parse(_header(error))
    except Exception:
        return None
    return None if wait is None else min(wait, MAX_HEADER_SECONDS)


def parse(value: Any) -> float | None:
    """Seconds from now: of a number, or of a date in one of the forms of HTTP; None for anything else."""
    try:
        seconds = float(value)
    except (TypeError, ValueError, OverflowError):
        pass
    else:
        return max(0.0, seconds) if math.isfinite(seconds) else None
    try:
        at = parsedate_to_datetime(str(value))
        return max(0.0, (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None


def _header(error: BaseException) -> Any:
    """Of its response (requests, httpx), or its own (urllib, aiohttp)."""
    for holder in (getattr(error, "response", None), error):
        headers: Any = getattr(holder, "headers", None)
        if isinstance(headers, Mapping):
            found = next((value for name, value in headers.items() if str(name).lower() == "retry-after"), None)
        else:
            found = headers.get("Retry-After") if hasattr(headers, "get") else None
        if found is not None:
            return found
    return None
