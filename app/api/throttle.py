"""Rate limit of requests: REQUEST_LIMIT for each API key, or for each address if there are no keys.

Requests are counted in fixed windows over all API processes. Headers follow draft-ietf-httpapi-ratelimit-headers-10.
"""

import math
import time

from flask import Response, g, request

from app.api.context import context
from app.author.options import parse_rate
from app.errors import TooManyRequests
from app.redis.keys import requests_key


def count_request() -> None:
    """Count the request of an authenticated caller. Raises TooManyRequests."""
    request_limit = context().settings.request_limit
    if not request_limit:
        return
    limit, window = parse_rate(request_limit)
    window_number, elapsed = divmod(time.time(), window)
    caller = request.remote_addr if g.caller == "open" else g.caller
    key = requests_key(caller or "", int(window_number))
    with context().redis.pipeline() as pipeline:
        pipeline.incr(key)
        pipeline.expire(key, int(window) + 1)
        count = int(pipeline.execute()[0])
    remaining, resets_in = max(0, limit - count), max(1, math.ceil(window - elapsed))
    g.rate_limit = {
        "RateLimit-Policy": f'"requests";q={limit};w={int(window)}',
        "RateLimit": f'"requests";r={remaining};t={resets_in}',
    }
    if count > limit:
        raise TooManyRequests(f"The limit of {request_limit} requests is exceeded", retry_after=resets_in)


def add_rate_limit_headers(response: Response) -> None:
    if headers := g.get("rate_limit"):
        response.headers.update(headers)
