"""Every line of log has one shape, ours and the libraries'."""

import io
import json
import logging
import logging.config
from collections.abc import Iterator

import pytest

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
