"""A replacement for the network in tests: it receives the requests and mail that would leave this process.

`outbound.Client.ask` and `mail.send`, the only ways out, both check `stand_in` first. Production never sets it.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from email.message import EmailMessage

    from urllib3 import BaseHTTPResponse
    from urllib3.util import Url


class Network(Protocol):
    """Receives requests and mail that would leave this process."""

    def request(
        self, target: "Url", allowed_by: str, method: str, body: bytes | None, headers: Mapping[str, str]
    ) -> "BaseHTTPResponse | None":
        """Answer a request as `outbound.Client.ask` does, or raise. None lets it through to the network."""

    def mail(self, message: "EmailMessage", to: list[str]) -> None:
        """Receive a message for the recipients `to`."""


stand_in: Network | None = None


@contextmanager
def replaced_by(network: Network) -> Iterator[None]:
    """Make `network` receive everything that would leave this process, in all threads."""
    global stand_in
    outer, stand_in = stand_in, network
    try:
        yield
    finally:
        stand_in = outer
