"""Make the pictures of the console in docs/, with made-up data: `python -m docs.screenshots`. Needs Chromium."""

import logging
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import fakeredis
import redis

from app.api.application import create_app
from app.metrics.histogram import Histogram, bucket_of
from app.metrics.measures import Measures
from app.redis.keys import METRICS_TOTALS, WORKERS, metrics_key
from app.settings import Settings
from app.testing import Jobs, run_jobs
from app.testing.service import CATALOG
from tests.browser import chromium, served

FOLDER = Path(__file__).parent
SIZE = (1280, 800)
SECONDS = 60  # of an interval of figures
FUNCTIONS = {  # seconds of a run, jobs in a minute, share of failures
    "images.process": (0.4, 90, 0.004),
    "email.send_message": (0.12, 60, 0.02),
    "web.fetch": (0.9, 25, 0.05),
    "exports.dump_csv": (4.0, 4, 0.0),
}
WORKFLOW: dict[str, Any] = {
    "name": "nightly import",
    "jobs": [
        {"name": "fetch", "function": "demo.add", "args": [1, 2]},
        {"name": "load", "function": "demo.add", "args": [1, 2], "after": ["fetch"]},
        {"name": "thumbnails", "function": "demo.sleep", "each": [0] * 24, "after": ["fetch"]},
        {"name": "report", "function": "demo.add", "args": [1, 2], "after": ["load"]},
        {"name": "check", "function": "demo.fail", "args": ["3 rows without a price"], "after": ["load"]},
        {"name": "mail", "function": "demo.add", "args": [1, 2], "after": ["report", "thumbnails"]},
        {"name": "publish", "function": "demo.add", "args": [1, 2], "after": ["mail", "check"], "queue": "low"},
    ],
}


def main() -> None:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    random.seed(1)
    with service() as (port, ids), tempfile.TemporaryDirectory() as profile, chromium(Path(profile)) as driver:
        width, height = SIZE
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        for name, path in {"console": "/", "console-workflow": f"/workflows/{ids['workflow']}"}.items():
            driver.get(f"http://127.0.0.1:{port}{path}")
            _settle(driver)
            driver.save_screenshot(str(FOLDER / f"{name}.png"))
            sys.stdout.write(f"docs/{name}.png\n")


def _settle(driver: Any) -> None:
    """Wait until the page has loaded its data. Raises TimeoutError."""
    script = "const text = document.body.innerText; return text.includes('live') && !text.includes('Loading')"
    end = time.monotonic() + 20
    while not driver.execute_script(script):
        if time.monotonic() > end:
            raise TimeoutError(f"{driver.current_url} is not ready")
        time.sleep(0.1)
    time.sleep(1)  # charts are drawn in the next frames


@contextmanager
def service() -> Iterator[tuple[int, dict[str, str]]]:
    """The port of a service with made-up data, and the ids of what is shown."""
    with run_jobs() as jobs:
        ids = _jobs(jobs)
        server = jobs.redis.connection_pool.connection_kwargs["server"]
    connection = fakeredis.FakeRedis(server=server)
    _figures(connection)
    _workers(connection)
    app = create_app(Settings(), connection, CATALOG)
    with served(app) as port:
        yield port, ids
        app.extensions["jobline"].events.closing = lambda: True


def _jobs(jobs: Jobs) -> dict[str, str]:
    workflow = jobs.client.post("/api/v1/workflows", json=WORKFLOW).get_json()["id"]
    for number in range(9):
        jobs.enqueue("demo.fail", f"The disk {number} is full")
    jobs.run()
    jobs.client.post("/api/v1/queues/low/pause")
    for number in range(14):
        jobs.enqueue_with({"queue": "low"}, "demo.add", number, 1)
    for number in range(6):
        jobs.enqueue_with({"delay": "2h"}, "demo.add", number, 1)
    return {"workflow": workflow}


def _figures(connection: redis.Redis) -> None:
    """Figures of the last hour."""
    end = int(time.time()) // SECONDS * SECONDS
    for start in range(end - 3600, end + 1, SECONDS):
        whole_queue = Measures()
        for name, (seconds, jobs, failures) in FUNCTIONS.items():
            busy = 1 + 0.5 * ((start // SECONDS) % 30 < 9)
            measures = _measures(seconds, round(jobs * busy * random.uniform(0.8, 1.2)), failures)
            whole_queue.merge(measures)
            for key in (metrics_key(SECONDS, start), METRICS_TOTALS):
                connection.hset(key, f"{name}\tdefault", measures.as_json())
        for key in (metrics_key(SECONDS, start), METRICS_TOTALS):
            connection.hset(key, "\tdefault", whole_queue.as_json())


def _measures(seconds: float, jobs: int, failures: float) -> Measures:
    run, wait = Histogram(), Histogram()
    for times, usual in ((run, seconds), (wait, 0.02)):
        for _ in range(jobs):
            value = usual * random.lognormvariate(0, 0.5)
            times.merge(Histogram(value, value, Counter({bucket_of(value): 1})))
    failed = sum(random.random() < failures for _ in range(jobs))
    return Measures(Counter(api=jobs, finished=jobs - failed, failed=failed, retried=failed * 2), run, wait)


def _workers(connection: redis.Redis) -> None:
    now = datetime.now(UTC)
    for number in range(4):
        about = {
            "queues": "high,default,low,webhooks", "state": "busy" if number else "idle", "pid": 100 + number,
            "hostname": f"worker-{number // 2 + 1}", "birth": (now - timedelta(hours=5)).isoformat(),
            "last_heartbeat": now.isoformat(), "rss_bytes": 91_000_000 + number, "cpu_seconds": 5200 + 900 * number,
            "successful_job_count": 51_234 + number, "failed_job_count": 310, "total_working_time": 15_000,
        }  # fmt: skip
        key = f"rq:worker:{(number + 3) * 0x1B2C3D4E5F607182:032x}"
        connection.hset(key, mapping=about)
        connection.sadd(WORKERS, key)


if __name__ == "__main__":
    main()
