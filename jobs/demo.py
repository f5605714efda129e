"""Small jobs to try the service with."""

import time

from app import job
from app.author import progress


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@job(timeout=3600)
def sleep(seconds: float) -> float:
    """Sleep, and return the seconds."""
    time.sleep(seconds)
    return seconds


def fail(message: str) -> None:
    """Fail with a message."""
    raise RuntimeError(message)


@job(timeout=3600)
def count(total: int, delay: float = 0.1) -> int:
    """Count to a total, waiting `delay` seconds before each number, and report progress."""
    for _ in progress.track(range(total), message="counting"):
        time.sleep(delay)
    return total
