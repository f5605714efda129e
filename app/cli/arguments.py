"""Arguments as they are typed: `name=text` and `name:=json`, as HTTPie has it, or whole JSON documents."""

import sys
from collections.abc import Iterable
from typing import Any

import click
import orjson


def named(words: Iterable[str], what: str = "an argument") -> dict[str, Any]:
    """Raises click.UsageError."""
    found: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        is_json = name.endswith(":")
        name = name.removesuffix(":")
        if not equals or not name:
            raise click.UsageError(f"{what} is NAME=TEXT or NAME:=JSON, not {word!r}")
        if name in found:
            raise click.UsageError(f"{name} is given twice")
        found[name] = document(text, f"the value of {name}") if is_json else text
    return found


def document(text: str, what: str) -> Any:
    """JSON. Raises click.UsageError."""
    try:
        return orjson.loads(text)
    except ValueError as error:
        raise click.UsageError(f"{what} is no JSON: {error}") from None


def call(words: Iterable[str], args: str | None, kwargs: str | None) -> dict[str, Any]:
    """The `args` and `kwargs` of a request. Raises click.UsageError."""
    if args == kwargs == "-":
        raise click.UsageError("only one of --args and --kwargs comes on stdin")
    positional = document(_read(args), "--args") if args is not None else []
    by_name = document(_read(kwargs), "--kwargs") if kwargs is not None else {}
    if not isinstance(positional, list):
        raise click.UsageError("--args is a JSON array")
    if not isinstance(by_name, dict):
        raise click.UsageError("--kwargs is a JSON object")
    return {"args": positional, "kwargs": {**by_name, **named(words)}}


def _read(text: str) -> str:
    return sys.stdin.read() if text == "-" else text


def said(**options: Any) -> dict[str, Any]:
    """Options that were given."""
    return {name: value for name, value in options.items() if value is not None and value is not False and value != ()}


def number_or_text(text: str | None) -> float | str | None:
    """Seconds, or a duration such as 1h30m: the API takes both."""
    try:
        return None if text is None else float(text)
    except ValueError:
        return text
