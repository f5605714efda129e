"""Refuses requests that a foreign web page makes: by their Host, and for unsafe methods by their origin.

A page of an attacker can send requests to a service on this machine or network, with the browser's stored credentials
(cross-site request forgery), or give its own name our address (DNS rebinding). Programs send no Origin, and pass, but
for the pages of the dashboard, which are for browsers alone.
"""

import ipaddress
import re
from urllib.parse import urlsplit

from werkzeug.datastructures import Headers

from app.errors import Forbidden, Misdirected
from app.settings import LOOPBACK, Settings

BROWSER_ONLY_PREFIX = "/dashboard/"
"""Below it a request that changes something must say that a page of ours has made it: programs use the API."""

HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[\w.-]+)(?::\d*)?")  # RFC 9110, section 7.2
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")  # RFC 9110, section 9.2.1
OWN_FETCH_SITES = ("same-origin", "none")
"""Values of Sec-Fetch-Site (W3C Fetch Metadata) for requests that no other site has caused."""


class OriginCheck:
    """Which hosts are this service: loopback names, the address it is bound to, and ALLOWED_HOSTS."""

    def __init__(self, settings: Settings) -> None:
        allowed = [name.strip().lower() for name in settings.allowed_hosts.split(",") if name.strip()]
        self.any_host = "*" in allowed
        self.any_address = settings.host in ("0.0.0.0", "::")  # noqa: S104 - only compared
        self.hosts = {*LOOPBACK, settings.host.lower(), *allowed}
        self._accepted_hosts: set[str] = set()

    def check(self, method: str, path: str, headers: Headers) -> None:
        """Let a request pass that programs, or the service's own pages, have made.

        Raises:
            Misdirected: its Host is not this service (RFC 9110, section 15.5.20).
            Forbidden: it would change something, and a page of another origin has made it.
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
            raise Forbidden("A page of another origin may not change anything here")
        if origin is None and path.startswith(BROWSER_ONLY_PREFIX):
            raise Forbidden("The dashboard changes something only for its own pages: programs use the API")

    def _is_own_host(self, host: str) -> bool:
        parts = HOST.fullmatch(host)
        if not parts:
            return False
        name = parts[1].strip("[]").lower()
        # a page cannot give its own name to an address that was asked for by number
        return self.any_host or name in self.hosts or (self.any_address and _is_address(name))


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def authority(origin: str) -> str:
    """Host and port of an origin, in lower case; '' for "null" and what is no URL."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""
