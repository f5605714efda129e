"""The worker commands that are measured."""

from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.environments import PEERS

STOCK = ("rq", "worker", "-u", "{url}", "-S", "json")
SIMPLE = (*STOCK, "-w", "rq.worker.SimpleWorker")
JOBLINE = ("rq", "worker", "-w", "app.worker.Worker", "-c", "app.worker_config")
SCHEDULER = ("python", "scheduler.py")
LIMIT = ("python", str(Path(__file__).with_name("limit.py")))


@dataclass(frozen=True)
class Worker:
    """One row: `copies` of a peer's command, which make `processes` that run jobs."""

    name: str
    peer: str
    command: tuple[str, ...]
    processes: int = 1
    copies: int = 1
    rough: int = field(default=1000, kw_only=True)
    """About how many jobs a second: for the size of the first trial only."""
    environment: dict[str, str] = field(default_factory=dict, kw_only=True, hash=False)
    """Settings of the worker."""


def both(name: str, peer: str, command: tuple[str, ...], rough: int) -> tuple[Worker, Worker]:
    """One of it, and two of it side by side."""
    return Worker(f"{name} 1", peer, command, rough=rough), Worker(f"{name} 2", peer, command, 2, 2, rough=2 * rough)


JOBLINE_1, JOBLINE_2 = both("jobline", "jobline", (*JOBLINE, "default"), 5000)
JOBLINE_IDLE = Worker("jobline 1", "jobline", (*JOBLINE, "high", "default", "low"))
RQ_1, RQ_2 = both("rq", "rq", (*STOCK, "default"), 70)
RQ_SIMPLE_1, RQ_SIMPLE_2 = both("rq simple", "rq", (*SIMPLE, "default"), 270)
HUEY_2 = Worker("huey 2", "huey", ("huey_consumer", "peer_huey.huey", "-k", "process", "-w", "2"), 2, rough=3500)
SAQ_1 = Worker("saq 1", "saq", ("saq", "peer_saq.settings"), rough=2100)
TASKIQ_2 = Worker("taskiq 2", "taskiq", ("taskiq", "worker", "peer_taskiq:broker"), 2, rough=3000)
BULLMQ = ("node", str(PEERS / "peer_bullmq.js"))
SIDEKIQ = ("sidekiq", "-r", str(PEERS / "peer_sidekiq.rb"), "-c")
ARDIQ_1 = Worker("ardiq 1", "ardiq", ("ardiq", "run", "-q", "peer_ardiq:app"), rough=7700)

ALL = (
    JOBLINE_1,
    JOBLINE_2,
    Worker("jobline 1 x 100", "jobline", (*JOBLINE, "default"), rough=5000, environment={"CONCURRENCY": "100"}),
    *both("limit one", "limit", (*LIMIT, "1"), 4700),
    *both("limit batch16", "limit", (*LIMIT, "16"), 16_000),
    RQ_1,
    RQ_2,
    Worker("rq pool 2", "rq", ("rq", "worker-pool", "-u", "{url}", "-S", "json", "-n", "2", "default"), 2, rough=130),
    RQ_SIMPLE_1,
    RQ_SIMPLE_2,
    Worker("celery 1", "celery", ("celery", "-A", "peer_celery", "worker", "-c", "1"), rough=800),
    Worker("celery 2", "celery", ("celery", "-A", "peer_celery", "worker", "-c", "2"), 2, rough=1000),
    Worker("huey 1", "huey", ("huey_consumer", "peer_huey.huey", "-k", "process", "-w", "1"), rough=1400),
    HUEY_2,
    *both("arq tuned", "arq", ("arq", "peer_arq.WorkerSettings"), 1500),
    SAQ_1,
    Worker("saq 2", "saq", ("saq", "peer_saq.settings", "--workers", "2"), 2, rough=3200),
    Worker("taskiq 1", "taskiq", ("taskiq", "worker", "peer_taskiq:broker", "-w", "1"), rough=1600),
    TASKIQ_2,
    Worker("dramatiq 2x8", "dramatiq", ("dramatiq", "peer_dramatiq", "-p", "2", "-t", "8"), 2, rough=3000),
    Worker("streaq 1", "streaq", ("streaq", "run", "peer_streaq:worker"), rough=1000),
    Worker("streaq 2", "streaq", ("streaq", "run", "peer_streaq:worker", "-w", "2"), 2, rough=1600),
    ARDIQ_1,
    Worker("bullmq 1 x 100", "bullmq", BULLMQ, rough=15_000, environment={"CONCURRENCY": "100"}),
    Worker("sidekiq 1 x 10", "sidekiq", (*SIDEKIQ, "10"), rough=8000),
    Worker("ardiq 2", "ardiq", ("ardiq", "run", "-q", "peer_ardiq:app", "-w", "2"), 2, rough=10_000),
)
