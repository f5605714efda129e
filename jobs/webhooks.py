"""Deliver webhooks."""

from typing import Any

from app import job
from app.webhooks import webhook_delivery


@job(queue=webhook_delivery.QUEUE, timeout=webhook_delivery.TIMEOUT_SECONDS, idempotent=True)
def deliver(url: str, message: dict[str, Any]) -> dict[str, Any]:
    """POST a signed message to a URL, by Standard Webhooks. Jobline enqueues it for jobs and workflows with a webhook.

    Success is a 2xx response within 25 seconds; its body is not read. Redirects are not followed. Addresses that are
    not public are refused, except for the hosts in WEBHOOK_ALLOW_HOSTS. A failed delivery is retried for three days,
    after 5 seconds at first and a day at last, or as Retry-After says. 410 Gone disables the URL. If a worker dies, a
    message may be delivered twice, with the same `webhook-id`.

    Returns:
        {"status": int, "attempt": int, "seconds": float}

    Raises:
        Discard: a refused address, a disabled URL, or a job that Jobline has not enqueued itself.
        DeliveryFailed: any other response, or none.
    """
    return webhook_delivery.deliver(url, message)
