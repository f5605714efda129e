"""The place in which code runs: a work horse runs up to CONCURRENCY jobs at once, each in a place of its own.

It follows a job into its coroutines, the tasks that it makes, and threads that asyncio.to_thread starts.
"""

from contextvars import ContextVar

current: ContextVar[int] = ContextVar("place", default=0)
"""0: outside of a job, and in a work horse that runs one job at a time; else 1 to CONCURRENCY."""
