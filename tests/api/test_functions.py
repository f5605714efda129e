"""/functions, whatever an author has written: a function is there or set aside with the reason, and nothing fails."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fakeredis
import pytest
from flask.testing import FlaskClient
from openapi_spec_validator import OpenAPIV31SpecValidator

from app.api.application import create_app
from app.catalog.catalog import Catalog
from app.cli import functions
from app.settings import Settings

FUNCTIONS = "/api/v1/functions"
USABLE = {
    "plain": "def odd(a: int = 1): ...",
    "no_hints": "def odd(*args, **kwargs): ...",
    "a_lambda": "odd = lambda a=1: a",
    "a_generator": "def odd(a: int = 1) -> typing.Iterator[int]:\n    yield a",
    "an_async_function": "async def odd(a: int = 1) -> int: ...",
    "an_async_generator": "async def odd(a: int = 1) -> typing.AsyncIterator[int]:\n    yield a",
    "wrapped": "@functools.wraps(json.dumps)\ndef odd(a: int = 1): ...\nodd.__module__ = __name__\ndel odd.__wrapped__",
    "decorated": """
def shout(call):
    @functools.wraps(call)
    def inner(*args, **kwargs):
        return call(*args, **kwargs)
    return inner

@shout
def odd(a: int = 1) -> int: ...
""",
    "a_context_manager": "@contextlib.contextmanager\ndef odd(a: int = 1):\n    yield a",
    "a_default_without_json_form": "def odd(a=object(), b=json, c=int, d=lambda: 1): ...",
    "a_default_beyond_64_bits": "def odd(a: int = 2**70): ...",
    "a_default_that_is_not_a_number": "def odd(a: float = float('nan'), b: float = float('-inf')): ...",
    "a_default_that_is_no_text": "def odd(a: str = '\\ud800', b: bytes = b'\\xff', c: dict = {'\\ud800': {1: 2}}): ...",
    "a_default_that_refuses": """
class Refuses:
    def __repr__(self): raise RuntimeError
    __str__ = __eq__ = __hash__ = __deepcopy__ = __repr__

def odd(a=Refuses()): ...
""",
    "a_default_that_does_not_fit": "def odd(a: int = 'x'): ...",
    "a_huge_docstring": "def odd(a: int = 1): ...\nodd.__doc__ = 'x' * 2_000_000",
    "a_docstring_that_is_no_text": "def odd(a: int = 1): ...\nodd.__doc__ = 'x\\ud800\\x00'",
    "a_docstring_that_is_a_number": "def odd(a: int = 1): ...\nodd.__doc__ = 5",
    "a_docstring_of_markup": 'def odd(a: int = 1):\n    "<script>alert(1)</script>\\x1b[31m"',
    "a_result_of_any_class": "def odd(a: int = 1) -> sqlite3.Connection: ...",
    "a_result_of_a_typed_dict": "class Row(typing.TypedDict):\n    x: int\n\ndef odd(a: int = 1) -> Row: ...",
    "a_result_that_is_a_sentence": "def odd(a: int = 1) -> 5: ...",
    "unions_and_models": """
class Cat(pydantic.BaseModel):
    kind: typing.Literal["cat"]
    friend: "Cat | Dog | None" = None

class Dog(pydantic.BaseModel):
    kind: typing.Literal["dog"]

Cat.model_rebuild()

def odd(pet: typing.Annotated[Cat | Dog, pydantic.Field(discriminator="kind")] = Dog(kind="dog")) -> Cat: ...
""",
    "names_of_json_schema": "def odd(type: int = 1, properties: str = '', default: None = None, enum: list = []): ...",
    "a_name_in_another_script": "class Maß(pydantic.BaseModel): ...\n\ndef größe(ä: Maß = 1): ...\n\nodd = größe",
    "positional_only": "def odd(a: int = 1, /, *, b: typing.Callable = print, c: typing.Any = None): ...",
    "a_validator_that_fails": """
def broken(value):
    raise RuntimeError("\\ud800")

def odd(a: typing.Annotated[int, pydantic.AfterValidator(broken)] = 1): ...
""",
    "a_key_of_a_default": """
@app.job(unique=app.Unique(by=("a",)), concurrency=app.Limit(1, key="{a}"))
def odd(a=object()): ...
""",
    "a_default_with_numbers_as_keys": "@app.job(unique=app.Unique())\ndef odd(a={1: 2, None: {3}}): ...",
}
SET_ASIDE = {
    "typing_only": (
        "if typing.TYPE_CHECKING:\n    from shop import Order\n\ndef odd(order: 'Order'): ...",
        "the annotation 'Order' of parameter order cannot be read: name 'Order' is not defined "
        "(is it imported under TYPE_CHECKING alone?)",
    ),
    "typing_only_result": ("def odd() -> 'Order': ...", "the annotation 'Order' of the return value cannot be read"),
    "a_pattern_that_is_none": (
        "def odd(a: typing.Annotated[str, pydantic.Field(pattern='(')]): ...",
        "parameter a: SchemaError: Error building",
    ),
    "a_note": ("def odd(a: 'the first number'): ...", "the annotation 'the first number' of parameter a"),
    "an_annotation_that_fails": ("def odd(a: '1 / 0'): ...", "ZeroDivisionError"),
    "any_class": (
        "def odd(connection: sqlite3.Connection): ...",
        "parameter connection: no argument can be made from JSON for sqlite3.Connection",
    ),
    "a_number": ("def odd(a: 5): ...", "parameter a: no argument can be made from JSON for 5"),
    "a_module": ("def odd(a: json): ...", "parameter a: "),
    "a_typed_dict": (
        "class Row(typing.TypedDict):\n    x: int\n\ndef odd(row: Row): ...",
        "parameter row: on Python 3.11 a TypedDict comes from typing_extensions",
    ),
    "an_unfinished_model": (
        "class Row(pydantic.BaseModel):\n    x: 'Later'\n\ndef odd(row: Row): ...",
        "parameter row: ",
    ),
    "a_strange_type": (
        """
class Strange:
    @classmethod
    def __get_pydantic_core_schema__(cls, source, handler): raise RuntimeError("\\ud800")

def odd(a: Strange): ...
""",
        "parameter a: RuntimeError: \\ud800",
    ),
    "two_kinds_of_errors": ("@app.job(queue='my queue')\ndef odd(a: 'Order'): ...", "queue='my queue': a queue's name"),
    "wrong_options": ("@app.job(timeout='soon', colour=1)\ndef odd(): ...", "1h30m\"; there is no option colour"),
    "a_signature_that_is_none": ("def odd(): ...\nodd.__signature__ = 5", "unexpected object 5"),
    "annotations_that_are_none": ("def odd(a): ...\nodd.__annotations__ = {'a': 'x y'}", "the annotation 'x y'"),
    "it_wraps_itself": ("def odd(): ...\nodd.__wrapped__ = odd", "wrapper loop"),
    "with_options_it_wraps_itself": ("@app.job(queue='low')\ndef odd(): ...\nodd.__wrapped__ = odd", "wrapper loop"),
    "a_class": ("@app.job\nclass odd: ...", "@job is for plain functions, and this is a class"),
    "a_partial": ("odd = app.job(queue='low')(functools.partial(print))", "this is a partial"),
    "a_builtin": ("odd = app.job(queue='low')(len)", "this is a partial"),
    "cached": ("@app.job\n@functools.cache\ndef odd(): ...", "this is a _lru_cache_wrapper"),
    "wrapped_without_wraps": (
        "odd = lambda *args: print(*args)\nodd.__module__ = 'other'\nodd = app.job(odd)",
        "it is wrapped by a function of other that does not use functools.wraps",
    ),
}  # fmt: skip
HEAD = "import contextlib, functools, json, sqlite3, typing\nimport pydantic\nimport app\n"


@pytest.fixture
def client(package: Path) -> Iterator[FlaskClient]:
    for name, source in USABLE.items():
        (package / f"{name}.py").write_text(HEAD + source + "\n\ndef good(a: int) -> int: ...\n")
    for name, (source, _) in SET_ASIDE.items():
        (package / f"{name}.py").write_text(HEAD + source + "\n\ndef good(a: int) -> int: ...\n")
    (package / "leaves.py").write_text("raise SystemExit(2)")
    (package / "fails.py").write_text("class Mute(Exception):\n    def __str__(self): raise self\n\nraise Mute")
    return create_app(Settings(), fakeredis.FakeRedis(), Catalog()).test_client()


def test_no_function_takes_another_down(client: FlaskClient) -> None:
    found = client.get(FUNCTIONS)
    assert found.status_code == 200
    names = {one["name"] for one in found.get_json()["functions"]}
    assert {f"{name}.odd" for name in USABLE} <= names
    assert {f"{name}.good" for name in (*USABLE, *SET_ASIDE)} <= names
    assert not {f"{name}.odd" for name in SET_ASIDE} & names
    assert {one["name"] for one in found.get_json()["rejected"]} == {f"{name}.odd" for name in SET_ASIDE}
    assert found.get_json()["broken"] == {"leaves": "SystemExit: 2", "fails": "Mute: <Mute>"}


@pytest.mark.parametrize("name", USABLE)
def test_a_usable_function_is_shown_and_called(
    client: FlaskClient, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = client.get(f"{FUNCTIONS}/{name}.odd")
    assert shown.status_code == 200
    functions._print_function(shown.get_json())
    capsys.readouterr()
    bodies: list[Any] = [{}, {"a": 1}, {"a": {"b": None}}, {"nothing": 1}, [], None]
    statuses = [client.post(f"{FUNCTIONS}/{name}.odd/jobs", json=body).status_code for body in bodies]
    statuses += [
        client.post("/api/v1/jobs", json={"function": f"{name}.odd", "args": args}).status_code
        for args in ([], [1], ["x", {}], [1] * 9)
    ]
    assert set(statuses) <= {200, 202, 415, 422}
    assert set(statuses) & {200, 202} or name == "a_validator_that_fails"


@pytest.mark.parametrize("name", SET_ASIDE)
def test_a_function_is_set_aside_with_its_place_and_the_reason(client: FlaskClient, name: str) -> None:
    reason = SET_ASIDE[name][1]
    [rejected] = [one for one in client.get(FUNCTIONS).get_json()["rejected"] if one["name"] == f"{name}.odd"]
    assert rejected["file"] == f"sample/{name}.py"
    assert 3 < rejected["line"] < 12
    assert rejected["reason"].count(reason) == 1
    answers = [
        client.get(f"{FUNCTIONS}/{name}.odd"),
        client.post(f"{FUNCTIONS}/{name}.odd/jobs", json={}),
        client.post("/api/v1/jobs", json={"function": f"{name}.odd"}),
    ]
    assert [answer.status_code for answer in answers] == [404, 404, 422]
    place = f"sample/{name}.py:{rejected['line']}: "
    assert all(place in answer.get_json()["detail"] and reason in answer.get_json()["detail"] for answer in answers)


def test_what_is_set_aside_is_in_readyz_the_log_and_on_the_command_line(
    client: FlaskClient, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    ready = client.get("/readyz")
    assert (ready.status_code, ready.get_json()["status"]) == (200, "degraded")
    listed = client.get(FUNCTIONS).get_json()
    functions._print_functions(listed)
    told = capsys.readouterr().err
    for one in listed["rejected"]:
        place = f"{one['file']}:{one['line']}: "
        assert ready.get_json()["rejected_functions"][one["name"]] == place + one["reason"]
        assert f"function {one['name']} is set aside: {place}" in caplog.text
        assert f"{one['name']} is set aside: {place}" in told


def test_the_document_holds_what_can_be_called(client: FlaskClient) -> None:
    spec = client.get("/openapi.json").get_json()
    assert list(OpenAPIV31SpecValidator(spec).iter_errors()) == []
    assert '"#/$defs/' not in str(spec).replace("'", '"')
    for name in USABLE:
        assert f"{FUNCTIONS}/{name}.odd/jobs" in spec["paths"]
    assert f"{FUNCTIONS}/any_class.odd/jobs" not in spec["paths"]


def test_options_are_shown_by_their_names_old_and_new(package: Path) -> None:
    source = "import app\n\n@app.job(retry=3, unique=app.Unique(('a',), ttl='1h'), breaker=app.Breaker(2, '1m'))\n"
    (package / "one.py").write_text(source + "def act(a: int) -> None: ...\n")
    client = create_app(Settings(), fakeredis.FakeRedis(), Catalog()).test_client()
    options = client.get(f"{FUNCTIONS}/one.act").get_json()["options"]
    assert options["max_retries"] == 3
    assert options["breaker"] == {"failures": 2, "window": 60, "cool_down": 60}
    assert options["unique"] == {
        "by": ["a"], "during": "queued_or_running", "ttl": 3600, "lasts": 3600, "on_conflict": "return",
    }  # fmt: skip


def test_a_mended_function_is_there_again(package: Path) -> None:
    module = package / "one.py"
    module.write_text("from app import job\n\n@job(timeout=-1)\ndef act() -> None: ...\n")
    client = create_app(Settings(), fakeredis.FakeRedis(), Catalog(reload=True)).test_client()
    assert client.post(f"{FUNCTIONS}/one.act/jobs", json={}).status_code == 404
    module.write_text("from app import job\n\n@job(timeout='10m')\ndef act() -> None: ...\n")
    job = client.post(f"{FUNCTIONS}/one.act/jobs", json={}).get_json()
    assert job["timeout"] == 600
    assert client.get("/readyz").get_json()["status"] == "ok"
