"""The one folder that jobs read and write files in: closed to other users, and no larger than STORAGE_LIMIT."""

import os
from pathlib import Path

from app.settings import get_settings


class OutsideStorage(ValueError):
    """A path that leaves the storage folder, or names no file in it."""


class StorageFull(OSError):
    """The files in storage would exceed STORAGE_LIMIT."""


def path(relative: str) -> Path:
    """The file at a path under the storage folder, links resolved.

    Raises:
        OutsideStorage: if it is not under that folder.
    """
    root = get_settings().storage_root
    file = (root / relative).resolve()
    if not file.is_relative_to(root):
        raise OutsideStorage(f"{relative!r} leaves the storage folder")
    return file


def create(relative: str) -> Path:
    """The path of a file that may be written, with the folders above it made.

    Raises:
        OutsideStorage: if it is not under that folder, or is that folder.
    """
    root, file = get_settings().storage_root, path(relative)
    if file == root:
        raise OutsideStorage(f"{relative!r} names the storage folder, and no file in it")
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return file


def check_limit() -> None:
    """Raises StorageFull: all files in storage, those that are being written too, exceed STORAGE_LIMIT."""
    limit, used = get_settings().storage_limit, _size(get_settings().storage_root)
    if used > limit:
        raise StorageFull(f"the files in storage are {used} bytes, STORAGE_LIMIT is {limit}")


def _size(folder: Path) -> int:
    """Bytes of all files below a folder. Links are not followed."""
    sizes = 0
    for directory, _, names in os.walk(folder):
        for name in names:
            try:
                sizes += os.lstat(os.path.join(directory, name)).st_size  # noqa: PTH118 - pathlib takes thrice the time
            except FileNotFoundError:
                continue  # removed meanwhile
    return sizes
