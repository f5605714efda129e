"""The JSON serializer of everything stored in Redis. RQ's own `json` serializer can read its output.

It serializes dates, UUIDs, dataclasses, Decimals, sets, enums and pydantic models. It never reads a pickle, nor JSON
nested more than MAX_DEPTH deep.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import orjson
from pydantic_core import to_jsonable_python

OPTIONS = orjson.OPT_NON_STR_KEYS
MAX_DEPTH = 64
"""Maximum nesting of arrays and objects. orjson writes 254 levels, and responses of the API add some."""
PICKLE = b"\x80"
"""First byte of a pickle (opcode PROTO, since protocol 2). No JSON begins with it."""


class Pickled(ValueError):
    """Data written by RQ's default serializer. It is not read, because unpickling can run code."""

    def __init__(self) -> None:
        super().__init__(
            "it was pickled, and Jobline reads JSON only: enqueue over the HTTP API, or with "
            "rq.Queue(..., serializer=rq.serializers.JSONSerializer)"
        )


class JSON:
    """RQ's serializer interface (rq.serializers.Serializer, 2.12)."""

    @staticmethod
    def dumps(value: Any) -> bytes:
        """Raises TypeError for a value without a JSON form."""
        return orjson.dumps(value, default=_to_jsonable, option=OPTIONS)

    @staticmethod
    def loads(data: bytes) -> Any:
        """Raises ValueError for bytes that are not JSON; Pickled and TooDeep are subclasses."""
        try:
            value = orjson.loads(data)
        except ValueError:
            if data[:1] == PICKLE:
                raise Pickled from None
            raise
        check_depth(data, value)
        return value


def dumps_checked(value: Any) -> bytes:
    """Serialize a value from a job.

    Raises:
        TypeError: it has no JSON form, or two keys have the same name in JSON.
        TooDeep
    """
    try:
        data = orjson.dumps(value, default=_to_jsonable)
    except TypeError:  # perhaps keys that are not strings: {1: "a", "1": "b"} has two of the same name
        data = JSON.dumps(value)
        if len(data) != len(orjson.dumps(orjson.loads(data))):
            raise TypeError("two keys of a dict have the same name in JSON") from None
    if may_be_deep(data):
        check_depth(data, orjson.loads(data))
    return data


class TooDeep(ValueError):
    """JSON with more than MAX_DEPTH levels of arrays and objects."""


def check_depth(data: bytes, value: Any) -> None:
    """Raise TooDeep if `value`, whose JSON is `data`, is nested more than MAX_DEPTH deep."""
    if not may_be_deep(data):
        return
    values = [value]
    for _ in range(MAX_DEPTH + 1):
        values = [child for parent in values if isinstance(parent, dict | list) for child in _children(parent)]
        if not values:
            return
    raise TooDeep(f"nested more than {MAX_DEPTH} deep")


def may_be_deep(data: bytes) -> bool:
    """Return whether JSON has enough brackets to exceed MAX_DEPTH."""
    return data.count(b"[") + data.count(b"{") > MAX_DEPTH


def _children(parent: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return parent.values() if isinstance(parent, dict) else parent


def utc(moment: datetime) -> str:
    """Format a UTC time by RFC 3339, as in responses and meta."""
    return moment.isoformat().replace("+00:00", "Z")


def text_of(value: object) -> str:
    """Return `str(value)` without characters that JSON cannot represent. Never raises."""
    try:
        text = str(value)
    except Exception:  # an author's object whose __str__ fails
        text = f"<{type(value).__name__}>"
    return text.encode("utf-8", "backslashreplace").decode()


def without_unserializable(value: Any) -> Any:
    """Return a document without the parts that have no JSON form, such as an integer beyond 64 bits."""
    return value if _has_json_form(value) else _pruned(value)


def _pruned(value: Any) -> Any:
    if isinstance(value, dict):
        parts = ((text_of(key), part) for key, part in value.items())
        return {key: _pruned(part) for key, part in parts if _is_nested(part) or _has_json_form(part)}
    if isinstance(value, list | tuple):
        return [_pruned(part) for part in value if _is_nested(part) or _has_json_form(part)]
    return text_of(value) if isinstance(value, str) else value


def _is_nested(value: object) -> bool:
    return isinstance(value, dict | list | tuple | str)


def _has_json_form(value: object) -> bool:
    try:
        JSON.dumps(value)
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def _to_jsonable(value: object) -> object:
    try:
        return to_jsonable_python(value)
    except ValueError as error:
        raise TypeError(f"{type(value).__name__} has no JSON form") from error
