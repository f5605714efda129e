"""Import files into the database."""

import csv
import hashlib
import io
import json
import sqlite3
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from app import Context, Discard, Retry, job
from app.author import progress
from jobs._database import KEY, create_table, identifier
from jobs._files import source

if TYPE_CHECKING:
    from sqlalchemy import Connection, Table

REJECTED = [KEY, "file", "line", "reason", "content"]
CONTENT_LIMIT = 10_000

Row = dict[str, str]


@job(timeout=6 * 3600, retry=Retry(max=3, initial=10))
def load_csv(
    path: str, table: str, batch: Annotated[int, Field(ge=1, le=5000)] = 1000, *, context: Context
) -> dict[str, int]:
    """Load a CSV file of any size from storage (UTF-8, comma, header first) into a table of text columns.

    The table is created from the header if it does not exist. Each batch of rows is one transaction. Running the job
    again, also after a crash, inserts no row twice: the key of a row, in `row_key`, is a hash of its content and the
    number of times it occurred before in the file. A row that was loaded from another file is skipped too. Rows that
    cannot be loaded go to `<table>_rejected`, with the line where they end and the reason. Progress is in bytes.

    Returns:
        {"rows": read, "inserted": new, "skipped": already present, "rejected": not loadable}

    Raises:
        Discard: no such file, a table or column name that is not a plain identifier, or a table with other columns.
    """
    identifier(table, "Table")
    file = source(path)
    size, counts = file.stat().st_size, {"rows": 0, "inserted": 0, "skipped": 0, "rejected": 0}
    engine = context.database.engine
    with file.open("rb") as binary:
        reader = csv.reader(io.TextIOWrapper(binary, "utf-8-sig", errors="surrogateescape", newline=""))
        header = _header(reader)
        good_table = create_table(engine, table, [KEY, *header])
        bad_table = create_table(engine, f"{table}_rejected", REJECTED)
        rows = _rows(reader, header, path)
        while chunk := list(islice(rows, batch)):
            good = [row for row, accepted in chunk if accepted]
            bad = [row for row, accepted in chunk if not accepted]
            with engine.begin() as connection:
                inserted = _insert_new(connection, good_table, good)
                _insert_new(connection, bad_table, bad)
            counts["rows"] += len(chunk)
            counts["inserted"] += inserted
            counts["skipped"] += len(good) - inserted
            counts["rejected"] += len(bad)
            progress.update(binary.tell(), size, "loading")
    return counts


def _header(reader: Any) -> list[str]:
    try:
        header = [identifier(name.strip(), "Column") for name in next(reader, [])]
    except csv.Error as error:
        raise Discard(f"The header is no CSV: {error}") from None
    if not header:
        raise Discard("The file is empty: it has no header")
    if len({name.lower() for name in [KEY, *header]}) <= len(header):
        raise Discard(f"The header names a column twice, or {KEY}: {', '.join(header)}")
    return header


def _rows(reader: Any, header: list[str], path: str) -> Iterator[tuple[Row, bool]]:
    """Yield each row, and whether it can be loaded: else it is a row of the table of rejected ones."""
    earlier = sqlite3.connect("")  # counts each content in a temporary file: the memory may be too small
    earlier.execute("CREATE TABLE seen (digest BLOB PRIMARY KEY, times INTEGER) WITHOUT ROWID")
    count = "INSERT INTO seen VALUES (?, 1) ON CONFLICT DO UPDATE SET times = times + 1 RETURNING times"
    while True:
        fields: list[str] = []
        try:
            fields = next(reader)
            reason = _reason(fields, header)
        except StopIteration:
            break
        except csv.Error as error:
            reason = str(error)
        if reason:
            yield _rejected(path, reader.line_num, reason, fields), False
        elif fields:  # skip empty lines
            digest = hashlib.sha256(json.dumps(fields).encode()).digest()
            times = earlier.execute(count, (digest,)).fetchone()[0]
            yield {KEY: f"{digest.hex()}-{times}", **dict(zip(header, fields, strict=True))}, True
    earlier.close()


def _reason(fields: list[str], header: list[str]) -> str | None:
    """Return why a row cannot be loaded; None if it can."""
    content = "".join(fields)
    if not content.isascii() and any("\udc80" <= letter <= "\udcff" for letter in content):
        return "not UTF-8"
    if "\0" in content:
        return "has a NUL character"
    if fields and len(fields) != len(header):
        return f"{len(fields)} fields, not {len(header)}"
    return None


def _rejected(path: str, line: int, reason: str, fields: list[str]) -> Row:
    text = io.StringIO()
    csv.writer(text).writerow(fields)
    content = text.getvalue().strip().replace("\0", "\\0")[:CONTENT_LIMIT]
    content = content.encode(errors="surrogateescape").decode(errors="backslashreplace")
    key = hashlib.sha256(json.dumps([path, line, reason, content]).encode()).hexdigest()
    return {KEY: key, "file": path, "line": str(line), "reason": reason, "content": content}


def _insert_new(connection: "Connection", table: "Table", rows: list[Row]) -> int:
    """Insert the rows whose key does not exist yet. Returns their number."""
    from sqlalchemy import Insert, select
    from sqlalchemy.dialects import postgresql, sqlite

    key = table.c[KEY]
    existing = set(connection.scalars(select(key).where(key.in_([row[KEY] for row in rows])))) if rows else set()
    new = [row for row in rows if row[KEY] not in existing]
    insert: Insert = table.insert()
    if connection.dialect.name == "sqlite":  # a concurrent job may insert the same rows
        insert = sqlite.insert(table).on_conflict_do_nothing()
    elif connection.dialect.name == "postgresql":
        insert = postgresql.insert(table).on_conflict_do_nothing()
    elif connection.dialect.name in ("mysql", "mariadb"):
        insert = insert.prefix_with("IGNORE")
    if new:
        connection.execute(insert, new)
    return len(new)
