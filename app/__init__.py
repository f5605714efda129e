"""The face for job authors: light, and usable without a worker, Redis or Flask."""

from app.author import mail, outbound, progress, storage
from app.author.options import Breaker, Discard, Limit, Retry, Unique, Webhook, job
from app.settings import get_settings

__all__ = [
    "Breaker",
    "Discard",
    "Limit",
    "Retry",
    "Unique",
    "Webhook",
    "get_settings",
    "job",
    "mail",
    "outbound",
    "progress",
    "storage",
]
