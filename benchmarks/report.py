"""The table of a benchmark as Markdown, and the raw figures as JSON."""

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Found = dict[str, list[dict[str, Any]]]
"""For each row, its figures of each round in which it was measured."""


@dataclass(frozen=True)
class Column:
    """A figure's median over the rounds; of what is no number, the last."""

    title: str
    key: str
    digits: int = 0

    def value(self, found: Found, row: str) -> Any:
        values: list[Any] = [figures.get(self.key) for figures in found[row] if "error" not in figures]
        if values and all(isinstance(value, int | float) for value in values):
            return statistics.median(values)
        return values[-1] if values else None

    def text(self, value: Any) -> str:
        match value:
            case None:
                return "-"
            case int() | float():
                return f"{value:,.{self.digits}f}"
            case dict():
                return ", ".join(f"{count:,} {what}" for what, count in value.items()) or "0"
            case list():
                return " ".join(map(self.text, value))
        return str(value)


@dataclass(frozen=True)
class Ratio(Column):
    """The figure divided by that of another row in the same round, median over the rounds; `to` names the other row."""

    digits: int = 2
    to: Mapping[str, str] = field(default_factory=dict)

    def value(self, found: Found, row: str) -> float | None:
        base = {figures["round"]: figures.get(self.key) for figures in found.get(self.to[row], [])}
        pairs = [(figures.get(self.key), base.get(figures["round"])) for figures in found[row]]
        ratios = [mine / other for mine, other in pairs if mine and other]
        return statistics.median(ratios) if ratios else None


class Report:
    """All that a run has found so far; written after every figure."""

    def __init__(self, path: Path, machine: dict[str, Any]) -> None:
        self.path, self.machine = path, machine
        self.found: dict[str, Found] = {}

    def add(self, what: str, row: str, figures: dict[str, Any]) -> None:
        self.found.setdefault(what, {}).setdefault(row, []).append(figures)
        self.path.parent.mkdir(exist_ok=True)
        self.path.write_text(json.dumps({"machine": self.machine, **self.found}, indent=1) + "\n")


def table(title: str, columns: Sequence[Column], found: Found) -> str:
    """The rows that were measured; below it, why others were not."""
    lines = [
        f"## {title}",
        "",
        "| | " + " | ".join(column.title for column in columns) + " |",
        "|---|" + "---:|" * len(columns),
    ]
    for row in found:
        cells = (column.text(column.value(found, row)) for column in columns)
        lines.append(f"| {row} | " + " | ".join(cells) + " |")
    errors = [f"- {row}: {figures['error']}" for row in found for figures in found[row] if "error" in figures]
    return "\n".join([*lines, *([""] if errors else []), *errors, ""])
