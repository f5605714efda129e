"""Captures what jobs log and print, for their logs. It also goes where it goes without this module."""

import contextlib
import logging
import re
import sys
from collections.abc import Iterator
from typing import Any, TextIO
from urllib.parse import urlsplit

from pydantic import SecretStr

from app import log
from app.settings import Settings
from app.worker.reporter import Reporter

OWN_LOGGERS = ("jobline", "rq")
MIN_SECRET_LENGTH = 4
MASK = "***"


@contextlib.contextmanager
def captured(reporter: Reporter, settings: Settings) -> Iterator[None]:
    """Capture log records of `logging` and structlog, and what is written to sys.stdout and sys.stderr."""
    if not settings.job_log:
        yield
        return
    mask = _masking(settings)
    handler = _Handler(lambda source, level, text: reporter.log(source, level, mask(text)))
    streams = sys.stdout, sys.stderr
    logging.getLogger().addHandler(handler)
    log.job_log = handler.keep
    sys.stdout, sys.stderr = (
        _Tee(stream, lambda text, name=name: reporter.print(name, mask(text)))
        for name, stream in zip(("stdout", "stderr"), streams, strict=True)
    )
    try:
        yield
    finally:
        sys.stdout, sys.stderr = streams
        log.job_log = None
        logging.getLogger().removeHandler(handler)


class _Handler(logging.Handler):
    """Gives each record to `keep`, but those of Jobline and RQ."""

    def __init__(self, keep: log.JobLog) -> None:
        super().__init__()
        self.keep = keep

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.partition(".")[0] not in OWN_LOGGERS:
            try:
                self.keep(record.name, record.levelname.lower(), self.format(record))
            except Exception:
                self.handleError(record)


class _Tee:
    """A text stream that also gives what is written to `keep`."""

    def __init__(self, stream: TextIO, keep: Any) -> None:
        self._stream, self._keep = stream, keep

    def write(self, text: str) -> int:
        written = self._stream.write(text)
        self._keep(text)
        return written

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._stream)


def _masking(settings: Settings) -> Any:
    """A function that replaces the secrets of the settings in a text."""
    secrets = set[str]()
    for value in dict(settings).values():
        if isinstance(value, SecretStr):
            text = value.get_secret_value()
            secrets |= {text, *re.split(r"[\s,]+", text)}
            with contextlib.suppress(ValueError):
                secrets.add(urlsplit(text).password or "")
    long_enough = sorted((secret for secret in secrets if len(secret) >= MIN_SECRET_LENGTH), key=len, reverse=True)
    if not long_enough:
        return lambda text: text
    pattern = re.compile("|".join(map(re.escape, long_enough)))
    return lambda text: pattern.sub(MASK, text)
