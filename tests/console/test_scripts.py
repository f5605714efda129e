"""The parts of the console that compute something: JSON, texts, filters, and the check of arguments."""

from collections.abc import Callable, Iterator
from typing import Any

import fakeredis
import pytest

from app.settings import Settings
from tests.console.conftest import shown

pytestmark = pytest.mark.needs("browser")
Run = Callable[..., Any]
NUMBERS = ["9007199254740993", "-9223372036854775808", "18446744073709551615", "1.0", "-0", "1e400", "0.1", "12"]
HIDDEN = {"a\x1b[31mb": "a\\x1b[31mb", "a\u202eb": "a\\u202eb", "a\nb\tc": "a\nb\tc", "\x00": "\\x00", "plain": "plain"}
DURATIONS = {
    0: "0 s",
    0.00035: "350 µs",
    0.0123: "12.3 ms",
    1.5: "1.5 s",
    65: "1 min 5 s",
    3600: "1 h",
    90_000: "1 d 1 h",
}


@pytest.fixture(scope="module")
def run(browser: Any) -> Iterator[Run]:
    """Calls a function of a module of the console: run("lib/json.js", "parse", text)."""
    browser.execute_cdp_cmd("Page.enable", {})
    browser.execute_cdp_cmd("Page.setBypassCSP", {"enabled": True})
    with shown(browser, fakeredis.FakeRedis(), Settings()) as console:
        console.open("/audit")
        base = str(browser.execute_script("return document.querySelector('script[src$=\"app.js\"]').src")).removesuffix(
            "app.js"
        )

        def run(module: str, body: str, *arguments: Any) -> Any:
            script = f"""
                const done = [...arguments].at(-1), args = [...arguments].slice(0, -1)
                import('{base}{module}').then((module) => done({body}), (error) => done(String(error)))"""
            return browser.execute_async_script(script, *arguments)

        yield run


@pytest.mark.parametrize("number", NUMBERS)
def test_a_number_is_written_as_it_was_read(run: Run, number: str) -> None:
    text = f'{{"a":[{number},"{number}"],"n{number}":null}}'
    assert run("lib/json.js", "module.stringify(module.parse(args[0]))", text) == text


@pytest.mark.parametrize("text", ["", "01", "{", '{"a": 1,}', "NaN", "+1", "1.", "'a'"])
def test_what_is_no_json_is_refused(run: Run, text: str) -> None:
    body = "(() => { try { return String(module.parse(args[0])) } catch (error) { return error.name } })()"
    assert run("lib/json.js", body, text) == "SyntaxError"


def test_text_in_json_stays_text(run: Run) -> None:
    text = '{"a":"\\"12345678901234567890\\\\","__proto__":{"b":1}}'
    assert run("lib/json.js", "module.stringify(module.parse(args[0]))", text) == text


@pytest.mark.parametrize("text", HIDDEN)
def test_controls_are_shown_as_codes(run: Run, text: str) -> None:
    assert run("lib/format.js", "module.visible(args[0])", text) == HIDDEN[text]


@pytest.mark.parametrize("seconds", DURATIONS)
def test_durations(run: Run, seconds: float) -> None:
    assert run("lib/format.js", "module.duration(args[0])", seconds) == DURATIONS[seconds]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", {}),
        ("status:failed queue:low", {"status": "failed", "queue": "low"}),
        ('tag:"two words" some text', {"tag": "two words", "q": "some text"}),
        ("url:http://x", {"q": "url:http://x"}),
        ("error:jobs.a.Error since:2h", {"error": "jobs.a.Error", "since": "2h"}),
    ],
)
def test_a_filter_as_text(run: Run, text: str, found: dict[str, str]) -> None:
    assert run("lib/query.js", "module.readQuery(args[0])", text) == found
    again = run("lib/query.js", "module.readQuery(module.writeQuery(args[0]))", found)
    assert again == found


@pytest.mark.parametrize(
    ("schema", "value", "errors"),
    [
        ({"type": "integer", "minimum": 1}, 0, ["must be at least 1"]),
        ({"type": "integer"}, 1.5, ["must be an integer"]),
        ({"type": "string", "format": "email"}, "a@b", ["is no email address"]),
        ({"type": "string", "format": "date-time"}, "2026-01-01T00:00:00Z", []),
        ({"enum": ["a", "b"], "type": "string"}, "c", ["is none of the choices"]),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, None, []),
        ({"anyOf": [{"type": "string", "format": "email"}, {"type": "array", "items": {"type": "string"}}]}, ["a"], []),
        (
            {"type": "array", "items": {"$ref": "#/$defs/N"}, "$defs": {"N": {"type": "boolean"}}},
            [1],
            ["must be true or false"],
        ),
        ({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}, {}, ["is required"]),
        ({"type": "object", "properties": {}, "additionalProperties": False}, {"b": 1}, ["is not an argument"]),
        ({"type": "object", "additionalProperties": {"type": "string"}}, {"b": 1}, ["must be text"]),
    ],
)
def test_arguments_are_checked_by_their_schema(run: Run, schema: Any, value: Any, errors: list[str]) -> None:
    body = "module.errorsOf(args[1], args[0]).map((error) => error.message)"
    assert run("lib/form.js", body, schema, value) == errors
