"""The face for job authors: light, and usable without a worker, Redis or Flask."""

from app import progress, storage
from app.options import Breaker, Discard, Limit, Retry, Unique, job
from app.settings import get_settings

__all__ = ["Breaker", "Discard", "Limit", "Retry", "Unique", "get_settings", "job", "progress", "storage"]
