"""What the graph of a workflow may be."""

import tracemalloc
from typing import Any

import pytest

from app.errors import Invalid
from app.workflows.graph import Dependency, Node, check


def node(name: str, *after: str, args: list[Any] | None = None) -> Node:
    return Node(name, "demo.add", args or [], after=[Dependency(earlier) for earlier in after], pointer=f"#/{name}")


def errors_of(nodes: list[Node], hooks: list[Node]) -> list[dict[str, str]]:
    with pytest.raises(Invalid) as caught:
        check(nodes, hooks)
    return caught.value.errors or []


def test_results_of_earlier_jobs_may_be_used_indirect_ones_too() -> None:
    nodes = [node("c", "b", args=[{"$result": "a"}]), node("b", "a"), node("a")]
    hooks = [node("on_complete", args=[{"$result": "c"}])]
    assert check(nodes, hooks) == {"a", "c"}


@pytest.mark.parametrize("other", ["b", "c"], ids=["unrelated", "later"])
def test_results_of_other_jobs_may_not(other: str) -> None:
    nodes = [node("a", args=[{"$result": other}]), node("b"), node("c", "a")]
    assert errors_of(nodes, []) == [{"detail": f"'a' does not come after '{other}'", "pointer": "#/a/args/0"}]


def test_a_cycle_is_refused() -> None:
    nodes = [node("a"), node("b", "a", "d"), node("c", "b"), node("d", "c")]
    assert errors_of(nodes, []) == [{"detail": "there is a cycle through b, c, d", "pointer": "#/jobs"}]


def test_a_chain_of_10_000_jobs_takes_little_memory() -> None:
    nodes = [node("n0"), *(node(f"n{number}", f"n{number - 1}") for number in range(1, 10_000))]
    nodes[-1].args = [{"$result": "n0"}]
    tracemalloc.start()
    try:
        assert check(nodes, []) == {"n0"}
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()
