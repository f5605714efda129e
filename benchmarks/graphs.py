"""graphs: random workflows on workers that are killed again and again, and the end of every graph accounted for."""

import itertools
import json
import math
import random
import time
import zlib
from base64 import b64decode
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from benchmarks import marks
from benchmarks.graph_model import QUEUES, Found, Graph, Member, Outcome, all_members, problems, random_graph
from benchmarks.kills import kill_workers
from benchmarks.lab import Lab, wait_until
from benchmarks.marks import Run
from benchmarks.processes import Command
from benchmarks.report import Column
from benchmarks.workers import JOBLINE, SCHEDULER, Worker

ROWS = (Worker("jobline 3", "jobline", (*JOBLINE, *QUEUES)),)
TITLE = "Graphs: random workflows, SIGKILL at random moments of a worker's parent, its children, or both"
COLUMNS = (
    Column("graphs", "graphs"),
    Column("jobs", "jobs"),
    Column("of them ran", "ran"),
    Column("seconds", "seconds"),
    Column("jobs/s", "jobs_per_s"),
    Column("kills", "kills"),
    Column("wrong", "wrong"),
    Column("stuck", "stuck"),
    Column("run twice", "run_twice"),
    Column("without retries, and failed by a kill", "failed_by_kill"),
    Column("graphs by status", "statuses"),
)
EACH_ROUND = False
WORKERS = 3
LONGEST = 1.5  # seconds between two kills, at random
OPEN = 1000  # graphs that have not ended, at most
START = 20.0  # seconds for the first job to start
SLACK = 0.5  # seconds between a job's end and the moment that its process has told Redis so, on a busy machine
SHOWN = 20  # graphs that are wrong or stuck

FLOWS, FLOWS_OPEN, STOPPING = "jobline:workflows", "jobline:workflows:open", "jobline:workflows:stopping"
ENDED = ("finished", "failed", "stopped", "canceled")
HELD = ("wip", "deferred", "scheduled")
"""The registries of jobs that have not ended."""


def measure(lab: Lab, case: Worker) -> dict[str, object]:
    lab.server.empty()
    path = lab.folder / "graphs"
    graphs = _make(lab, path)
    begin = time.monotonic()
    feeder = ("python", "-m", "submit", str(path.with_suffix(".json")), str(OPEN))
    with (
        lab.started(case.peer, SCHEDULER),
        lab.started(case.peer, feeder) as (feeding,),
        lab.started(case.peer, case.command, WORKERS) as commands,
    ):
        wait_until(lambda: path.exists() or not feeding.alive, START)
        kills, died = kill_workers(
            lab,
            case,
            commands,
            pause=lambda dice: dice.uniform(0, LONGEST),
            going=lambda: feeding.alive or lab.server.client.scard(FLOWS_OPEN) > 0,
            seconds=lab.sizes.graphs_seconds,
        )
        wait_until(lambda: not _unsettled(lab), lab.sizes.settle_seconds, every=0.2)
        seconds = time.monotonic() - begin
        _check_submitted(lab, feeding, graphs)
    stuck, runs = _unsettled(lab), marks.runs(path)
    wrong = dict[str, list[str]]()
    statuses, twice, by_kill = Counter[str](), 0, 0
    for flow, graph, found in _outcomes(lab, graphs, runs, {pid: kill.at for kill in kills for pid in kill.pids}):
        statuses[found.status] += 1
        twice += sum(not all(run.raised for run in job.runs[:-1]) for job in found.jobs.values())
        by_kill += sum(job.lost for job in found.jobs.values())
        if flow not in stuck and (said := list(problems(graph, found))):
            wrong[flow] = said
    return {
        "graphs": len(graphs),
        "seed": lab.seed,
        "jobs": sum(len(all_members(graph)) for graph in graphs),
        "ran": len(runs),
        "seconds": round(seconds, 1),
        "jobs_per_s": round(len(runs) / seconds),
        "kills": dict(Counter(kill.kind for kill in kills)),
        "died": died,
        "wrong": len(wrong),
        "stuck": len(stuck),
        "run_twice": twice,
        "failed_by_kill": by_kill,
        "statuses": dict(statuses),
        "examples": [*wrong.items(), *((flow, sorted(why)) for flow, why in stuck.items())][:SHOWN],
    }


def _make(lab: Lab, path: Path) -> list[Graph]:
    """Named by their places, and written where the feeder finds them."""
    dice, numbers = random.Random(lab.seed), itertools.count()
    graphs = [random_graph(dice, str(place), str(path), numbers) for place in range(lab.sizes.graphs)]
    path.with_suffix(".json").write_text("".join(f"{json.dumps(graph)}\n" for graph in graphs))
    return graphs


def _check_submitted(lab: Lab, feeding: Command, graphs: list[Graph]) -> None:
    count = lab.server.client.zcard(FLOWS)
    if feeding.alive or feeding.process.returncode or count != len(graphs):
        raise RuntimeError(f"{count} graphs were submitted, of {len(graphs)}")


def _unsettled(lab: Lab) -> dict[str, set[str]]:
    """The workflows of which something has not ended, and where that is found."""
    found: dict[str, set[str]] = {}
    with lab.server.client.pipeline(transaction=True) as pipeline:
        for key in (FLOWS_OPEN, STOPPING):
            pipeline.smembers(key)
        for queue in QUEUES:
            pipeline.lrange(f"rq:queue:{queue}", 0, -1)
            for registry in HELD:
                pipeline.zrange(f"rq:{registry}:{queue}", 0, -1)
        places = (FLOWS_OPEN, STOPPING, *(f"{kind} {queue}" for queue in QUEUES for kind in ("queue", *HELD)))
        for place, ids in zip(places, pipeline.execute(), strict=True):
            for one in ids:
                found.setdefault(one.decode().partition("-")[0], set()).add(f"{place}: {one.decode()}")
    return found


def _outcomes(
    lab: Lab, graphs: list[Graph], runs: dict[int, list[Run]], killed: dict[int, float]
) -> Iterator[tuple[str, Graph, Outcome]]:
    """With each workflow's id."""
    cut = _cut(runs, killed)
    for raw in lab.server.client.zrange(FLOWS, 0, -1):
        flow = raw.decode()
        key = f"jobline:workflow:{flow}"
        name, status, *counts = lab.server.client.hmget(key, "name", "status", *(f"count:{state}" for state in ENDED))
        graph = graphs[int(name)]
        known = {state: int(count) for state, count in zip(ENDED, counts, strict=True) if int(count or 0)}
        yield flow, graph, Outcome(status.decode(), known, _jobs(lab, flow, all_members(graph), runs, cut))


def _jobs(
    lab: Lab, flow: str, members: list[Member], runs: dict[int, list[Run]], cut: set[tuple[int, int]]
) -> dict[str, Found]:
    with lab.server.client.pipeline(transaction=False) as pipeline:
        for member in members:
            pipeline.hget(f"rq:job:{flow}-{member.name}", "status")
            pipeline.xrevrange(f"rq:results:{flow}-{member.name}", count=1)
        answers = pipeline.execute()
    found = {}
    for member, status, results in zip(members, answers[::2], answers[1::2], strict=True):
        state = status.decode() if status else "gone"
        mine = tuple(runs.get(member.number, ()))
        places = frozenset(place for place in range(len(mine)) if (member.number, place) in cut)
        moment, result = results[0] if results and state in ("finished", "failed") else (b"", {})
        value = result.get(b"return_value")
        found[member.name] = Found(
            state,
            json.loads(b64decode(value)) if value else None,
            _last_line(result.get(b"exc_string")),
            int(moment.partition(b"-")[0]) if moment else None,
            mine,
            places,
        )
    return found


def _cut(runs: dict[int, list[Run]], killed: dict[int, float]) -> set[tuple[int, int]]:
    """The job and the place of each run that was its process's last one, if that process was killed, not long after.

    A process begins no other job before it has told Redis of the end of the one before. `killed`: when, by its id.
    """
    last: dict[int, tuple[float, int, int]] = {}
    for number, mine in runs.items():
        for place, run in enumerate(mine):
            last[run.pid] = max(last.get(run.pid, (0.0, 0, 0)), (run.start, number, place))
    return {
        (number, place)
        for pid, (_, number, place) in last.items()
        if pid in killed and killed[pid] <= (runs[number][place].end or math.inf) + SLACK
    }


def _last_line(text: bytes | None) -> str:
    """Of an exception, as RQ keeps it."""
    return zlib.decompress(b64decode(text)).decode().strip().splitlines()[-1] if text else ""
