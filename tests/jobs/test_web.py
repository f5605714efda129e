"""A real HTTP server that misbehaves, and addresses that must not be reached."""

import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from app import Discard
from app.author.outbound import _is_public
from app.catalog.function_options import options_of
from tests.jobs.bound import fetch

Serve = Callable[..., str]


class Handler(BaseHTTPRequestHandler):
    """/status/N answers N; /to/<url> redirects; /large never ends; /short breaks off; /odd names no known charset."""

    def do_GET(self) -> None:  # noqa: N802, RUF100
        _, kind, *rest = self.path.split("/", 2)
        if kind == "status":
            self.answer(int(rest[0]), b"")
        elif kind == "to":
            self.answer(302, b"", location=rest[0])
        elif kind == "loop":
            self.answer(302, b"", location="/loop")
        elif kind == "short":
            self.answer(200, b"half", content_length="8")
        elif kind == "large":
            self.send_response(200)
            self.end_headers()
            try:
                while True:
                    self.wfile.write(b"x" * 65536)
            except OSError:
                self.close_connection = True
        elif kind == "silent":
            self.server.released.wait(10)  # type: ignore[attr-defined]
        elif kind == "odd":
            self.answer(200, "Zoë ".encode() + b"\xff", content_type="text/plain; charset=klingon")
        else:
            self.answer(200, "Zoë at ".encode("latin-1") + self.headers["Host"].encode())

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {
            "content_type": "text/plain; charset=latin-1",
            "content_length": str(len(body)),
            **headers,
        }.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.released = threading.Event()  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.released.set()  # type: ignore[attr-defined]
        server.shutdown()
        thread.join()


@pytest.fixture
def base(server: ThreadingHTTPServer, setting: Callable[..., None]) -> str:
    """The server's address by an allowed name."""
    setting(FETCH_ALLOW_HOSTS="other.test, LocalHost")
    return f"http://localhost:{server.server_port}"


def retried(error: BaseException) -> bool:
    retry = options_of(fetch).retry
    assert retry
    return retry.retries(error)


def test_text(base: str) -> None:
    result = fetch(f"{base}/hello")
    host = base.removeprefix("http://")
    assert result["text"] == f"Zoë at {host}"
    assert (result["status"], result["url"], result["path"]) == (200, f"{base}/hello", None)
    assert result["headers"]["content-type"] == "text/plain; charset=latin-1"
    assert result["bytes"] == len(host) + 7


def test_text_in_no_known_charset_is_read_as_utf_8(base: str) -> None:
    assert fetch(f"{base}/odd")["text"] == "Zoë �"  # type: ignore[arg-type]


def test_saved(base: str, storage: Path) -> None:
    result = fetch(f"{base}/hello", save_as="web/hello.txt")
    assert (result["text"], result["path"]) == (None, "web/hello.txt")
    assert (storage / "web" / "hello.txt").stat().st_size == result["bytes"]


def test_https_by_name_on_the_checked_address(
    server: ThreadingHTTPServer, base: str, server_tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.socket = server_tls.wrap_socket(server.socket, server_side=True)
    url = base.replace("http:", "https:")
    assert fetch(f"{url}/hello")["status"] == 200
    with monkeypatch.context() as elsewhere:
        real = socket.getaddrinfo
        elsewhere.setattr(socket, "getaddrinfo", lambda host, *a, **k: real("127.0.0.1", *a, **k))
        with pytest.raises(Discard, match="TLS"):
            fetch(f"{url.replace('localhost', 'other.test')}/hello")
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(Discard, match="TLS"):
        fetch(f"{url}/hello")


@pytest.mark.parametrize("status", [400, 401, 404, 410])
def test_a_4xx_is_permanent(base: str, status: int) -> None:
    with pytest.raises(Discard, match=str(status)):
        fetch(f"{base}/status/{status}")


@pytest.mark.parametrize("path", ["status/408", "status/425", "status/429", "status/500", "status/503", "short"])
def test_a_transient_failure_is_retried(base: str, path: str) -> None:
    with pytest.raises(ConnectionError) as caught:
        fetch(f"{base}/{path}")
    assert retried(caught.value)


def test_a_timeout_is_retried(base: str) -> None:
    with pytest.raises(ConnectionError, match="ReadTimeout") as caught:
        fetch(f"{base}/silent", timeout=0.05)
    assert retried(caught.value)


def test_a_refused_connection_is_retried(base: str) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectionError) as caught:
            fetch(f"http://localhost:{unused.getsockname()[1]}/")
    assert retried(caught.value)


def test_too_much_is_refused_and_nothing_is_left(base: str, storage: Path) -> None:
    with pytest.raises(Discard, match="larger than 100000 bytes"):
        fetch(f"{base}/large", max_bytes=100_000, save_as="large")
    assert list(storage.iterdir()) == []


def test_redirects_are_followed(base: str) -> None:
    assert fetch(f"{base}/to//hello")["url"] == f"{base}/hello"
    with pytest.raises(Discard, match="redirects"):
        fetch(f"{base}/loop")


def test_a_redirect_to_a_private_address_is_refused(base: str) -> None:
    port = base.rpartition(":")[2]
    with pytest.raises(Discard, match="not on the public network"):
        fetch(f"{base}/to/http://127.0.0.1:{port}/hello")
    with pytest.raises(Discard, match="Only http"):
        fetch(f"{base}/to/file:///etc/passwd")


NOT_PUBLIC = [
    "127.0.0.1", "127.1", "2130706433", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254",
    "100.64.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "[::]", "[::1]", "[fe80::1]", "[fc00::1]",
    "[fec0::1]", "[ff02::1]", "[::ffff:127.0.0.1]", "[::ffff:10.0.0.1]", "[::127.0.0.1]", "[64:ff9b::7f00:1]",
    "[2002:7f00:1::]", "[2001::1]", "192.0.0.1", "192.0.0.170", "192.0.0.192", "192.88.99.1", "198.51.100.1",
    "100.100.100.200", "168.63.129.16", "[::ffff:168.63.129.16]", "[64:ff9b::a83f:8110]", "[2002:a83f:8110::]",
    "[fd00:ec2::254]", "[2001:db8::1]", "[2001:20::1]", "[2620:4f:8000::1]", "[64:ff9b:1::1]", "[3fff::1]",
    "[5f00::1]",
]  # fmt: skip


@pytest.mark.parametrize("host", NOT_PUBLIC)
def test_an_address_that_is_not_public_is_refused(host: str) -> None:
    with pytest.raises(Discard, match="public"):
        fetch(f"http://{host}/")


@pytest.mark.parametrize("host", NOT_PUBLIC)
def test_it_is_refused_whatever_this_version_of_python_calls_global(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in (ipaddress.IPv4Address, ipaddress.IPv6Address):
        monkeypatch.setattr(kind, "is_global", True)
    with pytest.raises(Discard, match="public"):
        fetch(f"http://{host}/")


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_a_public_address_is_not(address: str) -> None:
    assert _is_public(address)


def test_one_private_address_among_others_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80)) for address in ("8.8.8.8", "10.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: found)
    with pytest.raises(Discard, match="public"):
        fetch("http://example.com/")


def test_the_name_is_looked_up_once(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real, asked = socket.getaddrinfo, list[Any]()

    def look_up(host: Any, *args: Any, **options: Any) -> Any:
        asked.append(host)
        return real(host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    fetch(f"{base}/hello")
    assert asked.count("localhost") == 1


@pytest.mark.parametrize(
    "url", ["ftp://example.com/", "file:///etc/passwd", "http://user:word@example.com/", "http:///x"]
)
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(Discard):
        fetch(url)


def test_a_path_outside_storage_is_refused(base: str) -> None:
    with pytest.raises(Discard, match="storage"):
        fetch(f"{base}/hello", save_as="../hello")
