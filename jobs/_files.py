"""Helpers for files in storage. Not in the catalogue: the module name starts with an underscore."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app import Discard
from app.author import storage


def source(relative: str) -> Path:
    """Return the path of an existing file in storage. Raises Discard."""
    try:
        file = storage.path(relative)
    except storage.OutsideStorage as error:
        raise Discard(str(error)) from None
    if not file.is_file():
        raise Discard(f"No file {relative!r} in storage")
    return file


def target(relative: str) -> Path:
    """Return the path of a file to write in storage, and create its folders. Raises Discard."""
    try:
        file = storage.create(relative)
    except storage.OutsideStorage as error:
        raise Discard(str(error)) from None
    except (FileExistsError, NotADirectoryError):
        raise Discard(f"{relative!r} is below a file, not in a folder") from None
    if file.is_dir():
        raise Discard(f"{relative!r} is a folder")
    return file


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary file beside `path`: it is renamed to `path` once complete, or removed after an error.

    Raises:
        Discard: the files in storage exceed STORAGE_LIMIT, with or without this one.
    """
    partial = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        storage.check_limit()
        yield partial
        storage.check_limit()
        partial.replace(path)
    except storage.StorageFull as error:
        raise Discard(str(error)) from None
    finally:
        partial.unlink(missing_ok=True)
