"""The one folder that jobs read and write files in."""

from pathlib import Path

from app.settings import get_settings


class OutsideStorage(ValueError):
    """A path that leaves the storage folder."""


def path(relative: str) -> Path:
    """The file at a path under the storage folder, links resolved.

    Raises:
        OutsideStorage: if it is not under that folder.
    """
    root = get_settings().storage_root
    found = (root / relative).resolve()
    if not found.is_relative_to(root):
        raise OutsideStorage(f"{relative!r} leaves the storage folder")
    return found


def create(relative: str) -> Path:
    """As `path`, with the folders above it made."""
    found = path(relative)
    found.parent.mkdir(parents=True, exist_ok=True)
    return found
