"""For tests of jobs: `with run_jobs() as jobs:` runs them in this process, on a Redis and by a clock of its own.

The code is production's: the API checks and queues, the scheduler's steps move what is due, and the work horse with its
scripts claims, runs and ends. What is not as there: one job runs at a time and none is killed; a job that sleeps does
sleep, and its timeout counts real seconds, as `time.monotonic` does. Settings are the test's own, files lie in a
temporary folder, mail and webhooks are collected. `app.testing.fixtures` is a plugin of pytest.
"""

try:
    import fakeredis  # noqa: F401
    import lupa  # noqa: F401 - with it fakeredis runs scripts
    import time_machine  # noqa: F401
except ImportError as missing:
    raise ImportError("app.testing needs fakeredis[lua] and time-machine: install them for your tests") from missing

from app.testing.network import BadSignature, Delivery, Mail, NotAllowed
from app.testing.service import Enqueued, Jobs, Refused, run_jobs

__all__ = ["BadSignature", "Delivery", "Enqueued", "Jobs", "Mail", "NotAllowed", "Refused", "run_jobs"]
