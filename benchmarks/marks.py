"""The jobs that note their runs in a file, and what the file tells."""

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rq import Queue, Retry
from rq.serializers import JSONSerializer

from benchmarks.processes import is_alive
from benchmarks.server import Server

FINAL = {b"finished", b"failed", b"stopped", b"canceled"}
RETRIES = 10
KEEP = 3600  # seconds that a result is kept, longer than any run


@dataclass
class Run:
    """One run of a job; `end` is None if it did not come to its end, `raised` says that this was an exception."""

    pid: int
    start: float
    end: float | None = None
    raised: bool = False


def may_retry(number: int) -> bool:
    """Every second job has retries."""
    return number % 2 == 1


def enqueue(
    server: Server, path: Path, queues: Sequence[str], count: int, seconds: float, most: float | None = None
) -> None:
    """Jobs "0" to "count - 1", in turn on each queue, that each take so many seconds, or a random time up to `most`."""
    dice = random.Random(count)
    for place, name in enumerate(queues):
        queue = Queue(name, connection=server.client, serializer=JSONSerializer)
        jobs = [
            Queue.prepare_data(
                "jobs.bench.mark",
                (str(path), number, seconds if most is None else dice.uniform(seconds, most)),
                job_id=str(number),
                result_ttl=KEEP,
                retry=Retry(max=RETRIES) if may_retry(number) else None,
            )
            for number in range(place, count, len(queues))
        ]
        queue.enqueue_many(jobs)


def runs(path: Path) -> dict[int, list[Run]]:
    """Each job's runs in the order of their starts."""
    found: dict[int, list[Run]] = defaultdict(list)
    for line in path.read_text().splitlines() if path.exists() else []:
        event, number, at, pid = line.split()
        if event == "start":
            found[int(number)].append(Run(int(pid), float(at)))
        else:
            run = next(run for run in reversed(found[int(number)]) if run.pid == int(pid))
            run.end, run.raised = float(at), event == "raise"
    return found


def statuses(server: Server, numbers: Sequence[int]) -> dict[int, bytes | None]:
    """What each job's hash says; None where there is no hash."""
    with server.client.pipeline(transaction=False) as pipeline:
        for number in numbers:
            pipeline.hget(f"rq:job:{number}", "status")
        return dict(zip(numbers, pipeline.execute(), strict=True))


def queued(server: Server, queues: Sequence[str]) -> set[int]:
    with server.client.pipeline(transaction=True) as pipeline:
        for name in queues:
            pipeline.lrange(f"rq:queue:{name}", 0, -1)
        return {int(job_id) for ids in pipeline.execute() for job_id in ids}


def registered(server: Server, queues: Sequence[str]) -> set[int]:
    """Jobs that RQ holds as started or as taken from a queue."""
    with server.client.pipeline(transaction=True) as pipeline:
        for name in queues:
            pipeline.lrange(f"rq:queue:{name}:intermediate", 0, -1)
            pipeline.zrange(f"rq:wip:{name}", 0, -1)
        return {int(entry.split(b":")[0]) for entries in pipeline.execute() for entry in entries}


def unattended(server: Server, path: Path, queues: Sequence[str], numbers: Sequence[int]) -> set[int]:
    """Those of the jobs that have no end, are not queued, and whose last run was in a process that is dead."""
    of = runs(path)
    waiting = queued(server, queues)
    state = statuses(server, numbers)
    open_ones = (number for number in numbers if state[number] not in FINAL and number not in waiting)
    return {number for number in open_ones if not (of.get(number) and is_alive(of[number][-1].pid))}
