"""The check of `python -m benchmarks graphs` passes graphs that have ended right, and finds out all that did not."""

import itertools
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from benchmarks.graph_model import MANY, Found, Graph, Member, Outcome, all_members, model, problems, random_graph
from benchmarks.marks import Run

DONE, RAISED = Run(pid=1, start=1, end=2), Run(pid=1, start=1, end=2, raised=True)


def step(name: str, number: int, does: str, retries: int, after: Any = (), *results: str) -> dict[str, Any]:
    before = [{"$result": text} for text in results]
    said = {"args": ["path", 0, before, [number, does]], "retry": {"max": retries}}
    return {"name": name, "function": "bench.step", "after": list(after), **said}


GRAPH: Graph = {
    "on_error": "continue",
    "jobs": [
        step("first", 1, "works", MANY),
        step("second", 2, "works", 0, ["first"], "first"),
        step("bad", 3, "fails", 2, ["first"]),
        step("child", 4, "works", MANY, ["bad"]),
        step("anyway", 5, "works", MANY, [{"name": "bad", "even_if_failed": True}, "second"], "bad", "second"),
    ],
    "on_success": step("", 6, "works", MANY),
    "on_failure": step("", 7, "works", MANY, (), "anyway"),
}


def ended_right(graph: Graph, fate: Mapping[str, str] | None = None) -> Outcome:
    status, expected = model(graph, fate or {})
    jobs = {}
    for moment, member in enumerate(all_members(graph)):
        state, result = expected[member.name]
        ended = None if state == "canceled" else moment
        jobs[member.name] = Found(state, result, ended=ended, runs=() if ended is None else runs_of(member))
    counts = Counter(expected[name][0] for name in jobs if not name.startswith("on_"))
    return Outcome(status, dict(counts), jobs)


def runs_of(member: Member) -> tuple[Run, ...]:
    if member.does == "fails":
        return (RAISED,) * (member.retries + 1)
    return (RAISED, DONE) if member.does == "fails first" else (DONE,)


def changed(found: Outcome, name: str, **said: Any) -> Outcome:
    return replace(found, jobs={**found.jobs, name: replace(found.jobs[name], **said)})


def test_how_a_graph_must_end() -> None:
    status, jobs = model(GRAPH, {})
    assert status == "failed"
    assert {name: state for name, (state, _) in jobs.items()} == {
        "first": "finished",
        "second": "finished",
        "bad": "failed",
        "child": "canceled",
        "anyway": "finished",
        "on_success": "canceled",
        "on_failure": "finished",
    }


def test_graphs_that_ended_right_are_right() -> None:
    dice, numbers = random.Random(1), itertools.count()
    for _ in range(300):
        graph = {**random_graph(dice, "0", "path", numbers), "on_error": "continue"}
        assert list(problems(graph, ended_right(graph))) == []


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("second", {"result": 1}),
        ("second", {"status": "canceled", "result": None, "runs": (), "ended": None}),
        ("second", {"status": "failed", "result": None, "error": "ValueError: no", "runs": (RAISED,)}),
        ("second", {"status": "stopped"}),
        ("second", {"status": "gone", "result": None}),
        ("second", {"runs": ()}),
        ("second", {"runs": (DONE, DONE), "cut": frozenset({0})}),  # it has no retries
        ("first", {"runs": (DONE, DONE)}),
        ("first", {"runs": (DONE, DONE), "cut": frozenset({1})}),
        ("first", {"runs": (Run(pid=1, start=1),)}),
        ("first", {"status": "failed", "result": None, "error": "WorkerLost: it died", "runs": ()}),  # it has retries
        ("bad", {"runs": ()}),
        ("bad", {"runs": (RAISED,) * 4}),
        ("bad", {"runs": (RAISED, DONE)}),
        ("child", {"status": "queued"}),
        ("child", {"runs": (DONE,)}),
        ("child", {"runs": (DONE,), "cut": frozenset({0})}),
        ("on_success", {"status": "deferred"}),
        ("on_success", {"runs": (DONE,)}),
        ("on_failure", {"runs": (DONE, DONE)}),
        ("on_failure", {"status": "canceled", "result": None, "runs": ()}),
    ],
)
def test_what_ended_wrong_is_found_out(name: str, said: dict[str, Any]) -> None:
    assert list(problems(GRAPH, changed(ended_right(GRAPH), name, **said)))


@pytest.mark.parametrize(
    "said", [{"status": "finished"}, {"status": "running"}, {"counts": {"finished": 4, "failed": 1, "canceled": 1}}]
)
def test_so_is_what_is_said_of_the_whole(said: dict[str, Any]) -> None:
    assert list(problems(GRAPH, replace(ended_right(GRAPH), **said)))


def test_a_kill_explains_a_second_run_and_a_failure_without_retries() -> None:
    found = changed(ended_right(GRAPH), "first", runs=(DONE, DONE), cut=frozenset({0}))
    assert list(problems(GRAPH, found)) == []
    found = ended_right(GRAPH, {"second": "failed"})
    assert found.jobs["anyway"].status == "canceled"
    assert list(problems(GRAPH, found))
    found = changed(found, "second", error="WorkerLost: the worker died", cut=frozenset({0}))
    assert list(problems(GRAPH, found)) == []


def test_a_stop_cancels_what_was_queued_and_lets_nothing_begin() -> None:
    graph = {
        "on_error": "stop",
        "jobs": [
            step("bad", 1, "fails", 0),
            step("queued", 2, "works", MANY),
            step("runs", 3, "works", MANY),
            step("child", 4, "works", MANY, ["runs"]),
        ],
    }
    early = ended_right(graph)
    early = changed(early, "bad", ended=9)
    assert list(problems(graph, early)) == []
    late = changed(early, "runs", ended=10)
    assert list(problems(graph, late))  # its child must not have begun
    late = changed(late, "child", status="canceled", result=None, runs=(), ended=None)
    late = changed(late, "queued", status="canceled", result=None, runs=(), ended=None)
    late = replace(late, counts={"failed": 1, "finished": 1, "canceled": 2})
    assert list(problems(graph, late)) == []
    assert list(problems(graph, changed(late, "queued", runs=(DONE,))))
    assert list(problems({**graph, "on_error": "continue"}, late))
