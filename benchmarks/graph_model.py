"""Random graphs of jobs, and how each must end: worked out from its JSON alone, with no help of the service."""

import json
import random
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.marks import Run

Graph = dict[str, Any]
"""The body of POST /workflows."""
Node = dict[str, Any]
"""One of its jobs, or a hook."""
HOOKS = ("on_success", "on_failure", "on_complete")
MANY = 20  # retries: more than kills can use up
RETRIES = {MANY: 70, 0: 25, 2: 5}
"""With which weight a job has so many."""
DOES: dict[int, dict[str, int]] = {MANY: {"works": 9, "fails first": 1}, 0: {"works": 3, "fails": 1}, 2: {"fails": 1}}
"""What it may do then, with which weight. With MANY it finishes whoever is killed; with none a kill fails it."""
PARENTS = (0, 1, 1, 2, 2, 3)
SECONDS = (0, 0, 0.001, 0.005, 0.02)
QUEUES = ("high", "default", "low")
LOST = ("WorkerLost", "WorkHorseTerminated")


@dataclass(frozen=True)
class Member:
    """One job of a node: `name` is what stands behind the workflow's id in its own."""

    name: str
    number: int
    does: str
    retries: int


@dataclass(frozen=True)
class Found:
    """What became of a job."""

    status: str
    result: object = None
    error: str = ""
    ended: int | None = None
    """When Redis heard of it, in its own milliseconds; None if it was canceled."""
    runs: tuple[Run, ...] = ()
    cut: frozenset[int] = frozenset()
    """The places of the runs that may have been cut by a kill."""

    @property
    def lost(self) -> bool:
        return self.status == "failed" and self.error.startswith(LOST)

    def excused(self, runs: int) -> bool:
        """Whether each of so many first runs raised, or was cut."""
        return all(run.raised or place in self.cut for place, run in enumerate(self.runs[:runs]))


@dataclass(frozen=True)
class Outcome:
    """What became of a graph, each job by its member's name."""

    status: str
    counts: dict[str, int]
    jobs: Mapping[str, Found]


def random_graph(dice: random.Random, name: str, path: str, numbers: Iterator[int]) -> Graph:
    """Two to twelve nodes, some with several jobs each; `path` is where they note their runs."""
    nodes: list[Node] = []
    before: dict[str, set[str]] = {}
    for place in range(dice.randint(2, 12)):
        parents = {one["name"]: one for one in dice.sample(nodes, min(len(nodes), dice.choice(PARENTS)))}
        even = {parent for parent in parents if dice.random() < 0.2}
        node = _job(dice, path, numbers, _references(dice, parents, even, before), dice.random() < 0.1)
        node |= {
            "name": f"n{place}",
            "after": [{"name": p, "even_if_failed": True} if p in even else p for p in parents],
        }
        before[node["name"]] = {*parents, *(one for parent in parents for one in before[parent])}
        nodes.append(node)
    hooks = {hook: _hook(dice, path, numbers, nodes) for hook in HOOKS if dice.random() < 0.3}
    return {"name": name, "jobs": nodes, "on_error": dice.choice(("continue", "continue", "continue", "stop")), **hooks}


def _job(dice: random.Random, path: str, numbers: Iterator[int], before: list[object], many: bool) -> Node:
    [retries] = dice.choices([*RETRIES], [*RETRIES.values()])
    does = DOES[retries]
    count = dice.randint(1, 5) if many else 1
    items = [[next(numbers), one] for one in dice.choices([*does], [*does.values()], k=count)]
    said: Node = {"queue": dice.choice(QUEUES), "at_front": dice.random() < 0.1}
    if retries:
        said["retry"] = {"max": retries, "intervals": [dice.choice((0, 0, 0, 1))]}
    if dice.random() < 0.03:
        said["delay"] = 1
    args = [path, dice.choice(SECONDS), before]
    return {
        "function": "bench.step",
        "args": args if many else [*args, *items],
        **({"each": items} if many else {}),
        **said,
    }


def _hook(dice: random.Random, path: str, numbers: Iterator[int], nodes: list[Node]) -> Node:
    before = [{"$result": node["name"]} for node in dice.sample(nodes, 2)]
    retry = {"max": MANY, "intervals": [0]}
    return {"function": "bench.step", "args": [path, 0, before, [next(numbers), "works"]], "retry": retry}


def _references(
    dice: random.Random, parents: Mapping[str, Node], even: set[str], before: Mapping[str, set[str]]
) -> list[object]:
    """To most of the parents, to one item of a parent that must have finished, to some that come before them."""
    texts = [name for name in parents if dice.random() < 0.8]
    sure = [name for name in texts if "each" in parents[name] and name not in even]
    texts += [f"{name}[{dice.randrange(len(parents[name]['each']))}]" for name in sure]
    above = sorted({one for parent in parents for one in before[parent]} - {*parents})
    texts += dice.sample(above, min(len(above), dice.randrange(2)))
    return [{"$result": text} for text in texts]


def members(name: str, node: Node) -> list[Member]:
    items = node.get("each", [node["args"][-1]])
    names = [f"{name}-{place}" for place in range(len(items))] if "each" in node else [name]
    retries = node.get("retry", {"max": 0})["max"]
    return [Member(name, number, does, retries) for name, (number, does) in zip(names, items, strict=True)]


def all_members(graph: Graph) -> list[Member]:
    """Those of the hooks too."""
    named = [(node["name"], node) for node in graph["jobs"]] + [(hook, graph[hook]) for hook in HOOKS if hook in graph]
    return [member for name, node in named for member in members(name, node)]


def model(graph: Graph, fate: Mapping[str, str]) -> tuple[str, dict[str, tuple[str, int | None]]]:
    """The state of the workflow, and that of each job with its result.

    `fate` is what no model can know: which jobs without retries a kill has failed, and which a stop found in a queue.
    """
    jobs: dict[str, tuple[str, int | None]] = {}
    results: dict[str, Any] = {}
    good: dict[str, bool] = {}

    def run(name: str, node: Node, begins: bool) -> None:
        before, mine = [_filled(one["$result"], results) for one in node["args"][2]], members(name, node)
        for member in mine:
            able = fate.get(member.name) or ("failed" if member.does == "fails" else "finished")
            state = able if begins else "canceled"
            jobs[member.name] = state, _result(member.number, before) if state == "finished" else None
        values = [jobs[member.name][1] for member in mine]
        results[name] = values if "each" in node else values[0]
        good[name] = all(jobs[member.name][0] == "finished" for member in mine)

    for node in graph["jobs"]:
        run(node["name"], node, all(even or good[parent] for parent, even in _needs(node)))
    status = "finished" if all(good.values()) else "failed"
    wanted = {"on_success": status == "finished", "on_failure": status == "failed", "on_complete": True}
    for hook in (hook for hook in HOOKS if hook in graph):
        run(hook, graph[hook], wanted[hook])
    return status, jobs


def problems(graph: Graph, found: Outcome) -> Iterator[str]:
    """All that did not end as it must."""
    mine = all_members(graph)
    of_nodes = [member.name for member in mine if member.name not in HOOKS]
    failures = [found.jobs[name].ended or 0 for name in of_nodes if found.jobs[name].status == "failed"]
    stops = graph["on_error"] == "stop" and bool(failures)
    lost = {one.name: "failed" for one in mine if not one.retries and found.jobs[one.name].lost}
    stopped = {name: "canceled" for name in of_nodes if stops and found.jobs[name].status == "canceled"}
    status, expected = model(graph, lost | stopped)
    if found.status != status:
        yield f"it is {found.status}, not {status}"
    counts = Counter(expected[name][0] for name in of_nodes)
    if Counter(found.counts) != counts:
        yield f"it counts {found.counts}, not {dict(counts)}"
    for member in mine:
        job, must_be = found.jobs[member.name], expected[member.name]
        if (job.status, job.result) != must_be:
            yield f"{member.name} is {(job.status, job.result)}, not {must_be}: {job.error}"
        elif wrong := _wrong_runs(member, job, member.name in stopped):
            yield f"{member.name}, which is {job.status}, {wrong}: {job.runs}, cut {set(job.cut)}"
    if stops:
        yield from _late(graph, found, min(failures))


def _wrong_runs(member: Member, job: Found, stopped: bool) -> str:
    """What is wrong with how often it ran."""
    count = len(job.runs)
    if count > member.retries + 1:
        return f"ran more often than its {member.retries} retries allow"
    if job.status == "finished":
        if not count or job.runs[-1].raised or job.runs[-1].end is None:
            return "did not run to its end"
        return "" if job.excused(count - 1) else "ran again, and no kill explains it"
    if job.status == "canceled" and not stopped:
        return "ran" if count else ""
    if job.status == "failed" and not (count or job.lost):
        return "never ran"
    return "" if job.excused(count) else "ran to its end"


def _late(graph: Graph, found: Outcome, failed: int) -> Iterator[str]:
    """After the failure for which a graph stops nothing begins that waited for others until then."""
    ends: dict[str, list[int | None]] = {}
    for node in graph["jobs"]:
        mine = [found.jobs[member.name] for member in members(node["name"], node)]
        ends[node["name"]] = [job.ended for job in mine]
        before = [ended for parent, _ in _needs(node) for ended in ends[parent]]
        if any(job.runs for job in mine) and any(ended is None or ended > failed for ended in before):
            yield f"{node['name']} ran, and what it waited for ended at {before}, after a failure at {failed}"


def _needs(node: Node) -> list[tuple[str, bool]]:
    """(name, whether even if it failed)."""
    return [(one, False) if isinstance(one, str) else (one["name"], one["even_if_failed"]) for one in node["after"]]


def _filled(text: str, results: Mapping[str, Any]) -> object:
    name, _, place = text.partition("[")
    return results[name][int(place.removesuffix("]"))] if place else results[name]


def _result(number: int, before: list[object]) -> int:
    """As the job itself makes it, of the results of those before it."""
    return zlib.crc32(json.dumps([number, before]).encode())
