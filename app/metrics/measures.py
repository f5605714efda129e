"""What is counted and measured of jobs: how many ended how or were enqueued by whom, run times and wait times."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import orjson

from app.metrics.histogram import Histogram

OUTCOMES = ("finished", "failed", "retried", "canceled", "stopped", "lost")
"""How an attempt or a job ended: `failed` for good, `retried` to be tried again, `lost` with its worker."""
SOURCES = ("api", "schedule", "workflow", "webhook")
"""What enqueued a job: a request, a schedule, a workflow, or an event that has a webhook."""


@dataclass
class Measures:
    """Redis keeps them as JSON: `c` the counts, `r` run times and `w` wait times (`Histogram.as_array`)."""

    counts: Counter[str] = field(default_factory=Counter)
    """How many jobs or attempts, by outcome and by source."""
    run: Histogram = field(default_factory=Histogram)
    """Seconds from the start of an attempt to its end."""
    wait: Histogram = field(default_factory=Histogram)
    """Seconds from being queued to the start."""

    def merge_json(self, text: bytes) -> None:
        """Add what `as_json` has made."""
        stored: dict[str, Any] = orjson.loads(text)
        for name, count in (stored.get("c") or {}).items():
            self.counts[name] += count
        if times := stored.get("r"):
            self.run.merge_array(times)
        if times := stored.get("w"):
            self.wait.merge_array(times)

    def as_json(self) -> bytes:
        parts: dict[str, Any] = {"c": dict(self.counts)} if self.counts else {}
        for name, histogram in (("r", self.run), ("w", self.wait)):
            if histogram.count:
                parts[name] = histogram.as_array()
        return orjson.dumps(parts)

    def merge(self, other: "Measures") -> None:
        self.counts.update(other.counts)
        self.run.merge(other.run)
        self.wait.merge(other.wait)

    @property
    def enqueued(self) -> int:
        return sum(self.counts[source] for source in SOURCES)

    @property
    def ended(self) -> int:
        return sum(self.counts[outcome] for outcome in OUTCOMES)
