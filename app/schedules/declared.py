"""Parse the schedules that `scheduler.py` declares, one by one: each gets a name and is validated, or is rejected."""

import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from app.author.options import Retry
from app.catalog.fields import RetryBody
from app.catalog.function_options import as_body
from app.schedules.rule import MISUSE, Schedule, When
from app.serializer import JSON, text_of


@dataclass(frozen=True)
class RejectedSchedule:
    """An invalid entry. `name` is its own, else its function's, else its number in the list."""

    name: str
    function: str | None
    reason: str


def parse_entries(entries: Iterable[Any]) -> Iterator[Schedule | RejectedSchedule]:
    """Parse each entry, whatever it is.

    An entry without a name gets that of its function. If that is taken, a hash of its timing and arguments is added, so
    that two rules for one function both run. The same rule twice is an error.
    """
    entries = list(entries)
    given_names = {entry["name"] for entry in entries if _is_named(entry) and isinstance(entry["name"], str)}
    names: set[str] = set()
    hashed_names: set[str] = set()
    for number, entry in enumerate(entries, 1):
        try:
            schedule = _parse(entry)
            if not _is_named(entry):
                hashed_name = f"{schedule.function[:100]}-{_hash(schedule):08x}"
                if hashed_name in hashed_names:
                    raise ValueError("another entry says the same: give it a name if both are to run")
                hashed_names.add(hashed_name)
                if schedule.name in names or schedule.name in given_names:
                    schedule = schedule.model_copy(update={"name": hashed_name})
            if schedule.name in names:
                raise ValueError("another entry has this name")
        except Exception as error:  # an author's entry can raise anything
            yield _rejected(number, entry, error)
        else:
            names.add(schedule.name)
            yield schedule


def _is_named(entry: Any) -> bool:
    return isinstance(entry, Mapping) and entry.get("name") not in (None, "")


def _hash(schedule: Schedule) -> int:
    timing = schedule.model_dump_json(include=set(When.model_fields)).encode()
    return zlib.crc32(timing + JSON.dumps([schedule.args, schedule.kwargs]))


def _parse(entry: Any) -> Schedule:
    """Validate an entry, and convert its arguments to JSON types. Raises ValueError with a message for the author."""
    if not isinstance(entry, Mapping):
        raise ValueError(f"an entry is made by cron, every or once, or is a dict, not {type(entry).__name__}")  # noqa: TRY004
    if MISUSE in entry:
        raise ValueError(entry[MISUSE])
    try:
        schedule = Schedule.model_validate(
            {**entry, "name": entry.get("name") or entry.get("function"), "retry": _retry_body(entry.get("retry"))}
        )
    except ValidationError as error:
        raise ValueError("; ".join(_messages(error))) from None
    try:
        args, kwargs = JSON.loads(JSON.dumps([schedule.args, schedule.kwargs]))
    except (TypeError, ValueError) as error:
        raise ValueError(f"the arguments have no JSON form: {text_of(error)}") from None
    return schedule.model_copy(update={"args": args, "kwargs": kwargs})


def _retry_body(value: object) -> object:
    """Convert a number of retries, or a Retry, to what the API accepts. Raises ValueError."""
    if value is None or isinstance(value, Mapping | RetryBody):
        return value
    if isinstance(value, Retry) and (value.on, value.not_on) != (Retry(1).on, Retry(1).not_on):
        raise ValueError("retry: on and not_on are set on the function, by @job")
    try:
        return as_body("retry", value)
    except ValueError as error:
        raise ValueError(f"retry: {error}") from None


def _messages(error: ValidationError) -> Iterator[str]:
    items = error.errors(include_url=False, include_context=False)
    no_function = any(item["loc"] == ("function",) for item in items)
    for item in items:
        if no_function and item["loc"] == ("name",) and item["input"] is None:
            continue  # the name would default to the function's
        path = ".".join(map(str, item["loc"]))
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            message = "there is no such option"
        yield f"{path}: {message}" if path else message


def _rejected(number: int, entry: Any, error: Exception) -> RejectedSchedule:
    name, function = (entry.get("name"), entry.get("function")) if isinstance(entry, Mapping) else (None, None)
    function = text_of(function) if isinstance(function, str) else None
    label = text_of(name) if isinstance(name, str) and name else function or f"entry {number}"
    reason = text_of(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {text_of(error)}"
    return RejectedSchedule(label, function, reason)
