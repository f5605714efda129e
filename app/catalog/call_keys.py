"""Keys made from the arguments of a call: limits are counted by key, and unique jobs are identified by key."""

import re
from typing import Any

from app.errors import Invalid
from app.serializer import JSON, text_of

PLACEHOLDER = re.compile(r"\{(\w+(?:\.\w+)*)\}")
MAX_KEY_LENGTH = 200


def fill_key(template: str, arguments: dict[str, Any], pointer: str) -> str:
    """Fill a key template such as "{user_id}" or "{user.id}" with the arguments of a call. Raises Invalid."""

    def value(match: re.Match[str]) -> str:
        current: Any = arguments
        for name in match[1].split("."):
            if not isinstance(current, dict) or name not in current:
                raise _bad_key(f"{match[1]!r} is not an argument", pointer)
            current = current[name]
        return current if isinstance(current, str) else _text(current)

    text = PLACEHOLDER.sub(value, template)
    if len(text) > MAX_KEY_LENGTH:
        raise _bad_key(f"it has {len(text)} characters with these arguments, the limit is {MAX_KEY_LENGTH}", pointer)
    return text


def _text(value: object) -> str:
    try:
        return JSON.dumps(value).decode()
    except TypeError:  # a default value without a JSON form
        return text_of(value)


def _bad_key(detail: str, pointer: str) -> Invalid:
    return Invalid("The key does not fit the arguments", [{"detail": detail, "pointer": pointer}])
