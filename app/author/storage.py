"""The storage folder, where jobs read and write files: closed to other users, and limited by STORAGE_LIMIT."""

import os
from pathlib import Path

from app.settings import get_settings


class OutsideStorage(ValueError):
    """A path that is outside the storage folder, or is the folder itself."""


class StorageFull(OSError):
    """The files in storage would exceed STORAGE_LIMIT."""


def path(relative: str) -> Path:
    """Resolve a path relative to the storage folder, following links.

    Raises:
        OutsideStorage: it is outside the folder.
    """
    root = get_settings().storage_root
    file = (root / relative).resolve()
    if not file.is_relative_to(root):
        raise OutsideStorage(f"{relative!r} leaves the storage folder")
    return file


def create(relative: str) -> Path:
    """Resolve the path of a file to write, and create the folders above it.

    Raises:
        OutsideStorage: it is outside the folder, or is the folder itself.
    """
    root, file = get_settings().storage_root, path(relative)
    if file == root:
        raise OutsideStorage(f"{relative!r} is the storage folder, not a file in it")
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return file


def check_limit() -> None:
    """Raise StorageFull if all files in storage, including unfinished ones, exceed STORAGE_LIMIT."""
    limit, used = get_settings().storage_limit, _size(get_settings().storage_root)
    if used > limit:
        raise StorageFull(f"the files in storage are {used} bytes, STORAGE_LIMIT is {limit}")


def _size(folder: Path) -> int:
    """Return the total bytes of all files below a folder. Links are not followed."""
    sizes = 0
    for directory, _, names in os.walk(folder):
        for name in names:
            try:
                sizes += os.lstat(os.path.join(directory, name)).st_size  # noqa: PTH118 - pathlib takes three times as long
            except FileNotFoundError:
                continue  # removed meanwhile
    return sizes
