"""waits: how fast queued jobs are run that each wait 50 ms, by one worker process with 100 at once; results kept."""

from benchmarks import drain
from benchmarks.lab import Lab
from benchmarks.report import Column, Ratio
from benchmarks.workers import JOBLINE, Worker

SECONDS = 0.05
PLACES = 100
JOBS = 20_000
SETTINGS = {"JOB_SECONDS": str(SECONDS), "CONCURRENCY": str(PLACES)}


def row(name: str, peer: str, *command: str) -> Worker:
    return Worker(name, peer, command, environment=SETTINGS)


ROWS = (
    row("jobline coroutines", "jobline_async", *JOBLINE, "default"),
    row("jobline threads", "jobline", *JOBLINE, "default"),
    row("saq", "saq", "saq", "peer_saq.settings"),
    row("taskiq", "taskiq", "taskiq", "worker", "peer_taskiq:broker", "-w", "1", "--max-async-tasks", str(PLACES)),
    row("arq", "arq", "arq", "peer_arq.WorkerSettings"),
    row("dramatiq", "dramatiq", "dramatiq", "peer_dramatiq", "-p", "1", "-t", str(PLACES)),
    row("huey threads", "huey", "huey_consumer", "peer_huey.huey", "-k", "thread", "-w", str(PLACES)),
    row("celery threads", "celery", "celery", "-A", "peer_celery", "worker", "-P", "threads", "-c", str(PLACES)),
)
TITLE = f"Waits: jobs of {1000 * SECONDS:.0f} ms, {PLACES} at once in one process: {PLACES / SECONDS:,.0f}/s at most"
COLUMNS = (
    Column("jobs/s", "jobs_per_s"),
    Ratio("÷ Jobline", "jobs_per_s", to={worker.name: "jobline coroutines" for worker in ROWS}),
    Column("both cores busy %", "busy_pct"),
    Column("Redis, % of a core", "redis_pct"),
)
EACH_ROUND = True


def measure(lab: Lab, worker: Worker) -> dict[str, float]:
    lab.server.empty()
    return drain.fill_and_drain(lab, worker, min(JOBS, int(lab.sizes.drain_seconds * PLACES / SECONDS)))
