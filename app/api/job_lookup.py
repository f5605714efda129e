"""Fetching a job for a response, at once or when it has ended (`Prefer: wait=N`)."""

import re
from typing import Any

from flask import g, request

from app.access import api_keys
from app.api.context import context
from app.errors import NotFound
from app.views import job_view, waiting

WAIT_PREFERENCE = re.compile(r"\bwait\s*=\s*0*([0-9]{1,9})")


def preferred_wait_seconds() -> int:
    """N of the header `Prefer: wait=N` (RFC 7240, section 4.3), at most the longest wait; 0 without it."""
    preference = request.headers.get("Prefer")
    match = WAIT_PREFERENCE.search(preference) if preference else None
    return min(int(match[1]), waiting.MAX_WAIT_SECONDS) if match else 0


def fetch_job(job_id: str, wait_seconds: int = 0) -> dict[str, Any]:
    """The job, after waiting up to `wait_seconds` for its end. Raises NotFound."""
    if wait_seconds:
        share = api_keys.share(waiting.MAX_WAITERS, context().api_keys)
        job = waiting.wait(context().redis, context().blocking_redis, job_id, wait_seconds, g.caller, share)
    else:
        job = job_view.fetch(context().redis, [job_id], history=True)[0]
    if job is None:
        raise NotFound(f"No job {job_id!r}")
    return job
