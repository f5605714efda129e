"""JSON of requests: RFC 8259, with what its section 4 and 6 leave open decided, so that no two readers disagree."""

import json
from typing import Any

import orjson

from app.errors import Invalid
from app.serializer import check_depth

SMALLEST, LARGEST = -(2**63), 2**64 - 1
LONGEST_INTEGER = len(str(SMALLEST))


def loads(data: bytes) -> Any:
    """A request's body.

    Raises:
        ValueError: it is not JSON.
        Invalid: it is nested too deep, an object has a name twice, or an integer does not fit 64 bits.
    """
    value = orjson.loads(data)
    try:
        check_depth(data, value)
        check_names(data)
    except ValueError as error:
        problem = {"detail": str(error), "pointer": "#"}
        raise Invalid("The body cannot be taken", [problem]) from None
    return value


def check_names(data: bytes) -> None:
    """Raises ValueError for JSON in which an object has a name twice, or an integer does not fit 64 bits."""
    _RULES.decode(data.decode())


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"an object has the name {twice[:100]!r} twice")
    return found


def _integer(digits: str) -> int:
    if len(digits) > LONGEST_INTEGER or not SMALLEST <= int(digits) <= LARGEST:
        raise ValueError(f"the integer {digits[:100]} does not fit 64 bits: send it as a string")
    return int(digits)


_RULES = json.JSONDecoder(object_pairs_hook=_object, parse_int=_integer)
"""Only for its checks: orjson takes the last of two names, and makes a float of a large integer."""
