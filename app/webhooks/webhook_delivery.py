"""Webhook messages and their delivery, by the Standard Webhooks specification.

A delivery is a job on queue `webhooks`. The secret of its webhook is a field of the job's hash that no view shows.
"""

import random
import time
from datetime import UTC, datetime
from typing import Any

import redis
from rq import get_current_job

from app import tracing
from app.author import outbound
from app.author.options import Discard, JobEvent, Retry, Webhook, WorkflowEvent
from app.errors import Invalid, NotFound
from app.redis.hash_values import utc_of
from app.redis.keys import DISABLED_WEBHOOKS
from app.rq_adapter.retry_after import parse as parse_retry_after
from app.serializer import JSON, utc
from app.settings import Settings, get_settings
from app.webhooks import signing

DELIVER = "jobs.webhooks.deliver"
QUEUE = "webhooks"
ALLOWED_BY = "WEBHOOK_ALLOW_HOSTS"
"""The setting that allows webhooks to private hosts."""
SECRET = "webhook_secret"  # noqa: S105 - the name of a field
DELIVERY_SECRET = "delivery_secret"  # noqa: S105 - the name of a field
"""Only deliveries have this field, which the outbox sets: their webhook's secret, or '' for WEBHOOK_SECRET."""
TIMEOUT_SECONDS = 25  # of one attempt, from the DNS lookup to the response status
SOCKET_TIMEOUT_SECONDS = 15.0  # to connect, and between two parts of the response
HOUR = 3600
RETRY_WAITS = (5, 300, 1800, 2 * HOUR, 5 * HOUR, 10 * HOUR, 14 * HOUR, 20 * HOUR, 24 * HOUR)
"""Seconds before each retry, as recommended by the specification."""
JITTER = 0.1  # fraction of each wait
MAX_MESSAGE_BYTES = 20_000  # as recommended by the specification
DISABLED_SECONDS = 30 * 24 * HOUR
RETRY_AFTER_STATUSES = (429, 503)
GONE = 410


def choose(given: Webhook | None, default: Webhook | None, settings: Settings, pointer: str) -> Webhook | None:
    """The given webhook of a job or workflow, else the default.

    Raises:
        Invalid: neither it nor the service has a secret, or the given URL is not on the public network.
    """
    webhook = given or default
    if webhook and not webhook.secret and not settings.webhook_secret.get_secret_value():
        raise _invalid(
            "there is no WEBHOOK_SECRET and the webhook has no secret: unsigned, nobody could tell who has sent it",
            f"{pointer}/webhook/secret",
        )
    if given and outbound.plainly_private(given.url, settings.webhook_allow_hosts):
        raise _invalid(
            "the host is not on the public network, and not in WEBHOOK_ALLOW_HOSTS", f"{pointer}/webhook/url"
        )
    return webhook


def _invalid(detail: str, pointer: str) -> Invalid:
    return Invalid("The webhook cannot be used", [{"detail": detail, "pointer": pointer}])


def service_webhook(settings: Settings, events: tuple[JobEvent, ...] | tuple[WorkflowEvent, ...]) -> Webhook | None:
    """The webhook of WEBHOOK_URL, for jobs and workflows without their own."""
    return Webhook(settings.webhook_url, events) if settings.webhook_url else None


def hash_fields(webhook: Webhook) -> dict[str, Any]:
    """The fields for the hash of a job or workflow with this webhook."""
    fields = {"webhook": JSON.dumps(webhook.without_secret())}
    return {**fields, SECRET: webhook.secret} if webhook.secret else fields


class DeliveryFailed(Exception):
    """A failed attempt; `retry_after`: the seconds that the receiver asked to wait."""

    def __init__(self, reason: str, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


def retry_waits() -> list[int]:
    """The seconds before each retry of a delivery, with jitter."""
    intervals = (wait * random.uniform(1 - JITTER, 1 + JITTER) for wait in RETRY_WAITS)  # noqa: S311 - not a secret
    return Retry(len(RETRY_WAITS), intervals=tuple(intervals)).waits()


def message(event: str, ended: dict[str, Any]) -> dict[str, Any]:
    """The message for an ended job or workflow. If it exceeds MAX_MESSAGE_BYTES, fields are left out and listed in
    `omitted`."""
    data = dict(ended)
    payload = {"type": event, "timestamp": ended["ended_at"] or utc(datetime.now(UTC)), "data": data}
    for name in ("result", "error", "args", "kwargs", "progress", "depends_on", "tags", "description"):
        if len(JSON.dumps(payload)) <= MAX_MESSAGE_BYTES:
            break
        if data.get(name):
            data[name] = _shorten(data[name])
            data.setdefault("omitted", []).append(name)
    return payload


def _shorten(value: Any) -> Any:
    if isinstance(value, dict) and "traceback" in value:
        return {"type": value["type"][:200], "message": value["message"][:1000], "traceback": ""}
    return type(value)() if isinstance(value, list | dict) else None


def deliver(url: str, payload: dict[str, Any]) -> dict[str, Any]:
    """Make one delivery attempt, in a worker; see jobs/webhooks.py."""
    from urllib3.exceptions import HTTPError

    job, started_at = get_current_job(), time.monotonic()
    secret_field = job.connection.hget(job.key, DELIVERY_SECRET) if job else None
    if secret_field is None:
        raise Discard("Only Jobline enqueues deliveries: set `webhook` when you enqueue a job")
    target = outbound.parsed(url)
    since = job.connection.zscore(DISABLED_WEBHOOKS, url)
    if since is not None and since > _oldest_disabled():
        raise Discard(_gone_message(target.host, datetime.fromtimestamp(since, UTC)))
    body = JSON.dumps(payload)
    headers = {
        "Content-Type": "application/json",
        **tracing.outgoing_headers(),
        **signing.headers(_signing_secrets(secret_field.decode()), job.id, body),
    }
    try:
        with outbound.Client(ALLOWED_BY) as client:
            response = client.ask(target, SOCKET_TIMEOUT_SECONDS, "POST", body, headers)
            status, retry_after = response.status, response.headers.get("Retry-After")
            response.close()
    except (HTTPError, OSError) as error:
        raise DeliveryFailed(f"{type(error).__name__}: {error}") from None
    if status == GONE:
        _disable(job.connection, url)
        raise Discard(_gone_message(target.host, datetime.now(UTC)))
    if not 200 <= status < 300:
        raise DeliveryFailed(
            f"{target.host} answered {status}", _bounded_wait(retry_after) if status in RETRY_AFTER_STATUSES else None
        )
    attempt = int(job.connection.hget(job.key, "attempts") or 1)
    return {"status": status, "attempt": attempt, "seconds": round(time.monotonic() - started_at, 3)}


def _signing_secrets(secret_field: str) -> list[str]:
    secrets = signing.parse(secret_field) or signing.parse(get_settings().webhook_secret.get_secret_value())
    if not secrets:
        raise DeliveryFailed("this worker has no WEBHOOK_SECRET, and the webhook has no secret of its own")
    return secrets


def _bounded_wait(retry_after: str | None) -> float | None:
    seconds = parse_retry_after(retry_after)
    return None if seconds is None else min(max(1.0, seconds), float(RETRY_WAITS[-1]))


def _gone_message(host: str | None, since: datetime) -> str:
    return f"{host} answered 410 Gone at {utc(since)}: DELETE /api/v1/webhooks/disabled enables its URL again"


def _disable(connection: redis.Redis, url: str) -> None:
    with connection.pipeline() as pipeline:
        pipeline.zremrangebyscore(DISABLED_WEBHOOKS, "-inf", _oldest_disabled())
        pipeline.zadd(DISABLED_WEBHOOKS, {url: time.time()})
        pipeline.expire(DISABLED_WEBHOOKS, DISABLED_SECONDS)
        pipeline.execute()


def list_disabled(connection: redis.Redis) -> list[dict[str, str]]:
    """The URLs that answered 410 Gone, and since when: nothing is delivered to them."""
    entries = connection.zrangebyscore(DISABLED_WEBHOOKS, _oldest_disabled(), "+inf", withscores=True)
    return [{"url": url.decode(errors="replace"), "since": utc_of(at) or ""} for url, at in entries]


def _oldest_disabled() -> float:
    return time.time() - DISABLED_SECONDS


def enable(connection: redis.Redis, url: str) -> None:
    """Enable a disabled URL. Raises NotFound: it is not disabled."""
    if not connection.zrem(DISABLED_WEBHOOKS, url):
        raise NotFound("This URL is not disabled")
