"""Real CSV files into a real database, and out again."""

import csv
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from app import Discard
from app.author import progress
from tests.jobs.bound import dump_csv, load_csv

HEADER = "name,city\n"


def query(storage: Path, sql: str) -> list[Any]:
    with closing(sqlite3.connect(storage.parent / "test.db")) as connection:
        return connection.execute(sql).fetchall()


@pytest.fixture
def reports() -> Iterator[list[dict[str, Any]]]:
    """What jobs say about their progress."""
    found: list[dict[str, Any]] = []
    progress.report_to(lambda *said: found.append(progress.report(*said) or {}))
    yield found
    progress.report_to(None)


def test_100_000_rows_twice_and_out_again(storage: Path, reports: list[dict[str, Any]]) -> None:
    lines = [f"name {n},city {n % 100}\n" for n in range(100_000)]
    (storage / "people.csv").write_text(HEADER + "".join(lines))
    assert load_csv("people.csv", "people") == {"rows": 100_000, "inserted": 100_000, "skipped": 0, "rejected": 0}
    assert reports[-1]["percent"] == 100
    assert load_csv("people.csv", "people") == {"rows": 100_000, "inserted": 0, "skipped": 100_000, "rejected": 0}
    result = dump_csv("people", "out/people.csv")
    file = storage / "out" / "people.csv"
    assert result == {"path": "out/people.csv", "rows": 100_000, "bytes": file.stat().st_size}
    assert sorted(file.read_text().splitlines()[1:]) == sorted(line.strip() for line in lines)
    assert [found.name for found in file.parent.iterdir()] == ["people.csv"]


def test_equal_rows_of_a_file_are_each_kept(storage: Path) -> None:
    (storage / "a.csv").write_text(HEADER + "Ann,Rome\nAnn,Rome\n")
    assert load_csv("a.csv", "people", batch=1)["inserted"] == 2
    (storage / "a.csv").write_text(HEADER + "Ann,Rome\nAnn,Rome\nAnn,Rome\n")
    assert load_csv("a.csv", "people") == {"rows": 3, "inserted": 1, "skipped": 2, "rejected": 0}


def test_a_load_that_broke_off_goes_on(storage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (storage / "a.csv").write_text(HEADER + "".join(f"{n},Rome\n" for n in range(10)))

    def break_off(current: float, total: float, message: str) -> None:
        raise RuntimeError("the power is out")

    with monkeypatch.context() as broken:
        broken.setattr(progress, "update", break_off)
        with pytest.raises(RuntimeError):
            load_csv("a.csv", "people", batch=4)
    assert load_csv("a.csv", "people", batch=4) == {"rows": 10, "inserted": 6, "skipped": 4, "rejected": 0}


def test_bad_rows_are_kept_once_with_line_and_reason(storage: Path) -> None:
    long = b"x" * (csv.field_size_limit() + 1)
    content = (
        b"\xef\xbb\xbfname,city\nAnn,Rome\nonly\n\nB\xe9a,Oslo\n"
        + long
        + b",Rome\na\0b,Rome\n"
        + '"Zoë\nline",X\n'.encode()
    )
    (storage / "a.csv").write_bytes(content)
    for inserted in (2, 0):
        result = load_csv("a.csv", "people")
        assert result == {"rows": 6, "inserted": inserted, "skipped": 2 - inserted, "rejected": 4}
        assert query(storage, "SELECT line, reason, content FROM people_rejected ORDER BY line") == [
            ("3", "1 fields, not 2", "only"),
            ("5", "not UTF-8", "B\\xe9a,Oslo"),
            ("6", "field larger than field limit (131072)", ""),
            ("7", "has a NUL character", "a\\0b,Rome"),
        ]
    assert query(storage, "SELECT name FROM people ORDER BY name") == [("Ann",), ("Zoë\nline",)]


@pytest.mark.parametrize("table", ["", "a b", "1a", "people; DROP TABLE x", 'x"', "é", "a" * 51, "a\n"])
def test_a_table_name_must_be_plain(storage: Path, table: str) -> None:
    (storage / "a.csv").write_text(HEADER)
    with pytest.raises(Discard, match="Table"):
        load_csv("a.csv", table)
    with pytest.raises(Discard, match="Table"):
        dump_csv(table, "out.csv")


@pytest.mark.parametrize("header", ["", "a b,c\n", "a,\n", "a,A\n", "a,row_key\n", 'a,"x""y"\n'])
def test_a_header_must_be_plain_names(storage: Path, header: str) -> None:
    (storage / "a.csv").write_text(header)
    with pytest.raises(Discard):
        load_csv("a.csv", "people")


def test_a_table_with_other_columns_is_left_alone(storage: Path) -> None:
    (storage / "a.csv").write_text(HEADER + "Ann,Rome\n")
    (storage / "b.csv").write_text("name,age\nAnn,3\n")
    load_csv("a.csv", "people")
    with pytest.raises(Discard, match="has the columns"):
        load_csv("b.csv", "people")


@pytest.mark.parametrize("path", ["none.csv", "../a.csv", "/etc/passwd"])
def test_a_file_outside_storage_is_refused(path: str) -> None:
    with pytest.raises(Discard, match="storage"):
        load_csv(path, "people")


@pytest.fixture
def people(storage: Path) -> None:
    (storage / "a.csv").write_text(HEADER + "=1+1,Rome\nBob,Oslo\n-5,Oslo\n")
    load_csv("a.csv", "people")


def lines(storage: Path) -> list[str]:
    return sorted((storage / "out.csv").read_text().splitlines())


def test_columns_and_conditions(people: None, storage: Path) -> None:
    assert dump_csv("people", "out.csv", ["city", "name"], {"city": "Oslo"})["rows"] == 2
    assert lines(storage) == ["Oslo,-5", "Oslo,Bob", "city,name"]


def test_a_value_is_never_sql(people: None, storage: Path) -> None:
    assert dump_csv("people", "out.csv", where={"city": "' OR 1=1 --"})["rows"] == 0


def test_formulas_are_disarmed_only_if_asked(people: None, storage: Path) -> None:
    dump_csv("people", "out.csv", ["name"])
    assert lines(storage) == ["-5", "=1+1", "Bob", "name"]
    dump_csv("people", "out.csv", ["name"], spreadsheet_safe=True)
    assert lines(storage) == ["'-5", "'=1+1", "Bob", "name"]


@pytest.mark.parametrize("wrong", [{"columns": ["name, city"]}, {"where": {"1=1; --": "x"}}, {"path": "../x.csv"}])
def test_what_is_not_there_is_refused(people: None, storage: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(Discard):
        dump_csv("people", **{"path": "out.csv", **wrong})
    assert [found.name for found in storage.iterdir()] == ["a.csv"]


def test_no_table(storage: Path) -> None:
    with pytest.raises(Discard, match="no table 'nothing'"):
        dump_csv("nothing", "out.csv")
