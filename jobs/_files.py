"""Helpers for files in storage. No module of the catalogue: its name starts with an underscore."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app import Discard
from app.author import storage


def source(relative: str) -> Path:
    """An existing file under storage. Raises Discard."""
    try:
        found = storage.path(relative)
    except storage.OutsideStorage as error:
        raise Discard(str(error)) from None
    if not found.is_file():
        raise Discard(f"No file {relative!r} in storage")
    return found


def target(relative: str) -> Path:
    """Where a file may be written under storage, its folders made. Raises Discard."""
    try:
        found = storage.create(relative)
    except storage.OutsideStorage as error:
        raise Discard(str(error)) from None
    except (FileExistsError, NotADirectoryError):
        raise Discard(f"{relative!r} lies below a file, not in a folder") from None
    if found.is_dir():
        raise Discard(f"{relative!r} is a folder")
    return found


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file beside `path` to write to: it takes that name once complete, and is removed after an error.

    Raises:
        Discard: the files in storage exceed STORAGE_LIMIT, before or with this one.
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
