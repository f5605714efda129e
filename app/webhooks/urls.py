"""What is a URL of the web."""

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from urllib3.util import Url

MAX_WEBHOOK_LENGTH = 2000


def parse_http_url(url: str) -> "Url":
    """Raises ValueError: it is no http or https URL, or it has a user name."""
    from urllib3.exceptions import LocationParseError
    from urllib3.util import parse_url

    try:
        parsed = parse_url(url)
    except LocationParseError:
        raise ValueError("Not a URL") from None
    if parsed.scheme not in ("http", "https") or not parsed.host or parsed.auth:
        raise ValueError("Only http:// and https:// URLs without a user name are asked")
    return parsed


def check_webhook_url(url: str) -> str:
    """The URL itself. Raises ValueError: no webhook can be there."""
    parse_http_url(url)
    if len(url) > MAX_WEBHOOK_LENGTH or re.search(r"[\x00-\x20\x7f]", url):
        raise ValueError(f"the URL of a webhook has at most {MAX_WEBHOOK_LENGTH} characters, and no space among them")
    return url
