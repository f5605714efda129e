"""recovery: how long the jobs of a killed worker are nobody's."""

import random
import time
from dataclasses import dataclass

from benchmarks import marks
from benchmarks.lab import Lab, wait_until
from benchmarks.report import Column
from benchmarks.workers import JOBLINE_1, RQ_1, SCHEDULER, Worker


@dataclass(frozen=True)
class Case:
    """Who is killed, and who is alive then."""

    name: str
    victim: Worker
    survivor: tuple[str, ...]
    tries: int | None = None

    @property
    def peer(self) -> str:
        return self.victim.peer


ROWS = (
    Case("jobline, another worker is alive", JOBLINE_1, JOBLINE_1.command),
    Case("jobline, only the scheduler is alive", JOBLINE_1, SCHEDULER, tries=1),
    Case("rq, another worker is alive", RQ_1, RQ_1.command),
)
TITLE = (
    "Recovery: SIGKILL of a worker and all its children; seconds until each of its jobs runs again, is queued or ended"
)
COLUMNS = (
    Column("longest, s", "longest_s", 2),
    Column("tries, s", "tries_s", 2),
    Column("jobs held when killed", "held"),
    Column("not within", "limit_s"),
)
EACH_ROUND = False
QUEUES = ("default",)
JOBS = 50
JOB_SECONDS = 600.0  # none ends by itself while it is measured
START = 20.0  # seconds for a worker to take its first job
SETTLE = 3.0  # seconds for a survivor to be up, or for a victim to take what it takes


class NotStarted(Exception):
    """The worker took no job."""


def measure(lab: Lab, case: Case) -> dict[str, object]:
    """Tries end at the first one that is not recovered within the limit; `longest_s` is None then."""
    tries: list[float | None] = []
    held = 0
    for _ in range(case.tries or lab.sizes.recovery_tries):
        held, seconds = _try(lab, case)
        tries.append(seconds)
        if seconds is None:
            break
    known = [seconds for seconds in tries if seconds is not None]
    return {
        "longest_s": max(known) if len(known) == len(tries) else None,
        "tries_s": tries,
        "held": held,
        "limit_s": lab.sizes.recovery_seconds if None in tries else None,
    }


def _try(lab: Lab, case: Case) -> tuple[int, float | None]:
    """How many jobs the victim held, and after how long the last of them was attended to."""
    path = lab.folder / f"recovery-{time.monotonic_ns()}"
    lab.server.empty()
    with lab.started(case.peer, case.victim.command) as (victim,):
        marks.enqueue(lab.server, path, QUEUES, JOBS, JOB_SECONDS)
        if wait_until(path.exists, START) is None:
            raise NotStarted
        time.sleep(SETTLE)
        held = sorted(set(range(JOBS)) - _take_away_queued(lab))
        with lab.started(case.peer, case.survivor):
            time.sleep(SETTLE + random.random())  # anywhere between two heartbeats
            victim.kill_all()
            seconds = wait_until(
                lambda: not marks.unattended(lab.server, path, QUEUES, held), lab.sizes.recovery_seconds
            )
            return len(held), None if seconds is None else round(seconds, 3)


def _take_away_queued(lab: Lab) -> set[int]:
    """So that the survivor is idle, and every job that is left is the victim's."""
    with lab.server.client.pipeline(transaction=True) as pipeline:
        pipeline.lrange("rq:queue:default", 0, -1)
        pipeline.delete("rq:queue:default")
        return {int(job_id) for job_id in pipeline.execute()[0]}
