"""A replacement for the network, for tests: it takes the requests and mail that would leave this process.

`outbound.ask` and `mail.send` are the ways out, and both look here first. Production never sets `stand_in`.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from email.message import EmailMessage

    from urllib3 import BaseHTTPResponse, HTTPConnectionPool
    from urllib3.util import Url


class Network(Protocol):
    """Takes what would leave the process."""

    def request(
        self, target: "Url", allowed_by: str, method: str, body: bytes | None, headers: Mapping[str, str]
    ) -> "tuple[HTTPConnectionPool, BaseHTTPResponse] | None":
        """Answer a request as `outbound.ask` does, or raise; None lets it out."""

    def mail(self, message: "EmailMessage", to: list[str]) -> None:
        """Take a message for these recipients."""


stand_in: Network | None = None


@contextmanager
def replaced_by(network: Network) -> Iterator[None]:
    """Have `network` take everything that would leave this process, in all its threads."""
    global stand_in
    outer, stand_in = stand_in, network
    try:
        yield
    finally:
        stand_in = outer
