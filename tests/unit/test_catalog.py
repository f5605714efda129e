"""What the catalogue finds, and how it checks arguments."""

import importlib
import sys
from pathlib import Path

import pytest

from app.catalog.catalog import Catalog
from app.errors import Invalid, NotFound

MODULE = '''
"""A module."""
import enum
from os.path import join
from typing import Literal
from typing_extensions import TypedDict

class Size(enum.Enum):
    big = "big"

class Point(TypedDict):
    x: int

def public(a: int, /, b: Literal["x", "y"] = "x", *rest: int, size: Size = Size.big, at: Point | None = None) -> int:
    """What it does."""

def free(anything, **more: int): ...

def _private(): ...
'''


@pytest.fixture
def package(package: Path) -> Path:
    (package / "one.py").write_text(MODULE)
    return package


def test_public_functions_defined_in_a_module_are_found(package: Path) -> None:
    assert sorted(Catalog().refresh().functions) == ["one.free", "one.public"]


def test_a_broken_module_is_named_and_takes_no_other_down(package: Path) -> None:
    (package / "two.py").write_text("import nothing_like_it")
    found = Catalog().refresh()
    assert sorted(found.functions) == ["one.free", "one.public"]
    assert "nothing_like_it" in found.broken["two"]
    with pytest.raises(NotFound, match="does not import"):
        found.get("two.anything")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("import sys; sys.exit('no')", "SystemExit: no"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("def f(:", "SyntaxError"),
        ("raise RuntimeError('\\udcff')", "RuntimeError"),
    ],
)
def test_whatever_a_module_does_when_it_is_imported_the_others_are_found(
    package: Path, source: str, reason: str
) -> None:
    (package / "bad.py").write_text(source)
    found = Catalog().refresh()
    assert sorted(found.functions) == ["one.free", "one.public"]
    assert found.broken["bad"].startswith(reason)


def test_a_new_function_is_there_at_once(package: Path) -> None:
    found = Catalog(reload=True).refresh()
    (package / "two.py").write_text("def fresh() -> None: ...")
    assert found.get("two.fresh").name == "two.fresh"


def test_a_changed_file_is_imported_anew_with_all_that_uses_it(package: Path) -> None:
    (package / "_rate.py").write_text("VAT = 19")
    (package / "two.py").write_text("from sample._rate import VAT\ndef vat() -> int: return VAT")
    (package / "three.py").write_text("from sample import _rate\ndef vat() -> int: return _rate.VAT")
    found = Catalog(reload=True).refresh()
    assert [found.get(name).call() for name in ("two.vat", "three.vat")] == [19, 19]
    (package / "_rate.py").write_text("VAT = 7  # since then")
    assert [found.get(name).call() for name in ("two.vat", "three.vat")] == [7, 7]


DECORATOR = """
import functools

def logged(call):
    @functools.wraps(call)
    def inner(*args): return call(*args)
    return inner
"""


def test_a_function_inside_a_decorator_is_shown_where_it_is_written(package: Path) -> None:
    (package / "_tools.py").write_text(DECORATOR)
    (package / "two.py").write_text("from sample._tools import logged\n\n@logged\ndef odd(a: 5): ...\n")
    rejected = Catalog().refresh().rejected["two.odd"]
    assert (rejected.file, rejected.line) == ("sample/two.py", 3)


def test_what_is_imported_already_is_not_imported_again(package: Path) -> None:
    module = importlib.import_module("sample.one")
    for reload in (False, True):
        assert Catalog(reload).get("one.public").call is module.public
    assert sys.modules["sample.one"] is module


def test_schema_and_description_come_from_hints_and_docstring(package: Path) -> None:
    function = Catalog().get("one.public")
    assert function.description == "What it does."
    assert function.schema["required"] == ["a"]
    assert function.schema["additionalProperties"] is False
    assert function.schema["properties"]["b"]["enum"] == ["x", "y"]
    assert function.schema["properties"]["rest"] == {"items": {"type": "integer"}, "title": "Rest", "type": "array"}
    assert Catalog().get("one.free").schema.get("additionalProperties") is not False


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"a": 1}, ([1], {})),
        ({"a": 1, "b": "y", "size": "big"}, ([1], {"b": "y", "size": "big"})),
        ({"a": 1, "rest": [2, 3]}, ([1, "x", 2, 3], {})),
        ({"a": 1, "b": "y", "rest": [2]}, ([1, "y", 2], {})),
    ],
)
def test_arguments_by_name(package: Path, body: dict[str, object], expected: object) -> None:
    assert Catalog().get("one.public").from_body(body) == expected


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "#/a"),
        ({"a": "x"}, "#/a"),
        ({"a": 1, "b": "z"}, "#/b"),
        ({"a": 1, "rest": ["x"]}, "#/rest/0"),
        ({"a": 1, "rest": 5}, "#/rest"),
        ({"a": 1, "at": {"x": "y"}}, "#/at/x"),
        ({"a": 1, "c": 1}, "#/c"),
    ],
)
def test_bad_arguments_by_name(package: Path, body: dict[str, object], pointer: str) -> None:
    with pytest.raises(Invalid) as caught:
        Catalog().get("one.public").from_body(body)
    assert [error["pointer"] for error in caught.value.errors or []] == [pointer]


@pytest.mark.parametrize(
    ("body", "missing"),
    [
        ({"second": 2, "rest": [3]}, ["#/first"]),
        ({"first": 1, "rest": [3]}, ["#/second"]),
        ({"rest": [3, 4]}, ["#/first", "#/second"]),
    ],
)
def test_no_other_argument_takes_the_place_of_one_that_is_missing(
    package: Path, body: dict[str, object], missing: list[str]
) -> None:
    (package / "two.py").write_text("def total(first: int, second: int, *rest: int) -> None: ...")
    function = Catalog().get("two.total")
    assert function.from_body({"first": 1, "second": 2, "rest": [3]}) == ([1, 2, 3], {})
    with pytest.raises(Invalid) as caught:
        function.from_body(body)
    errors = [{"detail": "Missing required argument", "pointer": pointer} for pointer in missing]
    assert caught.value.errors == errors
