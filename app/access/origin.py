"""Refuses requests made by foreign web pages: by their Host, and for unsafe methods by their Origin.

An attacker's page can send requests to a service on this machine or network with the browser's stored credentials
(cross-site request forgery), or resolve its own name to our address (DNS rebinding). Programs send no Origin and are
allowed, except for the dashboard, which is for browsers only.
"""

import ipaddress
import re
from urllib.parse import urlsplit

from werkzeug.datastructures import Headers

from app.errors import Forbidden, Misdirected
from app.settings import LOOPBACK, Settings

BROWSER_ONLY_PREFIX = "/dashboard/"
"""Under this path, unsafe requests must have an Origin of our own: programs use the API instead."""

HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[\w.-]+)(?::\d*)?")  # RFC 9110, section 7.2
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")  # RFC 9110, section 9.2.1
OWN_FETCH_SITES = ("same-origin", "none")
"""Values of Sec-Fetch-Site (W3C Fetch Metadata) for requests that no other site caused."""


class OriginCheck:
    """The check for one service. Its hosts are loopback names, the address it is bound to, and ALLOWED_HOSTS."""

    def __init__(self, settings: Settings) -> None:
        allowed = [name.strip().lower() for name in settings.allowed_hosts.split(",") if name.strip()]
        self.any_host = "*" in allowed
        self.any_address = settings.host in ("0.0.0.0", "::")  # noqa: S104 - only compared
        self.hosts = {*LOOPBACK, settings.host.lower(), *allowed}
        self._accepted_hosts: set[str] = set()

    def check(self, method: str, path: str, headers: Headers) -> None:
        """Allow requests of programs and of the service's own pages.

        Raises:
            Misdirected: the Host is not this service (RFC 9110, section 15.5.20).
            Forbidden: the method is unsafe, and the request comes from a page of another origin.
        """
        host = headers.get("Host", "")
        if host not in self._accepted_hosts:
            if not self._is_own_host(host):
                raise Misdirected("The Host header does not name this service: add the host to ALLOWED_HOSTS")
            if len(self._accepted_hosts) < 1000:
                self._accepted_hosts.add(host)
        if method in SAFE_METHODS:
            return
        origin, site = headers.get("Origin"), headers.get("Sec-Fetch-Site")
        if (site and site not in OWN_FETCH_SITES) or (origin is not None and authority(origin) != host.lower()):
            raise Forbidden("Pages of another origin may not change anything here")
        if origin is None and path.startswith(BROWSER_ONLY_PREFIX):
            raise Forbidden("The dashboard accepts changes only from its own pages: use the API instead")

    def _is_own_host(self, host: str) -> bool:
        parts = HOST.fullmatch(host)
        if not parts:
            return False
        name = parts[1].strip("[]").lower()
        # DNS rebinding needs a name: an address literal is safe
        return self.any_host or name in self.hosts or (self.any_address and _is_address(name))


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def authority(origin: str) -> str:
    """Host and port of an origin, in lower case; "" for "null" and invalid URLs."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""
