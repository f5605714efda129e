"""What is printed: the answer on stdout, all else on stderr; coloured on a terminal alone, and safe to show there."""

import json
import sys
from collections.abc import Iterable, Sequence
from typing import IO, Any

import click
import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

WIDE = 10_000  # columns, where there is no terminal to fit
COLOURS = {
    "finished": "green",
    "started": "yellow",
    "busy": "yellow",
    "failed": "red",
    "stopped": "red",
    "canceled": "dim",
    "paused": "yellow",
}


def console(file: IO[str]) -> Console:
    return Console(file=file, width=None if file.isatty() else WIDE, markup=False, highlight=False, emoji=False)


def say(message: str) -> None:
    """To the person, not to what reads the output; without what would steer a terminal."""
    click.echo("\n".join(plain(line) for line in message.split("\n")), err=True)


def warn(answer: Any) -> None:
    """Say what the API warns of."""
    for warning in answer.get("warnings", ()):
        say(f"Warning: {plain(warning)}")


def plain(value: Any) -> str:
    """Any JSON value in one line; without what would steer a terminal."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def moment(text: str | None) -> str:
    """To the second."""
    return f"{text[:19].replace('T', ' ')}Z" if text else ""


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """The first column is never broken over lines."""
    found = Table(box=None, pad_edge=False, header_style="bold")
    for number, column in enumerate(columns):
        found.add_column(column.upper(), no_wrap=number == 0, overflow="fold")
    for row in rows:
        found.add_row(*(_cell(value) for value in row))
    _print(found)


def more(page: Any) -> None:
    """What cannot be shown, and how to get the next page, if there may be one."""
    unreadable(page)
    if page["next_cursor"]:
        say(f"There may be more: --cursor {page['next_cursor']}")


def unreadable(answer: Any) -> None:
    """Say which entries of a list cannot be read."""
    for entry in answer.get("unreadable", ()):
        say(f"{entry.get('name', entry.get('id'))} cannot be read: {plain(entry['reason'])}")


def details(pairs: dict[str, Any]) -> None:
    """One a line; what there is not is left out."""
    found = Table.grid(padding=(0, 2))
    found.add_column(style="bold", no_wrap=True)
    found.add_column(overflow="fold")
    for name, value in pairs.items():
        if value not in (None, "", [], {}):
            found.add_row(name, _cell(value))
    _print(found)


def document(text: str) -> None:
    """JSON as it came; what would steer a terminal is escaped as JSON has it."""
    click.echo("".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text))


def block(text: str) -> None:
    """Lines as they are, a traceback for example."""
    click.echo("\n".join(plain(line) for line in text.splitlines()))


def _print(found: Table) -> None:
    """In a pipe without the spaces that fill a column up."""
    out = console(sys.stdout)
    if out.is_terminal:
        out.print(found)
        return
    with out.capture() as printed:
        out.print(found)
    click.echo("\n".join(line.rstrip() for line in printed.get().splitlines()))


def _cell(value: Any) -> Text:
    text = plain(value)
    return Text(text, style=COLOURS.get(text, ""))
