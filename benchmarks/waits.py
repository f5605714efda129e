"""waits: how fast queued jobs are run that each wait, by one worker process that runs many at once; results kept."""

from benchmarks import drain
from benchmarks.lab import Lab
from benchmarks.report import Column, Ratio
from benchmarks.workers import BULLMQ, JOBLINE, SIDEKIQ, Worker

SHORT, LONG = (0.05, 100), (1.0, 1000)  # seconds of a job, jobs at once
WAVES = 8  # of long jobs
TASKIQ = ("taskiq", "worker", "peer_taskiq:broker", "-w", "1", "--max-async-tasks")


def row(name: str, peer: str, *command: str, kind: tuple[float, int] = SHORT) -> Worker:
    seconds, places = kind
    about = f"{name}, {1000 * seconds:.0f} ms x {places:,}"
    return Worker(about, peer, command, environment={"JOB_SECONDS": str(seconds), "CONCURRENCY": str(places)})


ROWS = (
    row("jobline coroutines", "jobline_async", *JOBLINE, "default"),
    row("jobline threads", "jobline", *JOBLINE, "default"),
    row("saq", "saq", "saq", "peer_saq.settings"),
    row("taskiq", "taskiq", *TASKIQ, "100"),
    row("arq", "arq", "arq", "peer_arq.WorkerSettings"),
    row("dramatiq", "dramatiq", "dramatiq", "peer_dramatiq", "-p", "1", "-t", "100"),
    row("huey threads", "huey", "huey_consumer", "peer_huey.huey", "-k", "thread", "-w", "100"),
    row("celery threads", "celery", "celery", "-A", "peer_celery", "worker", "-P", "threads", "-c", "100"),
    row("bullmq", "bullmq", *BULLMQ),
    row("sidekiq threads", "sidekiq", *SIDEKIQ, "100"),
    row("jobline coroutines", "jobline_async", *JOBLINE, "default", kind=LONG),
    row("saq", "saq", "saq", "peer_saq.settings", kind=LONG),
    row("taskiq", "taskiq", *TASKIQ, "1000", kind=LONG),
    row("arq", "arq", "arq", "peer_arq.WorkerSettings", kind=LONG),
)
BASELINE = {worker.environment["JOB_SECONDS"]: worker.name for worker in ROWS if worker.peer == "jobline_async"}
TITLE = "Waits: jobs that wait, many at once in one process: 2,000/s at most with 50 ms x 100, 1,000/s with 1 s x 1,000"
COLUMNS = (
    Column("jobs/s", "jobs_per_s"),
    Ratio("÷ Jobline", "jobs_per_s", to={worker.name: BASELINE[worker.environment["JOB_SECONDS"]] for worker in ROWS}),
    Column("both cores busy %", "busy_pct"),
    Column("Redis, % of a core", "redis_pct"),
)
EACH_ROUND = True


def measure(lab: Lab, worker: Worker) -> dict[str, float]:
    seconds, places = float(worker.environment["JOB_SECONDS"]), int(worker.environment["CONCURRENCY"])
    lab.server.empty()
    count = int(max(lab.sizes.drain_seconds, WAVES * seconds) * places / seconds)
    figures = drain.fill_and_drain(lab, worker, count)
    figures["jobs_per_s"] = round(count / (figures["seconds"] + seconds), 1)  # the first to end began so long before
    return figures
