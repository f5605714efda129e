"""Parsing of arguments: `name=text` and `name:=json` as in HTTPie, or whole JSON documents."""

import math
import sys
from collections.abc import Callable, Iterable
from functools import reduce
from typing import Any

import click

from app import request_json
from app.errors import Invalid

Decorator = Callable[[Callable[..., None]], Callable[..., None]]


def combine_options(*decorators: Decorator) -> Decorator:
    """Combine click decorators into one, applied in this order."""
    return lambda command: reduce(lambda wrapped, decorator: decorator(wrapped), reversed(decorators), command)


CALL_OPTIONS = combine_options(
    click.argument("pairs", nargs=-1, metavar="[NAME=TEXT | NAME:=JSON]..."),
    click.option("--args", metavar="JSON", help="Positional arguments as a JSON array; - reads stdin."),
    click.option("--kwargs", metavar="JSON", help="Arguments by name as a JSON object; - reads stdin."),
)
OTHER_OPTIONS = click.option(
    "--option", "-o", "other_options", multiple=True, help="Any other field of the request: NAME=TEXT or NAME:=JSON."
)


def page_options(limit: int) -> Decorator:
    """The options of a list that comes in pages; `limit` is the default number of entries."""
    return combine_options(
        click.option("--limit", type=click.IntRange(1, 500), default=limit, show_default=True, help="Page size."),
        click.option("--cursor", help="Cursor of the page, as printed after the previous page."),
    )


def parse_pairs(pairs: Iterable[str], subject: str = "an argument") -> dict[str, Any]:
    """Values by name from `NAME=TEXT` and `NAME:=JSON`. Raises click.UsageError."""
    values: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        is_json = name.endswith(":")
        name = name.removesuffix(":")
        if not equals or not name:
            raise click.UsageError(f"{subject} is NAME=TEXT or NAME:=JSON, not {pair!r}")
        if name in values:
            raise click.UsageError(f"{name} is given twice")
        values[name] = parse_json(text, f"the value of {name}") if is_json else text
    return values


def parse_json(text: str, subject: str) -> Any:
    """Parse JSON by the same rules as the API. Raises click.UsageError."""
    try:
        return request_json.loads(text.encode("utf-8", "surrogateescape"))
    except Invalid as error:
        raise click.UsageError(f"{subject}: {(error.errors or [{}])[0].get('detail', error.detail)}") from None
    except ValueError as error:
        raise click.UsageError(f"{subject} is no JSON: {error}") from None


def parse_call(pairs: Iterable[str], args: str | None, kwargs: str | None) -> dict[str, Any]:
    """The fields `args` and `kwargs` of a request, without those that were not given. Raises click.UsageError."""
    if args == kwargs == "-":
        raise click.UsageError("only one of --args and --kwargs can be read from stdin")
    positional = parse_json(_read(args), "--args") if args is not None else []
    by_name = parse_json(_read(kwargs), "--kwargs") if kwargs is not None else {}
    if not isinstance(positional, list):
        raise click.UsageError("--args is a JSON array")
    if not isinstance(by_name, dict):
        raise click.UsageError("--kwargs is a JSON object")
    return drop_unset(
        args=None if args is None else positional,
        kwargs=None if kwargs is None and not pairs else {**by_name, **parse_pairs(pairs)},
    )


def _read(text: str) -> str:
    return sys.stdin.read() if text == "-" else text


def drop_unset(**options: Any) -> dict[str, Any]:
    """Drop options that were not given: None, False and the empty tuple."""
    return {name: value for name, value in options.items() if value is not None and value is not False and value != ()}


def seconds_or_duration(text: str | None) -> float | str | None:
    """A number of seconds, or a duration such as 1h30m as text: the API accepts both."""
    try:
        number = None if text is None else float(text)
    except ValueError:
        return text
    return number if number is None or math.isfinite(number) else text
