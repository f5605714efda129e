"""Old files in real folders."""

import os
import time
from pathlib import Path

import pytest

from app import Discard
from app.catalog.function_options import options_of
from jobs.maintenance import clean

HOUR = 3600


def make(file: Path, hours: float) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("1234")
    os.utime(file, (time.time() - hours * HOUR,) * 2)
    return file


def names(folder: Path) -> list[str]:
    return sorted(str(found.relative_to(folder)) for found in folder.rglob("*"))


def test_old_files_and_the_folders_they_leave_empty_go(storage: Path) -> None:
    make(storage / "out" / "a" / "b" / "old.txt", 3)
    make(storage / "out" / "c" / "old.txt", 3)
    make(storage / "out" / "c" / "new.txt", 1)
    make(storage / "else.txt", 3)
    (storage / "out" / "was empty").mkdir()
    expected = {"files": 2, "bytes": 8, "folders": 2}
    before = names(storage)
    assert clean("out", 2 * HOUR, dry_run=True) == {**expected, "dry_run": True}
    assert names(storage) == before
    assert clean("out", 2 * HOUR) == {**expected, "dry_run": False}
    assert names(storage) == ["else.txt", "out", "out/c", "out/c/new.txt", "out/was empty"]


def test_only_names_that_match(storage: Path) -> None:
    make(storage / "a.pdf", 3)
    make(storage / "a.csv", 3)
    assert clean(".", HOUR, "*.pdf")["files"] == 1
    assert names(storage) == ["a.csv"]


def test_links_are_left_alone(storage: Path, tmp_path: Path) -> None:
    outside = make(tmp_path / "outside" / "keep.txt", 3)
    (storage / "folder").symlink_to(outside.parent)
    (storage / "file").symlink_to(outside)
    assert clean(".", 0)["files"] == 0
    assert outside.exists()
    with pytest.raises(Discard, match="leaves"):
        clean("folder", 0)


@pytest.mark.parametrize("folder", ["..", "/", "none", "a/../.."])
def test_a_folder_outside_storage_is_refused(folder: str) -> None:
    with pytest.raises(Discard, match="storage"):
        clean(folder, 0)


def test_the_folder_itself_stays(storage: Path) -> None:
    make(storage / "out" / "a.txt", 3)
    assert clean("out", 0)["folders"] == 0
    assert (storage / "out").is_dir()


def test_it_may_take_an_hour() -> None:
    assert options_of(clean).timeout == HOUR
