"""Output: answers on stdout, messages on stderr. Colours only on a terminal; control characters are escaped."""

import json
import sys
from collections.abc import Iterable, Sequence
from typing import IO, Any

import click
import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

PIPE_COLUMNS = 10_000  # line width where the output is no terminal
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
    """Print a message on stderr, with control characters escaped."""
    click.echo("\n".join(one_line(line) for line in message.split("\n")), err=True)


def print_warnings(answer: Any) -> None:
    """Print the warnings of an answer on stderr."""
    for warning in answer.get("warnings", ()):
        print_message(f"Warning: {one_line(warning)}")


def one_line(value: Any) -> str:
    """A JSON value in one line, with control characters escaped; "" for None."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def format_time(text: str | None) -> str:
    """An RFC 3339 time to the second; "" for None."""
    return f"{text[:19].replace('T', ' ')}Z" if text else ""


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a table on stdout. The first column is never wrapped."""
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for number, column in enumerate(columns):
        grid.add_column(column.upper(), no_wrap=number == 0, overflow="fold")
    for row in rows:
        grid.add_row(*(_cell(value) for value in row))
    _print(grid)


def print_page_end(page: Any) -> None:
    """Print the unreadable entries of a page, and the cursor of the next page if there is one."""
    print_unreadable(page)
    if page["next_cursor"]:
        print_message(f"There may be more: --cursor {page['next_cursor']}")


def print_unreadable(answer: Any) -> None:
    """Print the unreadable entries of a list on stderr."""
    for entry in answer.get("unreadable", ()):
        print_message(f"{entry.get('name', entry.get('id'))} cannot be read: {one_line(entry['reason'])}")


def print_details(pairs: dict[str, Any]) -> None:
    """Print names and values, one pair a line. Empty values are left out."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in pairs.items():
        if value not in (None, "", [], {}):
            grid.add_row(name, _cell(value))
    _print(grid)


def print_json(text: str) -> None:
    """Print JSON unchanged, except that control characters are escaped as in JSON strings."""
    click.echo("".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text))


def print_lines(text: str) -> None:
    """Print text with its line breaks, a traceback for example."""
    click.echo("\n".join(one_line(line) for line in text.splitlines()))


def _print(grid: Table) -> None:
    """Print a table; without trailing spaces where stdout is no terminal."""
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
