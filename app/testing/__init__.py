"""Test kit for jobs: `with run_jobs() as jobs:` runs them in this process, with its own Redis and clock.

It runs the production code: the API validates and enqueues, the scheduler's steps enqueue what is due, and the work
horse with its scripts claims, runs and finishes jobs. Differences: one job runs at a time, and none is killed; a job
that sleeps really sleeps, and its timeout counts real seconds. Settings come from the test only, files are in a
temporary folder, and mail and webhooks are collected. `app.testing.fixtures` is a pytest plugin.
"""

try:
    import fakeredis  # noqa: F401
    import lupa  # noqa: F401 - fakeredis needs it for scripts
    import time_machine  # noqa: F401
except ImportError as missing:
    raise ImportError("app.testing needs fakeredis[lua] and time-machine: install them for your tests") from missing

from app.testing.network import BadSignature, Delivery, Mail, NotAllowed
from app.testing.service import Enqueued, Jobs, Refused, run_jobs

__all__ = ["BadSignature", "Delivery", "Enqueued", "Jobs", "Mail", "NotAllowed", "Refused", "run_jobs"]
