"""drain: how fast queued no-op jobs are run, results kept."""

import psutil

from benchmarks.lab import Lab, wait_until
from benchmarks.report import Column, Ratio
from benchmarks.stores import STORES, confirm
from benchmarks.workers import ALL, Worker

ROWS = ALL
TITLE = "Drain: no-op jobs queued beforehand, results kept"
COLUMNS = (
    Column("jobs/s", "jobs_per_s"),
    Ratio("÷ Jobline", "jobs_per_s", to={worker.name: f"jobline {worker.processes}" for worker in ROWS}),
    Column("both cores busy %", "busy_pct"),
    Column("Redis, % of a core", "redis_pct"),
    Column("commands/job", "commands_per_job", 1),
    Column("round trips/job", "round_trips_per_job", 2),
)
EACH_ROUND = True
START = 30.0  # seconds to the first finished job
STRAY = 3  # keys of a worker's own, which some stores count as results while jobs run
LIMIT = 120.0  # seconds from there to the last
LARGEST = 200_000
Figures = dict[str, float]


class Unfinished(Exception):
    """Jobs were not finished in time."""


def measure(lab: Lab, worker: Worker) -> Figures:
    if worker.name not in lab.known:
        lab.known[worker.name] = _size(lab, worker)
    lab.server.empty()
    return fill_and_drain(lab, worker, lab.known[worker.name])


def _size(lab: Lab, worker: Worker) -> int:
    """So many jobs that a drain takes about drain_seconds, from a trial that takes about a quarter of it."""
    count = max(10, int(worker.rough * lab.sizes.drain_seconds / 4))
    while True:
        lab.server.empty()
        lab.drive(worker.peer, "fill", count)
        figures = follow(lab, worker, 0, count, lab.sizes.drain_seconds)
        if figures["seconds"] > lab.sizes.drain_seconds / 8 or count == LARGEST:
            return max(10, min(LARGEST, int(figures["jobs_per_s"] * lab.sizes.drain_seconds)))
        count = min(4 * count, LARGEST)


def fill_and_drain(lab: Lab, worker: Worker, count: int, before: int = 0) -> Figures:
    """Enqueue `count` jobs and let the worker run them; `before` are finished already.

    Raises:
        Unfinished
        RuntimeError: the results are not all there.
    """
    lab.drive(worker.peer, "fill", count)
    figures = follow(lab, worker, before, before + count, LIMIT)
    if figures["jobs"] < count:
        raise Unfinished(f"{figures['jobs']} of {count} jobs in {LIMIT:.0f} s")
    confirm(lab.server, worker.peer, before + count)
    return figures


def follow(lab: Lab, worker: Worker, before: int, until: int, seconds: float) -> Figures:
    """Start the worker and watch the number of finished jobs go from `before` to `until`.

    Rates are taken from the first finished job that is seen to the last, for at most `seconds`.

    Raises:
        Unfinished: no job was finished within START seconds.
    """
    server, finished, polls = lab.server, STORES[worker.peer].finished, 0

    def count() -> int:
        nonlocal polls
        polls += 1
        return finished(server, until)

    with lab.started(worker.peer, worker.command, worker.copies, **worker.environment):
        to_first = wait_until(lambda: count() > before + min(STRAY, until - before - 1), START)
        if to_first is None:
            raise Unfinished(f"not one job in {START:.0f} s")
        first_count, first, polls = count(), server.read(), 0
        wait_until(lambda: count() >= until, seconds)
        last_count, last = count(), server.read()
    jobs, wall = last_count - first_count, last.at - first.at
    return {
        "jobs": last_count - before,
        "seconds": round(wall, 3),
        "seconds_to_first": round(to_first, 3),
        "jobs_per_s": round(jobs / wall, 1),
        "busy_pct": round(100 * (last.machine_cpu - first.machine_cpu) / wall / (psutil.cpu_count() or 1)),
        "redis_pct": round(100 * (last.redis_cpu - first.redis_cpu) / wall),
        "redis_us_per_job": round(1e6 * (last.redis_cpu - first.redis_cpu) / max(1, jobs), 1),
        "commands_per_job": round((last.commands - first.commands - polls) / max(1, jobs), 2),
        "round_trips_per_job": round((last.round_trips - first.round_trips - polls) / max(1, jobs), 2),
    }
