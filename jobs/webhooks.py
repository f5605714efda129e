"""Telling others that a job has ended."""

from typing import Any

from app import job
from app.webhooks import webhook_delivery


@job(queue=webhook_delivery.QUEUE, timeout=webhook_delivery.TIMEOUT_SECONDS, idempotent=True)
def deliver(url: str, message: dict[str, Any]) -> dict[str, Any]:
    """POST a message of an end to a URL, signed, by Standard Webhooks. Jobline enqueues it for jobs with a webhook.

    Success is 2xx within 25 seconds; the body of the answer is not read. No redirect is followed. Addresses that are
    not public are refused, but for the hosts in WEBHOOK_ALLOW_HOSTS. A failure is retried for three days, after 5
    seconds at first and a day in the end, or when Retry-After says. 410 Gone disables the URL. A worker that dies may
    deliver twice: `webhook-id` is the same at every attempt.

    Returns:
        {"status": int, "attempt": int, "seconds": float}

    Raises:
        Discard: for a refused address, a disabled URL, and when it is not Jobline that has enqueued it.
        DeliveryFailed: for any other answer, and for none.
    """
    return webhook_delivery.deliver(url, message)
