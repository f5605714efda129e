"""A real HTTP server that receives webhooks, and misbehaves as its paths say."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks import Webhook

SECRET = "whsec_" + "QUJD" * 8
OTHER_SECRET = "whsec_" + "WFla" * 8


@dataclass
class Received:
    path: str
    headers: dict[str, str]
    body: bytes

    def verified(self, secret: str = SECRET) -> Any:
        """The message, if the official library takes its signature."""
        return Webhook(secret).verify(self.body, self.headers)


@dataclass
class Receiver:
    """/status/N answers N; /busy/N/S adds Retry-After; /to/URL redirects; /hang and /drip do not come to an end; /giant
    sends a body without end; all else answers 204."""

    port: int = 0
    received: list[Received] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)
    sent: int = 0
    """Bytes of the giant body."""
    broken: int = 0
    """How often the other side has gone before the answer was over."""

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def at(self, path: str) -> list[Received]:
        return [one for one in self.received if one.path == path]


@contextmanager
def listening() -> Iterator[Receiver]:
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # noqa: N802, RUF100
            self.do_POST()

        def do_POST(self) -> None:  # noqa: N802, RUF100
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            receiver.received.append(Received(self.path, dict(self.headers), body))
            _, kind, *rest = self.path.split("/", 2)
            try:
                getattr(self, f"answer_{kind}", self.answer_status)(*rest)
            except OSError:
                receiver.broken += 1
                self.close_connection = True

        def answer_status(self, status: str = "204", **headers: str) -> None:
            self.send_response(int(status))
            for name, value in {"Content-Length": "0", **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()

        def answer_ok(self, *_: str) -> None:
            self.answer_status()

        def answer_busy(self, rest: str) -> None:
            status, wait = rest.split("/")
            self.answer_status(status, Retry_After=wait.replace("+", " "))

        def answer_to(self, url: str) -> None:
            self.answer_status("307", Location=url)

        def answer_hang(self) -> None:
            receiver.released.wait(60)

        def answer_drip(self) -> None:
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            while not receiver.released.wait(0.1):
                self.wfile.write(b"x")

        def answer_giant(self) -> None:
            self.send_response(200)
            self.end_headers()
            while not receiver.released.is_set():
                receiver.sent += self.wfile.write(b"x" * 65536)

        def log_message(self, *words: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield receiver
        receiver.released.set()
        server.shutdown()
        thread.join()
