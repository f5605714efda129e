"""The database of imports, exports and reports. Not in the catalogue: the module name starts with an underscore.

SQLAlchemy is imported where it is used: the API process imports every module of jobs/ only to read signatures.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from app import Discard, get_settings

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, Table

KEY = "row_key"
"""The primary key of a table created here."""
IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,49}")


def identifier(name: str, kind: str) -> str:
    """Return the name if it is a plain identifier. Raises Discard."""
    if not IDENTIFIER.fullmatch(name):
        raise Discard(f"{kind} {name!r} is not a name: ASCII letters, digits and _, no digit first, at most 50")
    return name


@contextmanager
def connected() -> Iterator["Engine"]:
    """Yield an engine of DATABASE_URL for one job: processes of a worker must not share a pool."""
    from sqlalchemy import create_engine, make_url

    settings = get_settings()
    url = make_url(settings.database)
    is_sqlite = url.get_backend_name() == "sqlite"
    if settings.database_url is None and url.database:
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        Path(url.database).touch(mode=0o600)  # closed to other users
    engine = create_engine(url, connect_args={"timeout": 30} if is_sqlite else {})
    try:
        yield engine
    finally:
        engine.dispose()


def existing_table(connection: "Connection", name: str) -> "Table":
    """Return a table with its columns in the database. Raises Discard if it does not exist."""
    from sqlalchemy import MetaData, Table
    from sqlalchemy.exc import NoSuchTableError

    try:
        return Table(identifier(name, "Table"), MetaData(), autoload_with=connection)
    except NoSuchTableError:
        raise Discard(f"The database has no table {name!r}") from None


def create_table(engine: "Engine", name: str, columns: list[str]) -> "Table":
    """Return a table, and create it if it does not exist. Raises Discard if it exists with other columns."""
    from sqlalchemy import Column, MetaData, String, Table, Text, inspect
    from sqlalchemy.exc import DBAPIError

    table = Table(
        name, MetaData(), *(Column(c, String(80), primary_key=True) if c == KEY else Column(c, Text) for c in columns)
    )
    try:
        table.create(engine, checkfirst=True)
    except DBAPIError:  # another job may have created it since the check
        if not inspect(engine).has_table(name):
            raise
    existing = {column["name"] for column in inspect(engine).get_columns(name)}
    if existing != set(columns):
        raise Discard(f"Table {name} has the columns {', '.join(sorted(existing))}, not {', '.join(sorted(columns))}")
    return table
