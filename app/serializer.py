"""JSON for everything that goes through Redis: what RQ's own `json` serializer reads, written by orjson.

Dates, UUIDs, dataclasses, Decimals, sets, enums and pydantic models serialise; a pickle is never read.
"""

from datetime import datetime
from typing import Any

import orjson
from pydantic_core import to_jsonable_python

OPTIONS = orjson.OPT_NON_STR_KEYS
PICKLE = b"\x80"
"""What a pickle begins with (its opcode PROTO, since protocol 2), and JSON never does."""


class Pickled(ValueError):
    """RQ's default serializer wrote this. A pickle runs code when it is read, so it is not."""

    def __init__(self) -> None:
        super().__init__(
            "it was pickled, and Jobline reads JSON only: enqueue over the HTTP API, or with "
            "rq.Queue(..., serializer=rq.serializers.JSONSerializer)"
        )


class JSON:
    """RQ's serializer interface (rq.serializers.Serializer, 2.12)."""

    @staticmethod
    def dumps(value: Any) -> bytes:
        """Raises TypeError for a value that has no JSON form."""
        return orjson.dumps(value, default=_jsonable, option=OPTIONS)

    @staticmethod
    def loads(data: bytes) -> Any:
        """Raises ValueError for bytes that are not JSON; Pickled is one."""
        try:
            return orjson.loads(data)
        except ValueError:
            if data[:1] == PICKLE:
                raise Pickled from None
            raise


def utc(moment: datetime) -> str:
    """RFC 3339, as answers and meta have it; `moment` is UTC."""
    return moment.isoformat().replace("+00:00", "Z")


def _jsonable(value: object) -> object:
    try:
        return to_jsonable_python(value)
    except ValueError as error:
        raise TypeError(f"{type(value).__name__} has no JSON form") from error
