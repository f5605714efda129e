"""What Docker Compose makes of the variables in its files."""

import re

VARIABLE = re.compile(r"\$(?:\$|\{(\w+)(?::([-?])([^}]*))?\})")


def interpolate(text: str, **variables: str) -> str:
    """`text` with ${NAME}, ${NAME:-default}, ${NAME:?message} and $$ replaced.

    Raises:
        ValueError: the message of a variable that must be set and is not.
    """

    def value(found: re.Match[str]) -> str:
        name, kind, rest = found.groups()
        if name is None:
            return "$"
        if variables.get(name):
            return variables[name]
        if kind == "?":
            raise ValueError(f"{name}: {rest}")
        return rest or ""

    return VARIABLE.sub(value, text)
