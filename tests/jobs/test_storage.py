"""The storage folder: what is written in it stays in it, is closed to others, and is bounded."""

from collections.abc import Callable
from pathlib import Path

import pytest

from app import Discard, get_settings
from app.author import storage as files
from jobs._database import Database
from jobs._files import replacing, target


@pytest.fixture
def missing(storage: Path) -> Path:
    """The storage folder, which is not there yet."""
    storage.rmdir()
    return storage


@pytest.mark.parametrize("path", ["", ".", "./", "a/..", "..", "../other", "/etc/passwd"])
def test_a_path_that_names_no_file_in_it_is_refused_before_anything_is_made(missing: Path, path: str) -> None:
    with pytest.raises(Discard, match="storage folder"):
        target(path)
    assert not missing.exists()


def test_a_folder_beside_it_whose_name_begins_alike_is_refused(storage: Path) -> None:
    beside = storage.with_name(f"{storage.name}-other")
    beside.mkdir()
    (storage / "link").symlink_to(beside)
    for path in (f"../{beside.name}/file", "link/file"):
        with pytest.raises(files.OutsideStorage):
            files.path(path)


@pytest.mark.parametrize("path", ["a/b", "a/b/c"])
def test_a_path_below_a_file_is_refused(storage: Path, path: str) -> None:
    (storage / "a").write_text("a file")
    with pytest.raises(Discard, match="below a file"):
        target(path)


def test_its_folders_are_closed_to_other_users(missing: Path) -> None:
    with replacing(target("reports/one.txt")) as partial:
        partial.write_text("x")
    assert [oct(folder.stat().st_mode & 0o777) for folder in (missing, missing / "reports")] == ["0o700", "0o700"]


def test_the_default_database_is_closed_to_other_users(
    tmp_path: Path, setting: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DATABASE_URL")
    folder = tmp_path / "data"
    setting(DATA_DIR=str(folder))
    with Database().engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE one (text)")
    assert [oct(path.stat().st_mode & 0o777) for path in (folder, folder / "jobline.db")] == ["0o700", "0o600"]
    with Database().engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO one VALUES ('kept')")


def test_a_file_that_would_exceed_the_limit_is_not_kept(storage: Path, setting: Callable[..., None]) -> None:
    setting(STORAGE_LIMIT="1000")
    (storage / "old").write_bytes(b"x" * 600)
    with replacing(target("fits")) as partial:
        partial.write_bytes(b"x" * 400)
    (storage / "fits").unlink()
    with (
        pytest.raises(Discard, match="the files in storage are 1001 bytes, STORAGE_LIMIT is 1000"),
        replacing(target("a/new")) as partial,
    ):
        partial.write_bytes(b"x" * 401)
    assert sorted(path.name for path in storage.rglob("*") if path.is_file()) == ["old"]


def test_nothing_is_begun_where_there_is_no_room(storage: Path, setting: Callable[..., None]) -> None:
    setting(STORAGE_LIMIT="10")
    (storage / "old").write_bytes(b"x" * 11)
    begun = []
    with pytest.raises(Discard, match="STORAGE_LIMIT"), replacing(target("new")) as partial:
        begun.append(partial)
    assert begun == []


def test_a_link_out_of_it_counts_as_a_link(storage: Path, tmp_path: Path, setting: Callable[..., None]) -> None:
    setting(STORAGE_LIMIT="500")
    (tmp_path / "large").write_bytes(b"x" * 1000)
    (storage / "link").symlink_to(tmp_path / "large")
    files.check_limit()


def test_what_is_fetched_has_a_ceiling() -> None:
    from app.catalog.catalog import Catalog

    schema = Catalog().get("web.fetch").schema
    assert schema["properties"]["max_bytes"]["maximum"] == 1024**3
    assert get_settings().storage_limit == 10 * 1024**3
