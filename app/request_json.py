"""Strict JSON for requests: RFC 8259, without duplicate names (section 4) or integers beyond 64 bits (section 6)."""

import json
from typing import Any

import orjson

from app.errors import Invalid
from app.serializer import check_depth

MIN_INTEGER, MAX_INTEGER = -(2**63), 2**64 - 1
MAX_INTEGER_CHARS = len(str(MIN_INTEGER))


def loads(data: bytes) -> Any:
    """Parse the body of a request.

    Raises:
        ValueError: it is not JSON.
        Invalid: it is nested too deep, an object has a name twice, or an integer does not fit 64 bits.
    """
    value = orjson.loads(data)
    try:
        check_depth(data, value)
        check_names_and_integers(data)
    except ValueError as error:
        problem = {"detail": str(error), "pointer": "#"}
        raise Invalid("The body is not acceptable JSON", [problem]) from None
    return value


def check_names_and_integers(data: bytes) -> None:
    """Raises ValueError for JSON in which an object has a name twice, or an integer does not fit 64 bits."""
    _STRICT_DECODER.decode(data.decode())


def _object_with_unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        duplicate = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"an object has the name {duplicate[:100]!r} twice")
    return value


def _integer_of_64_bits(digits: str) -> int:
    if len(digits) > MAX_INTEGER_CHARS or not MIN_INTEGER <= int(digits) <= MAX_INTEGER:
        raise ValueError(f"the integer {digits[:100]} does not fit 64 bits: send it as a string")
    return int(digits)


_STRICT_DECODER = json.JSONDecoder(object_pairs_hook=_object_with_unique_names, parse_int=_integer_of_64_bits)
"""Used only for its checks: orjson keeps the last of two equal names, and turns large integers into floats."""
