"""Tolerant parsers for values in RQ's hashes: what cannot be parsed becomes None or empty."""

import math
from datetime import UTC, datetime
from typing import Any

from app.serializer import JSON, utc

MAX_INTEGER = 2**63 - 1
"""Larger integers cannot be represented in JSON by orjson."""


def json_of(data: bytes | None) -> Any:
    try:
        return JSON.loads(data) if data else None
    except ValueError:
        return None


def strings_of(data: bytes | None) -> list[str]:
    """The items of a JSON array as strings."""
    items = json_of(data)
    return [str(item) for item in items] if isinstance(items, list) else []


def text_of(data: bytes | None) -> str | None:
    return data.decode(errors="replace") if data is not None else None


def int_of(data: bytes | None) -> int | None:
    try:
        number = int(data) if data else None
    except ValueError:
        return None
    return number if number is None or abs(number) <= MAX_INTEGER else None


def float_of(data: bytes | None) -> float | None:
    try:
        number = float(data) if data else None
    except ValueError:
        return None
    return number if number is None or math.isfinite(number) else None


def time_of(data: bytes | None) -> str | None:
    """A time in ISO 8601, unchanged; None if it is not one."""
    text = text_of(data) or ""
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return None
    return text


def utc_of(seconds: float | None) -> str | None:
    """Format seconds since 1970 as RFC 3339."""
    try:
        return utc(datetime.fromtimestamp(seconds, UTC)) if seconds is not None else None
    except (ValueError, OverflowError, OSError):
        return None
