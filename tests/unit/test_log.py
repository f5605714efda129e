"""Every line of log has one shape, ours and the libraries'."""

import io
import json
import logging
import logging.config
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from app import log
from app.settings import Settings


@pytest.fixture
def _root_logger_kept() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


@pytest.mark.usefixtures("_root_logger_kept")
def test_a_librarys_line_is_json_without_what_it_adds() -> None:
    config, out = log.dict_config(Settings(log_format="json")), io.StringIO()
    config["handlers"]["out"]["stream"] = out
    logging.config.dictConfig(config)
    logging.config.dictConfig(config)
    logging.getLogger("rq.worker").warning("took %s", "a job", extra={"arguments": "hunter2"})
    (line,) = map(json.loads, out.getvalue().splitlines())
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "took a job", "level": "warning", "logger": "rq.worker"}


@pytest.mark.usefixtures("_root_logger_kept")
@pytest.mark.parametrize(
    ("shape", "terminal", "is_json"),
    [("auto", True, False), ("auto", False, True), ("json", True, True), ("console", False, False)],
)
def test_lines_are_for_people_on_a_terminal_and_json_elsewhere_if_nothing_else_is_said(
    monkeypatch: pytest.MonkeyPatch, shape: Any, terminal: bool, is_json: bool
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    config, out = log.dict_config(Settings(log_format=shape)), io.StringIO()
    config["handlers"]["out"]["stream"] = out
    logging.config.dictConfig(config)
    logging.getLogger("rq.worker").warning("took a job")
    assert "took a job" in out.getvalue()
    assert out.getvalue().startswith("{") is is_json


@pytest.mark.usefixtures("_root_logger_kept")
def test_no_text_of_a_job_acts_on_the_terminal_or_looks_like_a_line_of_the_log(
    capfd: pytest.CaptureFixture[str],
) -> None:
    evil = "x\x1b[2J\r\x9b31m\n2027-01-01T00:00:00Z [info] all is well \u202etxt\tend"
    config, librarys = log.dict_config(Settings(log_format="console")), io.StringIO()
    config["handlers"]["out"]["stream"] = librarys
    logging.config.dictConfig(config)
    ours = structlog.wrap_logger(log.Output(), processors=structlog.get_config()["processors"])
    try:
        raise ValueError(evil)
    except ValueError:
        ours.exception(evil, name=evil)
        logging.getLogger("rq.worker").exception(evil)
    lines = capfd.readouterr().out.split("\n") + librarys.getvalue().split("\n")
    assert not set("\x1b\r\x9b\u202e") & set("".join(lines))
    assert [line[:4] for line in lines if "all is well" in line] == ["    "] * 4
    assert any(r"\x1b[2J\r\x9b31m" in line for line in lines)
    assert any(r"\u202etxt" in line and "\tend" in line for line in lines)


@pytest.mark.usefixtures("_root_logger_kept")
@pytest.mark.parametrize(("level", "shown"), [("INFO", ["started"]), ("DEBUG", ["routine", "started"])])
def test_routine_lines_of_libraries_are_shown_for_debugging_only(level: Any, shown: list[str]) -> None:
    config, out = log.dict_config(Settings(log_format="json", log_level=level)), io.StringIO()
    config["handlers"]["out"]["stream"] = out
    logging.config.dictConfig(config)
    for text in log.ROUTINE:
        logging.getLogger("rq.worker").warning(f"{text} %s", "routine")
    logging.getLogger("rq.worker").warning("started")
    events = [json.loads(line)["event"] for line in out.getvalue().splitlines()]
    assert events == [f"{text} routine" for text in log.ROUTINE if "routine" in shown] + ["started"]


class Unshowable:
    def __repr__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize("shape", ["json", "console"])
@pytest.mark.parametrize(
    "value", [2**70, "\ud800", Unshowable(), {1: Unshowable()}, float("nan")],
    ids=["large number", "half a character", "no repr", "no repr within", "no number"],
)  # fmt: skip
def test_no_value_of_a_line_raises_where_it_is_logged(shape: Any, value: object) -> None:
    config = log.dict_config(Settings(log_format=shape))
    event: Any = {"event": "said", "value": value}
    for processor in config["formatters"]["jobline"]["processors"][1:]:
        event = processor(None, "info", event)
    assert "said" in event
    assert log._encode(None, "info", event)
