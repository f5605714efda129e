"""A client of the HTTP API: one request at a time, with an exit code for each kind of failure.

The API key comes from the environment or a file, never from the command line, where other users see it. It is never
printed.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import click
import orjson
import urllib3
from urllib3.exceptions import HTTPError, LocationParseError
from urllib3.util import Timeout, parse_url

from app.cli.output import one_line
from app.settings import get_settings

EXIT_REFUSED, EXIT_UNREACHABLE = 3, 4
CONNECT_TIMEOUT, READ_TIMEOUT = 5.0, 30.0  # seconds
EVENT_STREAM = "text/event-stream"
KEY_VARIABLE = "JOBLINE_API_KEY"


class CommandFailed(click.ClickException):
    """The command failed: click prints the message on stderr and exits with `exit_code`."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # click reads it from the instance, and types it as the class's


class ApiUnavailable(CommandFailed):
    """The API answers, but cannot serve the request now: 503 or 429."""


@dataclass(frozen=True)
class ApiResponse:
    """An answer: its JSON as text and parsed; "" and None for one without a body."""

    text: str
    json: Any


class Client:
    """A client of the API at one URL. `timeout`, in seconds, replaces the default timeouts."""

    def __init__(self, url: str | None, key_file: str | None, timeout: float | None = None) -> None:
        """Raises click.UsageError: the URL or the API key is invalid."""
        self.base = _base(url or get_settings().url)
        self._headers = {"Accept": "application/json", **_authorization(key_file)}
        self._timeout = timeout
        self._pool = urllib3.PoolManager(retries=False)  # neither retries nor follows redirects

    def call(
        self,
        method: str,
        *path: str,
        query: dict[str, Any] | None = None,
        body: Any = None,
        wait: int = 0,
    ) -> ApiResponse:
        """Send a request to `path` below /api/v1. The API may wait `wait` seconds for the job's end.

        Raises:
            CommandFailed: the API refused the request, or cannot be reached.
        """
        headers = {"Prefer": f"wait={wait}"} if wait else {}
        if body is not None:
            headers["Content-Type"] = "application/json"
        content = None if body is None else orjson.dumps(body)
        with self._request(method, path, query, content, headers, READ_TIMEOUT + wait) as response:
            return self._decode(response.status, response.read())

    def stream(self, *path: str, query: dict[str, Any] | None = None, last_id: str = "") -> Iterator[bytes]:
        """The chunks of an event stream after the event `last_id`, until the API ends it with 204.

        Raises:
            CommandFailed: as `call`, or the connection was lost.
            ApiUnavailable: the API cannot serve the stream now.
        """
        headers = {"Accept": EVENT_STREAM, **({"Last-Event-ID": last_id} if last_id else {})}
        with self._request("GET", path, query, None, headers, READ_TIMEOUT) as response:
            if response.status == 204:
                return
            if response.status != 200:
                self._decode(response.status, response.read())
            if not response.headers.get("Content-Type", "").startswith(EVENT_STREAM):
                raise self._not_jobline()
            while chunk := response.read1():
                yield chunk
            raise CommandFailed(f"{self.base} closed the event stream", EXIT_UNREACHABLE)

    @contextmanager
    def _request(
        self,
        method: str,
        path: Sequence[str],
        query: dict[str, Any] | None,
        body: bytes | None,
        headers: dict[str, str],
        read_timeout: float,
    ) -> Iterator[urllib3.BaseHTTPResponse]:
        """Send a request and yield its unread response. Raises CommandFailed when the connection fails, also later."""
        url = "/".join([self.base, "api/v1", *(quote(part, safe="") for part in path)])
        parameters = {name: value for name, value in (query or {}).items() if value is not None}
        try:
            with self._pool.request(
                method,
                f"{url}?{urlencode(parameters)}" if parameters else url,
                body=body,
                headers={**self._headers, **headers},
                timeout=Timeout(connect=self._timeout or CONNECT_TIMEOUT, read=self._timeout or read_timeout),
                preload_content=False,
            ) as response:
                yield response
        except HTTPError as error:
            raise CommandFailed(f"{self.base} does not answer ({type(error).__name__})", EXIT_UNREACHABLE) from None

    def _decode(self, status: int, data: bytes) -> ApiResponse:
        try:
            value = orjson.loads(data) if data else None
        except ValueError:
            value = None
        message = _format_problem(value) or f"{self.base} answers {status}"
        if status >= 500:
            raise (ApiUnavailable if status == 503 else CommandFailed)(message, EXIT_UNREACHABLE)
        if status >= 400:
            raise (ApiUnavailable if status == 429 else CommandFailed)(message, EXIT_REFUSED)
        if status >= 300 or (data and value is None):
            raise self._not_jobline()
        return ApiResponse(data.decode(), value)

    def _not_jobline(self) -> CommandFailed:
        return CommandFailed(f"{self.base} is not the API of Jobline", EXIT_UNREACHABLE)


def _base(url: str) -> str:
    try:
        parsed = parse_url(url)
    except LocationParseError:
        parsed = None
    if not parsed or parsed.scheme not in ("http", "https") or not parsed.host or parsed.auth:
        raise click.UsageError("JOBLINE_URL, or --url, must be like http://127.0.0.1:8000, without user and password")
    return url.rstrip("/")


def _authorization(key_file: str | None) -> dict[str, str]:
    try:
        key = Path(key_file).read_text().strip() if key_file else os.environ.get(KEY_VARIABLE, "").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise click.UsageError(f"the key file cannot be read: {type(error).__name__}") from None
    if not key and key_file:
        raise click.UsageError("the key file is empty")
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise click.UsageError(f"{KEY_VARIABLE}, or the key file, does not hold an API key")
    return {"Authorization": f"Bearer {key}"} if key else {}


def _format_problem(problem: Any) -> str:
    """An RFC 9457 problem as text: its detail, and a line for each error. "" for other values."""
    if not isinstance(problem, dict) or "detail" not in problem:
        return ""
    errors = problem.get("errors") or []
    return "\n".join(
        one_line(line) for line in [problem["detail"], *(f"  {e['pointer']}: {e['detail']}" for e in errors)]
    )
