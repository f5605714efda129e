"""Clients that wait for the end of one job, and clients that follow its events: open connections that do nothing."""

import selectors
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

WAIT = "Prefer: wait=30\r\n"
ENDED = (b'"canceled"', b"event: end")
"""What the last answer to a client that waits has in it, and the last event of a stream."""


@dataclass
class Client:
    """One connection, and what has come through it so far."""

    line: socket.socket
    end: bytes
    heard: bytes = b""

    @property
    def welcome(self) -> bool:
        """Whether it was answered with 200; a client that waits is answered at the end only."""
        return b" 200 " in self.heard.partition(b"\r\n")[0]

    @property
    def refused(self) -> bool:
        """Whether it was answered with anything else."""
        return b"\r\n" in self.heard and not self.welcome

    @property
    def told(self) -> bool:
        """Whether it knows that the job has ended."""
        return self.welcome and self.end in self.heard


@dataclass(frozen=True)
class Crowd:
    """All of them; none reads but in `listen`."""

    waiting: Sequence[Client]
    following: Sequence[Client]

    def listen(self, seconds: float) -> float:
        """Until each is told or refused, or so many seconds have passed; how many it took."""
        begin, clients = time.monotonic(), [*self.waiting, *self.following]
        with selectors.DefaultSelector() as selector:
            for client in clients:
                selector.register(client.line, selectors.EVENT_READ, client)
            while not all(one.told or one.refused for one in clients) and time.monotonic() - begin < seconds:
                for key, _ in selector.select(0.1):
                    data = _read(key.data.line)
                    key.data.heard += data
                    if not data:
                        selector.unregister(key.data.line)
        return time.monotonic() - begin


@contextmanager
def gathered(port: int, key: str, job_id: str, count: int) -> Iterator[Crowd]:
    """`count` clients that wait for a job, and as many that follow it."""
    with ExitStack() as stack:

        def come(path: str, end: bytes, header: str = "") -> Client:
            line = stack.enter_context(socket.create_connection(("127.0.0.1", port), 10))
            said = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n{header}\r\n"
            line.sendall(said.encode())
            return Client(line, end)

        place = f"/api/v1/jobs/{job_id}"
        yield Crowd(
            [come(place, ENDED[0], WAIT) for _ in range(count)],
            [come(f"{place}/events", ENDED[1]) for _ in range(count)],
        )


def _read(line: socket.socket) -> bytes:
    try:
        return line.recv(65_536)
    except OSError:
        return b""
