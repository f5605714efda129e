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

PIPE_COLUMNS = 10_000  # columns, where there is no terminal to fit
STATUS_STYLES = {
    "finished": "green",
    "started": "yellow",
    "busy": "yellow",
    "failed": "red",
    "stopped": "red",
    "canceled": "dim",
    "paused": "yellow",
}


def console(file: IO[str]) -> Console:
    return Console(file=file, width=None if file.isatty() else PIPE_COLUMNS, markup=False, highlight=False, emoji=False)


def print_message(message: str) -> None:
    """To the person, not to what reads the output; without what would steer a terminal."""
    click.echo("\n".join(one_line(line) for line in message.split("\n")), err=True)


def print_warnings(answer: Any) -> None:
    """Say what the API warns of."""
    for warning in answer.get("warnings", ()):
        print_message(f"Warning: {one_line(warning)}")


def one_line(value: Any) -> str:
    """Any JSON value in one line; without what would steer a terminal."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def format_time(text: str | None) -> str:
    """To the second."""
    return f"{text[:19].replace('T', ' ')}Z" if text else ""


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """The first column is never broken over lines."""
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for number, column in enumerate(columns):
        grid.add_column(column.upper(), no_wrap=number == 0, overflow="fold")
    for row in rows:
        grid.add_row(*(_cell(value) for value in row))
    _print(grid)


def print_page_end(page: Any) -> None:
    """What cannot be shown, and how to get the next page, if there may be one."""
    print_unreadable(page)
    if page["next_cursor"]:
        print_message(f"There may be more: --cursor {page['next_cursor']}")


def print_unreadable(answer: Any) -> None:
    """Say which entries of a list cannot be read."""
    for entry in answer.get("unreadable", ()):
        print_message(f"{entry.get('name', entry.get('id'))} cannot be read: {one_line(entry['reason'])}")


def print_details(pairs: dict[str, Any]) -> None:
    """One a line; what there is not is left out."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in pairs.items():
        if value not in (None, "", [], {}):
            grid.add_row(name, _cell(value))
    _print(grid)


def print_json(text: str) -> None:
    """JSON as it came; what would steer a terminal is escaped as JSON has it."""
    click.echo("".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text))


def print_lines(text: str) -> None:
    """Lines as they are, a traceback for example."""
    click.echo("\n".join(one_line(line) for line in text.splitlines()))


def _print(grid: Table) -> None:
    """In a pipe without the spaces that fill a column up."""
    out = console(sys.stdout)
    if out.is_terminal:
        out.print(grid)
        return
    with out.capture() as printed:
        out.print(grid)
    click.echo("\n".join(line.rstrip() for line in printed.get().splitlines()))


def _cell(value: Any) -> Text:
    text = one_line(value)
    return Text(text, style=STATUS_STYLES.get(text, ""))
