"""latency: from enqueue to start on an idle worker, and on one with 50 of 100 places busy, one job at a time."""

import time

from benchmarks.lab import Lab
from benchmarks.report import Column, Ratio
from benchmarks.workers import ARDIQ_1, HUEY_2, JOBLINE, JOBLINE_IDLE, RQ_1, SAQ_1, TASKIQ_2, Worker

HELD = 50  # jobs that wait in a busy worker
BUSY = {"CONCURRENCY": "100", "JOB_SECONDS": "600"}


def busy(name: str, peer: str, *command: str) -> Worker:
    return Worker(f"{name}, {HELD} of 100 busy", peer, command, environment=BUSY)


IDLE_ROWS = (JOBLINE_IDLE, RQ_1, HUEY_2, SAQ_1, TASKIQ_2, ARDIQ_1)
BUSY_ROWS = (
    busy("jobline coroutines", "jobline_async", *JOBLINE, "default"),
    busy("jobline threads", "jobline", *JOBLINE, "default"),
    busy("saq", "saq", "saq", "peer_saq.settings"),
    busy("taskiq", "taskiq", "taskiq", "worker", "peer_taskiq:broker", "-w", "1", "--max-async-tasks", "100"),
)
ROWS = (*IDLE_ROWS, *BUSY_ROWS)
TITLE = "Latency: enqueue to start, idle and half busy worker, ms"
BASELINE = {worker.name: rows[0].name for rows in (IDLE_ROWS, BUSY_ROWS) for worker in rows}
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
    if worker.environment is BUSY:
        lab.drive(worker.peer, "fill", HELD)
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
