"""Clean up storage."""

import os
import stat
import time
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from app import Discard, job
from app.author import progress, storage


@job(timeout=3600)
def clean(
    folder: str, older_than: Annotated[float, Field(ge=0)], pattern: str = "*", dry_run: bool = False
) -> dict[str, Any]:
    """Delete the files in a folder of storage ("." is all of it) that have not changed for `older_than` seconds.

    `pattern` is matched with the file's name, as in `*.pdf`. Links are neither followed nor deleted. Folders that
    become empty are deleted too, except `folder` itself. With `dry_run` nothing is deleted, only counted.

    Returns:
        {"files": int, "bytes": int, "folders": int, "dry_run": bool}

    Raises:
        Discard: there is no such folder in storage.
    """
    try:
        root = storage.path(folder)
    except storage.OutsideStorage as error:
        raise Discard(str(error)) from None
    if not root.is_dir():
        raise Discard(f"No folder {folder!r} in storage")
    before = time.time() - older_than
    emptied: set[str] = set()
    files = size = 0
    # All names are relative to an open folder: replacing one by a link meanwhile has no effect.
    for here, folders, names, handle in os.fwalk(root, topdown=False, follow_symlinks=False):
        gone = {name for name in folders if str(Path(here, name)) in emptied}
        if not dry_run:
            for name in gone:
                with suppress(OSError):  # not empty any more
                    os.rmdir(name, dir_fd=handle)
        for name in names:
            if not fnmatchcase(name, pattern):
                continue
            with suppress(FileNotFoundError):
                status = os.stat(name, dir_fd=handle, follow_symlinks=False)
                if stat.S_ISREG(status.st_mode) and status.st_mtime <= before:
                    if not dry_run:
                        os.unlink(name, dir_fd=handle)
                    gone.add(name)
                    files, size = files + 1, size + status.st_size
                    progress.update(files, message="cleaning")
        if gone and gone == {*folders, *names} and Path(here) != root:
            emptied.add(here)
    return {"files": files, "bytes": size, "folders": len(emptied), "dry_run": dry_run}
