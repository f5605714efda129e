"""Fetching from the web, never from inside the network."""

from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urljoin

from pydantic import AnyHttpUrl, Field

from app import Discard, Retry, job
from app.author import outbound, progress
from jobs._files import replacing, target

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse, HTTPConnectionPool

REDIRECTS = (301, 302, 303, 307, 308)
REDIRECT_LIMIT = 5
TRANSIENT = (408, 425, 429)
HEADERS = ("content-type", "last-modified", "etag", "date")
CHUNK = 64 * 1024
MAX_BYTES = 1024**3


@job(timeout=600, retry=Retry(max=5, initial=2, on=(OSError,)))
def fetch(
    url: AnyHttpUrl,
    timeout: Annotated[float, Field(gt=0, le=300)] = 10,
    max_bytes: Annotated[int, Field(gt=0, le=MAX_BYTES)] = 10_000_000,
    save_as: str | None = None,
) -> dict[str, Any]:
    """GET a URL, and return its text, or save it under a path of storage (better for more than a few kB).

    `timeout` is seconds to connect, and between two parts of the answer. At most 5 redirects are followed. Addresses
    that are not public are refused, also behind a redirect, but for the hosts in FETCH_ALLOW_HOSTS. Failures to
    connect, broken answers, 408, 425, 429 and 5xx are retried.

    Returns:
        {"status": int, "url": the last one, "headers": {name: value}, "bytes": int, "text": str | null,
        "path": str | null}

    Raises:
        Discard: for a refused address, any other 4xx, more than `max_bytes`, too many redirects, untrusted TLS.
    """
    from urllib3 import exceptions

    file = target(save_as) if save_as is not None else None
    try:
        place, pool, response = _get(str(url), timeout)
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
            pool.close()
    except exceptions.SSLError as error:
        raise Discard(f"TLS failed: {error}") from None
    except exceptions.HTTPError as error:
        raise ConnectionError(f"{type(error).__name__}: {error}") from error
    headers = {name: response.headers[name] for name in HEADERS if name in response.headers}
    return {"status": response.status, "url": place, "headers": headers, "bytes": size, "text": text, "path": save_as}


def _get(url: str, timeout: float) -> tuple[str, "HTTPConnectionPool", "BaseHTTPResponse"]:
    """The last answer of a chain of redirects, body unread, and the URL it came from."""
    for _ in range(REDIRECT_LIMIT + 1):
        place = outbound.parsed(url)
        pool, response = outbound.ask(place, timeout, "FETCH_ALLOW_HOSTS")
        location = response.headers.get("location")
        if response.status in REDIRECTS and location:
            response.close()
            pool.close()
            url = urljoin(url, location)
            continue
        if response.status >= 400:
            response.close()
            pool.close()
            if response.status >= 500 or response.status in TRANSIENT:
                raise ConnectionError(f"{url} answered {response.status}")
            raise Discard(f"{url} answered {response.status}")
        return url, pool, response
    raise Discard(f"More than {REDIRECT_LIMIT} redirects, the last one to {url}")


def _limited(response: "BaseHTTPResponse", max_bytes: int) -> Any:
    """The body in parts. Raises Discard once it is too large, before the rest is read."""
    size, total = 0, response.headers.get("content-length", "")
    for part in response.stream(CHUNK):
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
