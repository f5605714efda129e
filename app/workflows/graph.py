"""The graph of a workflow, and its validation: unique names, known edges, no cycles, results only of earlier jobs."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from app.errors import Invalid
from app.workflows.results import Reference, find_references

HOOKS = ("on_success", "on_failure", "on_complete")
"""Names of the jobs that run after a workflow's end."""


@dataclass(frozen=True)
class Dependency:
    """A dependency of a node: node `name` must end before it. With `even_if_failed`, it may also fail."""

    name: str
    even_if_failed: bool = False


@dataclass
class Node:
    """One job of the graph; with `each`, one job per item, which becomes its last positional argument."""

    name: str
    function: str
    args: list[Any] = field(default_factory=list)
    kwargs: dict[str, Any] = field(default_factory=dict)
    after: list[Dependency] = field(default_factory=list)
    each: list[Any] | None = None
    pointer: str = "#"

    def calls(self) -> list[list[Any]]:
        """The positional arguments of each of its jobs."""
        return [self.args] if self.each is None else [[*self.args, item] for item in self.each]

    def dependencies(self) -> list[Dependency]:
        """All nodes that must end first: those in `after`, and those whose results it uses.

        The latter may be indirect, and still running when a node in between was canceled. A hook has no dependencies.
        """
        if self.name in HOOKS:
            return []
        direct = {dependency.name for dependency in self.after}
        referenced_jobs = dict.fromkeys(reference.job for _, reference in self.references())
        return [*self.after, *(Dependency(name, even_if_failed=True) for name in referenced_jobs if name not in direct)]

    def references(self) -> list[tuple[str, Reference]]:
        """The references in the arguments, each with its JSON pointer. Raises Invalid."""
        found_references = []
        arguments = {"args": self.args, "kwargs": self.kwargs, "each": self.each or []}
        for path, text in find_references(arguments):
            pointer = "/".join((self.pointer, *map(str, path)))
            try:
                found_references.append((pointer, Reference.parse(text)))
            except ValueError as error:
                raise _invalid([(str(error), pointer)]) from None
        return found_references


def check(nodes: list[Node], hooks: list[Node]) -> set[str]:
    """Validate a graph. Returns the names of the nodes whose results are used.

    Raises:
        Invalid: a name is used twice or unknown, there is a cycle, or a reference is not to an earlier job.
    """
    by_name = {node.name: node for node in reversed(nodes)}
    errors: list[tuple[str, str]] = []
    for number, node in enumerate(nodes):
        if by_name[node.name] is not node or node.name in HOOKS:
            errors.append((f"the name {node.name!r} is taken", f"{node.pointer}/name"))
        for index, dependency in enumerate(node.after):
            if dependency.name not in by_name:
                errors.append((f"there is no job {dependency.name!r}", f"#/jobs/{number}/after/{index}"))
    if errors:
        raise _invalid(errors)
    numbers = {node.name: number for number, node in enumerate(nodes)}
    ancestors = _ancestors(nodes, numbers)
    referenced: set[str] = set()
    for node in (*nodes, *hooks):
        is_hook = node.name in HOOKS
        for pointer, reference in node.references():
            referenced.add(reference.job)
            if reference.job not in by_name:
                errors.append((f"there is no job {reference.job!r}", pointer))
            elif not is_hook and not ancestors[node.name] >> numbers[reference.job] & 1:
                errors.append((f"{node.name!r} does not come after {reference.job!r}", pointer))
    if errors:
        raise _invalid(errors)
    return referenced


def _ancestors(nodes: Iterable[Node], numbers: dict[str, int]) -> dict[str, int]:
    """All direct and indirect predecessors of each node, as a set of bits: bit n is set for the node with number n.

    Sets of names would take gigabytes for a chain of 10,000 nodes.

    Raises:
        Invalid: there is a cycle.
    """
    remaining = {node.name: {dependency.name for dependency in node.after} for node in nodes}
    children: dict[str, list[str]] = {}
    for name, dependencies in remaining.items():
        for dependency in dependencies:
            children.setdefault(dependency, []).append(name)
    ancestors = dict.fromkeys(remaining, 0)
    ready = [name for name, dependencies in remaining.items() if not dependencies]
    visited = 0
    while ready:
        name = ready.pop()
        visited += 1
        for child in children.get(name, ()):
            ancestors[child] |= ancestors[name] | 1 << numbers[name]
            remaining[child].discard(name)
            if not remaining[child]:
                ready.append(child)
    if visited < len(remaining):
        cycle = sorted(name for name, dependencies in remaining.items() if dependencies)
        raise _invalid([(f"there is a cycle through {', '.join(cycle[:10])}", "#/jobs")])
    return ancestors


def _invalid(errors: list[tuple[str, str]]) -> Invalid:
    items = [{"detail": detail, "pointer": pointer} for detail, pointer in errors]
    return Invalid("The workflow is invalid", items)
