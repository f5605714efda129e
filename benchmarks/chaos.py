"""chaos: two workers, one of them or its children killed every half second, and every job accounted for."""

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rq.job import Job
from rq.serializers import JSONSerializer

from benchmarks import marks
from benchmarks.kills import Kill, kill_workers
from benchmarks.lab import Lab, wait_until
from benchmarks.marks import Run
from benchmarks.report import Column
from benchmarks.workers import JOBLINE, STOCK, Worker

QUEUES = ("high", "default", "low")

CONCURRENT = Worker("jobline 2 x 50", "jobline", (*JOBLINE, *QUEUES), environment={"CONCURRENCY": "50"})
ROWS = (
    Worker("jobline 2", "jobline", (*JOBLINE, *QUEUES)),
    CONCURRENT,
    Worker("rq 2", "rq", (*STOCK, *QUEUES)),
)
TITLE = "Chaos: SIGKILL every half second of a worker's parent, its children, or both; every second job has 10 retries"
COLUMNS = (
    Column("jobs", "jobs"),
    Column("kills", "kills"),
    Column("finished", "finished"),
    Column("failed", "failed"),
    Column("of them with retries", "failed_with_retries"),
    Column("lost", "lost"),
    Column("stuck 30 s after the last kill", "stuck"),
    Column("never ended", "never_ended"),
    Column("finished, never ran", "never_ran"),
    Column("run twice", "run_twice"),
    Column("of them not in flight at a kill", "run_twice_for_nothing"),
    Column("workers that died of it", "died"),
    Column("seconds", "seconds"),
    Column("seconds from last kill to end", "settled_s"),
)
EACH_ROUND = False
WORKERS = 2
EVERY = 0.5  # seconds between two kills
JOB_SECONDS = 0.005
CONCURRENT_JOB_SECONDS = 0.2  # at most, from 0
START = 20.0  # seconds for the first job to start
STUCK = 30.0  # seconds after the last kill
SLACK = 0.05  # seconds between a job's end and the moment that its worker can have told Redis so


def measure(lab: Lab, case: Worker) -> dict[str, object]:
    count = lab.sizes.chaos_stock_jobs if case.peer == "rq" else lab.sizes.chaos_jobs
    path = lab.folder / f"chaos-{case.name.replace(' ', '-')}"
    lab.server.empty()
    first, most = (0.0, CONCURRENT_JOB_SECONDS) if case is CONCURRENT else (JOB_SECONDS, None)
    marks.enqueue(lab.server, path, QUEUES, count, first, most)
    begin = time.monotonic()
    with lab.started(case.peer, case.command, WORKERS, **case.environment) as commands:
        wait_until(path.exists, START)
        kills, died = kill_workers(
            lab,
            case,
            commands,
            pause=lambda _: EVERY,
            going=lambda: bool(marks.queued(lab.server, QUEUES)),
            seconds=lab.sizes.chaos_seconds,
        )
        last = time.monotonic()
        stuck, left = _settle(lab, path, count)
        end = time.monotonic()
    return {
        "jobs": count,
        "seed": lab.seed,
        "kills": dict(Counter(kill.kind for kill in kills)),
        "died": died,
        "seconds": round(end - begin, 1),
        "settled_s": round(end - last, 1),
        "stuck": len(stuck),
        "never_ended": len(left),
        **_account(lab, marks.runs(path), kills, count),
    }


def _settle(lab: Lab, path: Path, count: int) -> tuple[set[int], set[int]]:
    """Wait until all have ended: which nobody attended to after STUCK seconds, and which never ended."""
    left = set(range(count))

    def all_ended() -> bool:
        states = marks.statuses(lab.server, sorted(left))
        left.difference_update(number for number, state in states.items() if state in marks.FINAL)
        return not left

    stuck: set[int] = set()
    patience = min(STUCK, lab.sizes.settle_seconds)
    if wait_until(all_ended, patience, every=0.2) is None:
        stuck = marks.unattended(lab.server, path, QUEUES, sorted(left))
        wait_until(all_ended, lab.sizes.settle_seconds - patience, every=0.2)
    return stuck, left


def _account(lab: Lab, runs: dict[int, list[Run]], kills: list[Kill], count: int) -> dict[str, object]:
    states = marks.statuses(lab.server, range(count))
    finished = {number for number, state in states.items() if state == b"finished"}
    failed = {number for number, state in states.items() if state in marks.FINAL} - finished
    ended = {number for number, of in runs.items() if any(run.end is not None for run in of)}
    known = finished | failed | marks.queued(lab.server, QUEUES) | marks.registered(lab.server, QUEUES)
    twice = {number for number, of in runs.items() if len(of) > 1}
    return {
        "finished": len(finished),
        "failed": dict(Counter(_reasons(lab, sorted(failed)))),
        "failed_with_retries": sum(map(marks.may_retry, failed)),
        "lost": len(set(range(count)) - known),
        "never_ran": len(finished - ended),
        "run_twice": len(twice),
        "run_twice_for_nothing": sum(not all(_killed(run, kills) for run in runs[number][:-1]) for number in twice),
    }


def _killed(run: Run, kills: list[Kill]) -> bool:
    """Was its worker killed while it ran?"""
    end = run.end or float("inf")
    return any(run.pid in kill.pids and run.start - SLACK <= kill.at <= end + SLACK for kill in kills)


def _reasons(lab: Lab, failed: Sequence[int]) -> list[str]:
    """The last line of each failed job's exception, as stock RQ reads it."""
    jobs = Job.fetch_many([str(number) for number in failed], connection=lab.server.client, serializer=JSONSerializer)
    results = [job.latest_result() if job else None for job in jobs]
    texts = [(result.exc_string or "" if result else "no result").strip() for result in results]
    return [text.splitlines()[-1][:100] if text else "no reason" for text in texts]
