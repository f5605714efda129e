"""The place in which code runs: a work horse runs up to CONCURRENCY jobs at once, each in a place of its own.

It follows a job into its coroutines, the tasks that it makes, and threads that asyncio.to_thread starts.
"""

import threading
from contextvars import ContextVar

current: ContextVar[int] = ContextVar("place", default=0)
"""0: outside of a job, and in a work horse that runs one job at a time; else 1 to CONCURRENCY."""


def key() -> int:
    """Return a number that no other running job of this process has: its place, or the thread that calls."""
    return current.get() or threading.get_ident()
