"""The real address and scheme of clients behind reverse proxies, from X-Forwarded-* headers of TRUSTED_PROXIES.

Any client can send these headers. They count only if the connection comes from a trusted proxy, and from a list of
addresses only the part that trusted proxies have added.
"""

import ipaddress
from collections.abc import Callable, Iterable, Sequence
from typing import Any

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Application = Callable[[dict[str, Any], Any], Iterable[bytes]]


def parse(text: str) -> list[Network]:
    """Parse comma-separated addresses and networks.

    Raises:
        ValueError: naming the invalid part.
    """
    return [ipaddress.ip_network(part.strip()) for part in text.split(",") if part.strip()]


class ForwardedClient:
    """WSGI middleware that sets REMOTE_ADDR and wsgi.url_scheme from the headers of trusted proxies."""

    def __init__(self, application: Application, trusted: Sequence[Network]) -> None:
        self.application, self.trusted = application, trusted

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        peer = _address(environ.get("REMOTE_ADDR", ""))
        if peer and self._trusts(peer):
            environ["REMOTE_ADDR"] = str(self._client(peer, environ.get("HTTP_X_FORWARDED_FOR", "")))
            if environ.get("HTTP_X_FORWARDED_PROTO") in ("http", "https"):
                environ["wsgi.url_scheme"] = environ["HTTP_X_FORWARDED_PROTO"]
        return self.application(environ, start_response)

    def _client(self, peer: Address, forwarded_for: str) -> Address:
        """The last address that is no trusted proxy. Each proxy appends the address of its client."""
        client = peer
        for part in reversed(forwarded_for.split(",")):
            address = _address(part)
            if address is None:
                break
            client = address
            if not self._trusts(address):
                break
        return client

    def _trusts(self, address: Address) -> bool:
        return any(address in network for network in self.trusted)


def _address(text: str) -> Address | None:
    try:
        address = ipaddress.ip_address(text.strip())
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
