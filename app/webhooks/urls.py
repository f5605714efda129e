"""Validation of HTTP URLs."""

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from urllib3.util import Url

MAX_WEBHOOK_LENGTH = 2000


def parse_http_url(url: str) -> "Url":
    """Parse a URL. Raises ValueError: it is not an http or https URL, or it contains a user name."""
    from urllib3.exceptions import LocationParseError
    from urllib3.util import parse_url

    try:
        parsed = parse_url(url)
    except LocationParseError:
        raise ValueError("Not a URL") from None
    if parsed.scheme not in ("http", "https") or not parsed.host or parsed.auth:
        raise ValueError("Only http:// and https:// URLs without a user name are allowed")
    return parsed


def check_webhook_url(url: str) -> str:
    """Return the URL. Raises ValueError: it is not valid for a webhook."""
    parse_http_url(url)
    if len(url) > MAX_WEBHOOK_LENGTH or re.search(r"[\x00-\x20\x7f]", url):
        raise ValueError(f"the URL of a webhook must have at most {MAX_WEBHOOK_LENGTH} characters and no spaces")
    return url
