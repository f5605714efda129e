"""HTTP requests that cannot reach private networks: the address is checked, and the checked address is connected to."""

import ipaddress
import socket
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING

from app.author import network
from app.author.options import Discard
from app.settings import get_settings
from app.webhooks import urls

if TYPE_CHECKING:
    import ssl

    from urllib3 import BaseHTTPResponse, HTTPConnectionPool, PoolManager
    from urllib3.util import Url

MAX_POOLS = 32  # hosts to which a client keeps connections open
GLOBAL_IPV6 = ipaddress.ip_network("2000::/3")
NAT64 = ipaddress.ip_network("64:ff9b::/96")
NOT_PUBLIC = [
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
        "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24",
        "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3", "2001::/23", "2001:db8::/32",
        "2620:4f:8000::/48", "3fff::/20",
        "168.63.129.16/32",  # Azure's platform services, which answer on every machine there
    )
]  # fmt: skip
"""The IANA special-purpose address registries. `is_global` alone differs between versions of Python."""


def parsed(url: str) -> "Url":
    """Parse an http or https URL. Raises Discard if it is not one."""
    try:
        return urls.parse_http_url(url)
    except ValueError as error:
        raise Discard(str(error)) from None


class Client:
    """An HTTP client that connects only to public addresses, and to the hosts that a setting lists.

    It keeps connections open for the next requests, is safe in threads, and is a context manager.
    """

    def __init__(self, allowed_by: str) -> None:
        """`allowed_by`: the setting that lists the hosts which may be private, such as FETCH_ALLOW_HOSTS."""
        self.allowed_by = allowed_by
        self._lock = threading.Lock()
        self._pools: PoolManager | None = None
        self._tls: ssl.SSLContext | None = None

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close its connections that are not in use."""
        if self._pools:
            self._pools.clear()

    def ask(
        self,
        target: "Url",
        timeout: float,
        method: str = "GET",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> "BaseHTTPResponse":
        """Send a request to the address that was checked: its name is not resolved again. Redirects are not followed.

        Args:
            target: from `parsed`.
            timeout: seconds to connect, and between two parts of the response.

        Returns:
            The response, its body unread. The caller closes it.

        Raises:
            Discard: an address of the host is not public, and the host is not in the setting.
            OSError, urllib3.exceptions.HTTPError: no response.
        """
        stand_in = network.stand_in
        if stand_in and (answer := stand_in.request(target, self.allowed_by, method, body, headers or {})):
            return answer
        from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

        host = (target.host or "").strip("[]")
        port = target.port or (443 if target.scheme == "https" else 80)
        addresses = _addresses(host, port, self.allowed_by)
        for address in addresses:
            pool = self._pool(target.scheme or "http", host, address, port)
            try:
                return pool.urlopen(
                    method,
                    target.request_uri,
                    body=body,
                    headers={"Host": target.netloc or host, "User-Agent": "jobline", **(headers or {})},
                    redirect=False,
                    retries=False,
                    assert_same_host=False,
                    preload_content=False,
                    timeout=timeout,
                )
            except (NewConnectionError, ConnectTimeoutError):
                if address == addresses[-1]:
                    raise
        raise ConnectionError(f"{host} has no address")

    def _pool(self, scheme: str, host: str, address: str, port: int) -> "HTTPConnectionPool":
        import ssl

        from urllib3 import PoolManager

        with self._lock:
            if self._pools is None:
                self._pools = PoolManager(MAX_POOLS)
            options = dict(self._pools.connection_pool_kw)
            if scheme == "https":
                if self._tls is None:  # takes milliseconds to make
                    self._tls = ssl.create_default_context()
                options |= {"ssl_context": self._tls, "server_hostname": host, "assert_hostname": host}
        return self._pools.connection_from_host(address, port, scheme, options)


def plainly_private(url: str, allowed: str) -> bool:
    """Return whether a URL names a private address or localhost not listed in `allowed`. Resolves no name."""
    host = parsed(url).host or ""
    if _is_allowed(host, allowed):
        return False
    try:
        return not _is_public(host.strip("[]"))
    except ValueError:
        return host.lower().rstrip(".") == "localhost"


def _is_allowed(host: str, allowed: str) -> bool:
    """Whether a host is in a list; an IPv6 address may be in brackets in both."""
    return host.strip("[]").lower() in {name.strip().strip("[]").lower() for name in allowed.split(",")}


def _addresses(host: str, port: int, allowed_by: str) -> list[str]:
    """Resolve a host. Raises Discard if one of its addresses is not public, and the host is not in `allowed_by`."""
    try:
        resolved = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError:
        raise Discard(f"{host} is not a host name") from None
    addresses = list(dict.fromkeys(str(address[0]) for *_, address in resolved))
    if not _is_allowed(host, getattr(get_settings(), allowed_by.lower())) and not all(map(_is_public, addresses)):
        raise Discard(f"{host} is not on the public network, and not in {allowed_by}")
    return addresses


def _is_public(text: str) -> bool:
    address: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        if address.teredo:
            return False
        inner = address.ipv4_mapped or address.sixtofour
        if address in NAT64:
            inner = ipaddress.IPv4Address(address.packed[-4:])
        if inner is None:
            return address.is_global and address in GLOBAL_IPV6 and not _is_special(address)
        address = inner
    return address.is_global and not _is_special(address)


def _is_special(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return any(address in network for network in NOT_PUBLIC)
