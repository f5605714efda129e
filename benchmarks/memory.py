"""memory: what a finished no-op job takes in Redis."""

import time

from benchmarks.drain import fill_and_drain
from benchmarks.lab import Lab
from benchmarks.report import Column, Ratio
from benchmarks.workers import JOBLINE_1, RQ_SIMPLE_1, Worker

ROWS = (JOBLINE_1, RQ_SIMPLE_1)
TITLE = (
    "Memory: bytes of Redis for one finished no-op job (stock RQ: SimpleWorker, which leaves the same as the others)"
)
COLUMNS = (
    Column("bytes/job", "bytes_per_job"),
    Ratio("÷ Jobline", "bytes_per_job", to={worker.name: JOBLINE_1.name for worker in ROWS}),
)
EACH_ROUND = True
WARM_UP = 100  # jobs, for what a worker leaves once
SETTLE = 0.5  # seconds for the worker's connections to be gone


def measure(lab: Lab, worker: Worker) -> dict[str, float]:
    lab.server.empty()
    used, count = [], lab.sizes.memory_jobs
    for jobs, before in ((WARM_UP, 0), (count, WARM_UP)):
        fill_and_drain(lab, worker, jobs, before)
        time.sleep(SETTLE)
        used.append(lab.server.memory())
    return {"jobs": count, "bytes_per_job": round((used[1] - used[0]) / count, 1)}
