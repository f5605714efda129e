"""Durations: seconds, text such as "1h30m", or a timedelta. The only parser, for requests and for authors."""

import re
from datetime import timedelta

Duration = float | str | timedelta
UNIT_SECONDS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
DURATION_PATTERN = re.compile(r"(?:[0-9]{1,12}[dhms])+")


def parse_duration(value: object) -> object:
    """Convert text or a timedelta to seconds. Other values are returned unchanged, for pydantic to validate.

    Raises:
        ValueError: the text is not a duration, or the value is a bool.
    """
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, str):
        if not DURATION_PATTERN.fullmatch(value):
            raise ValueError('Input should be seconds, or a duration such as "1h30m"')
        return sum(int(number) * UNIT_SECONDS[unit] for number, unit in re.findall(r"([0-9]+)([dhms])", value))
    if isinstance(value, bool):
        raise ValueError("Input should be seconds, or a duration")  # noqa: TRY004 - what pydantic reports
    return value


def as_seconds(value: Duration) -> float:
    """Convert a duration to seconds. Raises ValueError, TypeError."""
    return float(parse_duration(value))  # type: ignore[arg-type]
