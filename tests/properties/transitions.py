"""The transitions of a job that docs/architecture.md draws, and those that were seen."""

import re
from collections import Counter
from collections.abc import Iterable
from functools import cache
from pathlib import Path

DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "architecture.md"
ARROW = re.compile(r"^\s*(\[\*\]|\w+) --> (\[\*\]|\w+)$", re.MULTILINE)
NONE = "[*]"
"""No job: before it is made, and after it was deleted."""

Transition = tuple[str, str]


@cache
def drawn() -> frozenset[Transition]:
    """The arrows of the state diagram."""
    _, _, diagram = DOCUMENT.read_text().partition("stateDiagram-v2\n")
    return frozenset(ARROW.findall(diagram.partition("```")[0]))


def undrawn(seen: Iterable[Transition]) -> set[Transition]:
    return set(seen) - drawn()


seen = Counter[Transition]()
"""How often each transition was made in this process."""
