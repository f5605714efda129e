"""Logging in one format for Jobline and libraries: JSON, or coloured text on a terminal.

Jobline's events are written by structlog directly, because a worker writes one for each job. Those of libraries go
through the logging module.
"""

import contextlib
import json
import logging
import logging.config
import os
import re
import sys
from collections.abc import Callable
from io import StringIO
from typing import Any, TextIO

import orjson
import structlog

from app.author import place
from app.settings import Settings

STDOUT_FD = 1
CONTROL_CHARACTERS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""Characters that affect a terminal: control codes except the tab, line separators, changes of text direction."""
LINE_INDENT = "\n    "
ROUTINE = (
    "Configuration allows spawning up to",  # granian, of the number of threads that we chose
    "Registering birth", "Registering death",  # rq-scheduler
    ": subscribing to channel", ": unsubscribing from channel", ": cleaning registries for queue",  # RQ
)  # fmt: skip
"""Lines of libraries that tell an operator nothing; LOG_LEVEL=DEBUG shows them."""

JobLog = Callable[[str, str | None, str], None]
"""Takes the source (such as the name of a logger), the level and the text of a line."""
job_log: JobLog | None = None
"""Keeps lines for the log of the job that runs in this place; None where no jobs run."""
fields_by_place: dict[int, dict[str, Any]] = {}
"""Maps each place to the fields that are added to the events of its job; {} while none runs there."""


def job_fields() -> dict[str, Any]:
    """The fields of the job that runs in this place."""
    return fields_by_place.get(place.current.get(), {})


class Output:
    """Output of structlog: writes each line unbuffered, and ignores errors of writing."""

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.is_own = name.startswith("jobline")

    def msg(self, line: bytes) -> None:
        with contextlib.suppress(OSError):
            os.write(STDOUT_FD, line + b"\n")

    debug = info = warning = error = critical = exception = msg


def configure(settings: Settings) -> None:
    logging.config.dictConfig(dict_config(settings))


def dict_config(settings: Settings) -> dict[str, Any]:
    """Configure structlog, and return the configuration of logging: RQ takes it as DICT_CONFIG."""
    as_json = settings.log_format == "json" or (settings.log_format == "auto" and not sys.stdout.isatty())
    # Fields that a library adds with `extra` are left out: RQ puts a failed job's arguments there.
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        _add_context,
        _keep_for_job,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    shape: list[Any] = (
        [structlog.processors.format_exc_info, _as_json]
        if as_json
        else [
            _printable,
            _never_raising(
                structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty(), exception_formatter=_print_traceback),
            ),
        ]
    )
    structlog.configure(
        processors=[*shared, *shape, _encode],
        logger_factory=Output,
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, settings.log_level)),
        cache_logger_on_first_use=True,
    )
    formatter = {
        "()": structlog.stdlib.ProcessorFormatter,
        "foreign_pre_chain": shared,
        "processors": [structlog.stdlib.ProcessorFormatter.remove_processors_meta, *shape],
    }
    handler = {
        "class": "logging.StreamHandler",
        "stream": "ext://sys.stdout",
        "formatter": "jobline",
        "filters": [] if settings.log_level == "DEBUG" else [_is_not_routine],
    }
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"jobline": formatter},
        "handlers": {"out": handler},
        "root": {"handlers": ["out"], "level": settings.log_level},
        "loggers": {
            "_granian": {"level": settings.log_level, "handlers": [], "propagate": True},
            "granian.access": {"level": "WARNING", "handlers": [], "propagate": True},
        },
    }


def _is_not_routine(record: logging.LogRecord) -> bool:
    return not (isinstance(record.msg, str) and any(text in record.msg for text in ROUTINE))


def _add_context(_: Any, __: str, event: Any) -> Any:
    fields = job_fields()
    return fields | event if fields else event


def _keep_for_job(logger: Any, level: str, event: Any) -> Any:
    """Keep an event of a job's own logger in the job's log. Jobline's events are not the job's."""
    if job_log is not None and not getattr(logger, "is_own", True):  # `logging` has a handler of its own
        own = {key: value for key, value in event.items() if key not in job_fields()}
        text = str(own.pop("event", ""))
        job_log(
            logger.name or "structlog",
            level,
            " ".join([text, *(f"{key}={safe_repr(value)}" for key, value in own.items())]),
        )
    return event


def _printable(_: Any, __: str, event: Any) -> Any:
    """Escape control characters, so that text of a job can neither control the terminal nor forge a log line."""
    return {name: _escaped(value) if isinstance(value, str) else value for name, value in event.items()}


def _print_traceback(output: TextIO, exc_info: Any) -> None:
    buffer = StringIO()
    structlog.dev.plain_traceback(buffer, exc_info)
    output.write(LINE_INDENT.lstrip("\n") + _escaped(buffer.getvalue()))


def _escaped(text: str) -> str:
    return CONTROL_CHARACTERS.sub(
        lambda match: LINE_INDENT if match[0] == "\n" else match[0].encode("unicode_escape").decode(), text
    )


def safe_repr(value: object) -> str:
    """Return the repr of a job's value, whose __repr__ may fail."""
    try:
        return repr(value)
    except Exception as error:
        return f"<{type(value).__name__}, whose repr raises {type(error).__name__}>"


def _as_json(_: Any, __: str, event: Any) -> str:
    try:
        return orjson.dumps(event, default=safe_repr, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:  # a number or text that orjson rejects
        return json.dumps({str(name): safe_repr(value) for name, value in event.items()})


def _never_raising(render: Any) -> Any:
    """Wrap a renderer: an event that it cannot render becomes a line that says so."""

    def processor(logger: Any, name: str, event: Any) -> Any:
        shown = dict(event)
        try:
            return render(logger, name, event)
        except Exception as error:
            return f"{shown.get('event')} (its fields cannot be rendered: {type(error).__name__})"

    return processor


def _encode(_: Any, __: str, line: Any) -> bytes:
    return str(line).encode(errors="replace")
