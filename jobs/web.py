"""Fetch from the public web, never from private networks."""

from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urljoin

from pydantic import AnyHttpUrl, Field

from app import Context, Discard, Retry, job, on_start, on_stop
from app.author import outbound, progress
from jobs._files import replacing, target

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

REDIRECT_STATUSES = (301, 302, 303, 307, 308)
MAX_REDIRECTS = 5
TRANSIENT_STATUSES = (408, 425, 429)
RETURNED_HEADERS = ("content-type", "last-modified", "etag", "date")
CHUNK_BYTES = 64 * 1024
MAX_BYTES = 1024**3


@on_start
def open_client(context: Context) -> None:
    context.web = outbound.Client("FETCH_ALLOW_HOSTS")


@on_stop
def close_client(context: Context) -> None:
    context.web.close()


@job(timeout=600, retry=Retry(max=5, initial=2, on=(OSError,)))
def fetch(
    url: AnyHttpUrl,
    timeout: Annotated[float, Field(gt=0, le=300)] = 10,
    max_bytes: Annotated[int, Field(gt=0, le=MAX_BYTES)] = 10_000_000,
    save_as: str | None = None,
    *,
    context: Context,
) -> dict[str, Any]:
    """GET a URL, and return its text, or save it at a path in storage (better for more than a few kB).

    `timeout` is seconds to connect, and between two parts of the response. At most 5 redirects are followed. Addresses
    that are not public are refused, also after a redirect, except for the hosts in FETCH_ALLOW_HOSTS. Failures to
    connect, broken responses, 408, 425, 429 and 5xx are retried.

    Returns:
        {"status": int, "url": the last one, "headers": {name: value}, "bytes": int, "text": str | null,
        "path": str | null}

    Raises:
        Discard: a refused address, any other 4xx, more than `max_bytes`, too many redirects, or untrusted TLS.
    """
    from urllib3 import exceptions

    file = target(save_as) if save_as is not None else None
    try:
        final_url, response = _get(context.web, str(url), timeout)
        try:
            parts = _limited(response, max_bytes)
            if file is None:
                body = b"".join(parts)
                size, text = len(body), _decoded(body, response.headers.get("content-type", ""))
            else:
                with replacing(file) as partial, partial.open("wb") as output:
                    size, text = sum(output.write(part) for part in parts), None
        finally:
            response.close()
    except exceptions.SSLError as error:
        raise Discard(f"TLS failed: {error}") from None
    except exceptions.HTTPError as error:
        raise ConnectionError(f"{type(error).__name__}: {error}") from error
    headers = {name: response.headers[name] for name in RETURNED_HEADERS if name in response.headers}
    return {
        "status": response.status,
        "url": final_url,
        "headers": headers,
        "bytes": size,
        "text": text,
        "path": save_as,
    }


def _get(client: outbound.Client, url: str, timeout: float) -> tuple[str, "BaseHTTPResponse"]:
    """Follow redirects. Returns the final URL, and its response with the body unread."""
    for _ in range(MAX_REDIRECTS + 1):
        response = client.ask(outbound.parsed(url), timeout)
        location = response.headers.get("location")
        if response.status in REDIRECT_STATUSES and location:
            response.close()
            url = urljoin(url, location)
            continue
        if response.status >= 400:
            response.close()
            if response.status >= 500 or response.status in TRANSIENT_STATUSES:
                raise ConnectionError(f"{url} answered {response.status}")
            raise Discard(f"{url} answered {response.status}")
        return url, response
    raise Discard(f"More than {MAX_REDIRECTS} redirects, the last one to {url}")


def _limited(response: "BaseHTTPResponse", max_bytes: int) -> Any:
    """Yield the body in parts. Raises Discard as soon as it is too large."""
    size, total = 0, response.headers.get("content-length", "")
    for part in response.stream(CHUNK_BYTES):
        size += len(part)
        if size > max_bytes:
            raise Discard(f"The answer is larger than {max_bytes} bytes")
        progress.update(size, int(total) if total.isdigit() else None, "receiving")
        yield part


def _decoded(body: bytes, content_type: str) -> str:
    _, _, charset = content_type.partition("charset=")
    try:
        return body.decode(charset.partition(";")[0].strip("\"' ") or "utf-8", errors="replace")
    except LookupError:
        return body.decode(errors="replace")
