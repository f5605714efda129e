"""What a workflow is made of, and what must be true of it: names, edges, no cycle, results only of what came before."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from app.errors import Invalid
from app.workflows.results import Reference, found_in

HOOKS = ("on_success", "on_failure", "on_complete")
"""Names of the jobs that follow a workflow's end."""


@dataclass(frozen=True)
class Need:
    """A job that must have ended before."""

    name: str
    even_if_failed: bool = False


@dataclass
class Node:
    """One job of the graph, or with `each` one for each item, which is its last positional argument."""

    name: str
    function: str
    args: list[Any] = field(default_factory=list)
    kwargs: dict[str, Any] = field(default_factory=dict)
    after: list[Need] = field(default_factory=list)
    each: list[Any] | None = None
    pointer: str = "#"

    def calls(self) -> list[list[Any]]:
        """The positional arguments of each of its jobs."""
        return [self.args] if self.each is None else [[*self.args, item] for item in self.each]

    def needs(self) -> list[Need]:
        """All that must have ended before it begins: what it comes after, and whose results it takes.

        Those may be further up, and not have ended when what is between was canceled. A hook comes after everything.
        """
        if self.name in HOOKS:
            return []
        known = {need.name for need in self.after}
        taken = dict.fromkeys(reference.job for _, reference in self.references())
        return [*self.after, *(Need(name, even_if_failed=True) for name in taken if name not in known)]

    def references(self) -> list[tuple[str, Reference]]:
        """With the pointer to each. Raises Invalid."""
        found = []
        said = {"args": self.args, "kwargs": self.kwargs, "each": self.each or []}
        for place, text in found_in(said):
            pointer = "/".join((self.pointer, *map(str, place)))
            try:
                found.append((pointer, Reference.parse(text)))
            except ValueError as error:
                raise _bad([(str(error), pointer)]) from None
        return found


def check(nodes: list[Node], hooks: list[Node]) -> set[str]:
    """The names of those whose results are needed.

    Raises:
        Invalid: a name comes twice or is unknown, there is a cycle, or a result is of a job that is not needed.
    """
    by_name = {node.name: node for node in reversed(nodes)}
    errors: list[tuple[str, str]] = []
    for number, node in enumerate(nodes):
        if by_name[node.name] is not node or node.name in HOOKS:
            errors.append((f"the name {node.name!r} is taken", f"{node.pointer}/name"))
        for place, need in enumerate(node.after):
            if need.name not in by_name:
                errors.append((f"there is no job {need.name!r}", f"#/jobs/{number}/after/{place}"))
    if errors:
        raise _bad(errors)
    before = _ancestors(nodes)
    wanted: set[str] = set()
    for node in (*nodes, *hooks):
        known = by_name.keys() if node in hooks else before[node.name]
        for pointer, reference in node.references():
            wanted.add(reference.job)
            if reference.job not in by_name:
                errors.append((f"there is no job {reference.job!r}", pointer))
            elif reference.job not in known:
                errors.append((f"{node.name!r} does not come after {reference.job!r}", pointer))
    if errors:
        raise _bad(errors)
    return wanted


def _ancestors(nodes: Iterable[Node]) -> dict[str, set[str]]:
    """All that each comes after. Raises Invalid: there is a cycle."""
    waiting = {node.name: {need.name for need in node.after} for node in nodes}
    needed_by: dict[str, list[str]] = {}
    for name, needs in waiting.items():
        for need in needs:
            needed_by.setdefault(need, []).append(name)
    before: dict[str, set[str]] = {name: set() for name in waiting}
    ready = [name for name, needs in waiting.items() if not needs]
    seen = 0
    while ready:
        name = ready.pop()
        seen += 1
        for child in needed_by.get(name, ()):
            before[child] |= before[name] | {name}
            waiting[child].discard(name)
            if not waiting[child]:
                ready.append(child)
    if seen < len(waiting):
        cycle = sorted(name for name, needs in waiting.items() if needs)
        raise _bad([(f"there is a cycle: it goes through {', '.join(cycle[:10])}", "#/jobs")])
    return before


def _bad(errors: list[tuple[str, str]]) -> Invalid:
    items = [{"detail": detail, "pointer": pointer} for detail, pointer in errors]
    return Invalid("This is no workflow that can be run", items)
