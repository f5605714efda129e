"""latency: from enqueue to start on an idle worker, one job at a time."""

import time

from benchmarks.lab import Lab
from benchmarks.report import Column, Ratio
from benchmarks.workers import ARDIQ_1, HUEY_2, JOBLINE_IDLE, RQ_1, SAQ_1, TASKIQ_2, Worker

ROWS = (JOBLINE_IDLE, RQ_1, HUEY_2, SAQ_1, TASKIQ_2, ARDIQ_1)
TITLE = "Latency: enqueue to start, idle worker, ms"
BASELINE = dict.fromkeys((worker.name for worker in ROWS), JOBLINE_IDLE.name)
COLUMNS = (
    Column("p50", "p50_ms", 2),
    Column("p99", "p99_ms", 2),
    Ratio("p50 ÷ Jobline", "p50_ms", to=BASELINE),
    Ratio("p99 ÷ Jobline", "p99_ms", to=BASELINE),
)
EACH_ROUND = True
APART = 0.02  # seconds between two jobs
WARM_UP = 5  # jobs
SETTLE = 1.0  # seconds


def measure(lab: Lab, worker: Worker) -> dict[str, float]:
    lab.server.empty()
    with lab.started(worker.peer, worker.command, worker.copies, **worker.environment):
        lab.drive(worker.peer, "latency", WARM_UP, APART)
        time.sleep(SETTLE)
        found = sorted(lab.drive(worker.peer, "latency", lab.sizes.latency_jobs, APART))
    return {
        "jobs": len(found),
        "p50_ms": round(found[len(found) // 2], 3),
        "p99_ms": round(found[int(0.99 * len(found))], 3),
        "max_ms": round(found[-1], 3),
    }
