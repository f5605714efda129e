"""Keys made from the arguments of a call: what limits count by, and what makes a job unique."""

import re
from typing import Any

from app.errors import Invalid
from app.serializer import JSON, text_of

PLACE = re.compile(r"\{(\w+(?:\.\w+)*)\}")
LONGEST = 200


def filled(key: str, named: dict[str, Any], pointer: str) -> str:
    """A key such as "{user_id}" or "{user.id}" with the values of a call. Raises Invalid."""

    def value(found: re.Match[str]) -> str:
        here: Any = named
        for name in found[1].split("."):
            if not isinstance(here, dict) or name not in here:
                raise _bad_key(f"{found[1]!r} is no argument", pointer)
            here = here[name]
        return here if isinstance(here, str) else _text(here)

    text = PLACE.sub(value, key)
    if len(text) > LONGEST:
        raise _bad_key(f"it has {len(text)} characters with these arguments, the limit is {LONGEST}", pointer)
    return text


def _text(value: object) -> str:
    try:
        return JSON.dumps(value).decode()
    except TypeError:  # a default value that has no JSON form
        return text_of(value)


def _bad_key(detail: str, pointer: str) -> Invalid:
    return Invalid("The key does not fit the arguments", [{"detail": detail, "pointer": pointer}])
