"""Export database tables to files."""

import csv
from typing import Any

from app import Context, Discard, Retry, job
from app.author import progress
from jobs._database import KEY, existing_table
from jobs._files import replacing, target

ROWS_PER_FETCH = 1000
FORMULA_PREFIXES = ("=", "+", "-", "@", "\t", "\r")


@job(timeout=6 * 3600, retry=Retry(max=3, initial=10))
def dump_csv(
    table: str,
    path: str,
    columns: list[str] | None = None,
    where: dict[str, str] | None = None,
    spreadsheet_safe: bool = False,
    *,
    context: Context,
) -> dict[str, Any]:
    """Write a table of any size to a CSV file in storage (UTF-8, header first). It appears once complete.

    `columns` are the columns to write, in order; default: all but `row_key`. `where` picks the rows whose columns equal
    these values. With `spreadsheet_safe`, a field that a spreadsheet would read as a formula (it starts with = + - @,
    a tab or a carriage return) is prefixed with '. Progress is in rows.

    Returns:
        {"path": str, "rows": int, "bytes": int}

    Raises:
        Discard: no such table or column, or the path leaves the storage folder.
    """
    from sqlalchemy import String, cast, func, select

    file = target(path)
    with context.database.engine.connect() as connection:
        source = existing_table(connection, table)
        names = columns or [name for name in source.c.keys() if name != KEY]
        if unknown := [name for name in [*names, *(where or {})] if name not in source.c]:
            raise Discard(f"Table {table} has no column {', '.join(map(repr, unknown))}")
        conditions = [cast(source.c[name], String) == value for name, value in (where or {}).items()]
        total = connection.scalar(select(func.count()).select_from(source).where(*conditions)) or 0
        query = select(*(source.c[name] for name in names)).where(*conditions)
        count = 0
        with replacing(file) as partial, partial.open("w", encoding="utf-8", newline="") as text:
            writer = csv.writer(text)
            writer.writerow(_safe(names) if spreadsheet_safe else names)
            for part in connection.execution_options(yield_per=ROWS_PER_FETCH).execute(query).partitions():
                writer.writerows(map(_safe, part) if spreadsheet_safe else part)
                count += len(part)
                progress.update(count, total, "writing")
    return {"path": path, "rows": count, "bytes": file.stat().st_size}


def _safe(row: Any) -> list[Any]:
    return [f"'{field}" if isinstance(field, str) and field.startswith(FORMULA_PREFIXES) else field for field in row]
