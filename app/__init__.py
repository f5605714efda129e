"""The face for job authors: light, and usable without a worker, Redis or Flask."""

from app.author import mail, outbound, progress, storage
from app.author.hooks import Context, on_start, on_stop
from app.author.options import Breaker, Discard, Limit, Retry, Unique, Webhook, job
from app.settings import get_settings

__all__ = [
    "Breaker",
    "Context",
    "Discard",
    "Limit",
    "Retry",
    "Unique",
    "Webhook",
    "get_settings",
    "job",
    "mail",
    "on_start",
    "on_stop",
    "outbound",
    "progress",
    "storage",
]
