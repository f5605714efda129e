"""The database of imports, exports and reports. Not in the catalogue: the module name starts with an underscore.

SQLAlchemy is imported where it is used: the API process imports every module of jobs/ only to read signatures.
"""

import re
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from app import Context, Discard, get_settings, on_start, on_stop

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


class Database:
    """DATABASE_URL, for the jobs of one process, in any of its threads. It connects at the first use."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._engine: Engine | None = None

    @property
    def engine(self) -> "Engine":
        with self._lock:
            if self._engine is None:
                self._engine = _create_engine()
            return self._engine

    def close(self) -> None:
        if self._engine:
            self._engine.dispose()


@on_start
def open_database(context: Context) -> None:
    context.database = Database()


@on_stop
def close_database(context: Context) -> None:
    context.database.close()


def _create_engine() -> "Engine":
    from sqlalchemy import NullPool, create_engine, make_url

    settings = get_settings()
    url = make_url(settings.database)
    if url.get_backend_name() != "sqlite":
        return create_engine(url, pool_pre_ping=True, max_overflow=-1)
    if settings.database_url is None and url.database:
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        Path(url.database).touch(mode=0o600)  # closed to other users
    return create_engine(url, poolclass=NullPool, connect_args={"timeout": 30})


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
