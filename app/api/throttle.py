"""How many requests a caller may make: REQUEST_LIMIT, for each key, or each address where there are no keys.

Counted in fixed windows, over all API processes. The headers are those of draft-ietf-httpapi-ratelimit-headers-10.
"""

import math
import time

from flask import Response, g, request

from app.api.context import context
from app.author.options import rate
from app.errors import TooManyRequests
from app.redis.keys import requests_key


def throttle() -> None:
    """Count the request of a caller who is known. Raises TooManyRequests."""
    said = context().settings.request_limit
    if not said:
        return
    most, window = rate(said)
    number, passed = divmod(time.time(), window)
    caller = (request.remote_addr or "") if g.caller == "open" else g.caller
    key = requests_key(caller, int(number))
    with context().redis.pipeline() as pipeline:
        pipeline.incr(key)
        pipeline.expire(key, int(window) + 1)
        count = int(pipeline.execute()[0])
    left, resets_in = max(0, most - count), max(1, math.ceil(window - passed))
    g.rate_limit = {
        "RateLimit-Policy": f'"requests";q={most};w={int(window)}',
        "RateLimit": f'"requests";r={left};t={resets_in}',
    }
    if count > most:
        raise TooManyRequests(f"More than {said} requests", retry_after=resets_in)


def tell(response: Response) -> None:
    if headers := g.get("rate_limit"):
        response.headers.update(headers)
