"""The face for job authors: light, and usable without a worker, Redis or Flask."""

from app import outbound, progress, storage
from app.options import Discard, Retry, job
from app.settings import get_settings

__all__ = ["Discard", "Retry", "get_settings", "job", "outbound", "progress", "storage"]
