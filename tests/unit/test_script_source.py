"""What is sent to Redis as a script: functions that cost nothing until they are called, and keys in place."""

from pathlib import Path

import pytest

from app.redis import script_source
from app.redis.scripts import Script

LIBRARY = """-- A library.
local LIMIT, WORD = 3, 'QUEUES'
local NAMES = { a = true }
local function inner(id) return NAMES[id] and job_key(id) end
local function outer(id) return inner(id) or registry_key('wip', id .. 'x') end
local function shared(id) return LIMIT end
local function unneeded(id) return id end
"""
SCRIPT = """-- A script.
-- args: id count?
-- rest: words
-- uses: library
return { outer(id), shared(count), ARGV[WORDS], LIMIT, WORD, QUEUES, FIELDS, AT.b }
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(script_source, "FOLDER", tmp_path)
    script_source._source.cache_clear()
    script_source.header.cache_clear()
    (tmp_path / "library.lua").write_text(LIBRARY)
    (tmp_path / "script.lua").write_text(SCRIPT)
    yield tmp_path
    script_source._source.cache_clear()
    script_source.header.cache_clear()


def lines(script: Script) -> list[str]:
    return [line.strip() for line in script.text.splitlines() if line.strip()]


def test_a_script_is_put_together(folder: Path) -> None:
    assert lines(Script("script", FIELDS=["one", "two"], AT={"a": 1, "b": 2})) == [
        "local id, count = ARGV[1], ARGV[2]",
        "local function outer(id)",
        "local function inner(id)",
        "local NAMES = { a = true }",
        "return NAMES[id] and ('rq:job:' .. id) end",
        "return inner(id) or ('rq:wip:' .. (id .. 'x')) end",
        "local function shared(id) return 3 end",
        "return { outer(id), shared(count), ARGV[3], 3, 'QUEUES', 'rq:queues', 'one', 'two', 2 }",
    ]


@pytest.mark.parametrize(
    ("library", "args"),
    [("", "shared"), ("local function of(shared) return outer(shared) end\n", "id")],
    ids=["of the script", "of a function"],
)
def test_no_parameter_hides_a_function(folder: Path, library: str, args: str) -> None:
    (folder / "library.lua").write_text(LIBRARY + library)
    (folder / "script.lua").write_text(f"-- args: {args}\n-- uses: library\nreturn {{ of(id), shared(id) }}\n")
    with pytest.raises(ValueError, match="script: a parameter has the name of a function: shared"):
        _ = Script("script").text


def test_a_key_of_a_call_inside_of_a_call(folder: Path) -> None:
    (folder / "script.lua").write_text("-- args: id\nreturn limit_key(string.sub(job_key(id), 2, 3), 'held')\n")
    [_, line] = lines(Script("script"))
    assert line == "return ('jobline:limit:' .. (string.sub(('rq:job:' .. id), 2, 3)) .. ':held')"


@pytest.mark.parametrize("name", script_source.names())
def test_no_script_hides_or_repeats_a_function(name: str) -> None:
    assert script_source.assemble(name, (), {})


def test_a_name_that_two_libraries_define_is_refused() -> None:
    with pytest.raises(ValueError, match=r"defined twice: one"):
        script_source._check_names("script", ["local function one() end\n", "local function one() end\n"], set())
