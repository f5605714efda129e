"""How far a running job is: `progress.update(...)` and `progress.track(rows)`.

Outside a worker both do nothing, so that a function is called and tested as a plain one. In a worker the job's meta
carries `progress`, written at most twice a second, and at once when it is complete.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Row = TypeVar("Row")
Sink = Callable[[dict[str, object]], None]

WRITE_EVERY = 0.5

_sink: Sink | None = None
_written_at = 0.0


def report_to(sink: Sink | None) -> None:
    """Where reports go while a job runs; the worker sets it before, and clears it after, each job."""
    global _sink, _written_at
    _sink, _written_at = sink, 0.0


def update(current: float, total: float | None = None, message: str | None = None) -> None:
    """Say how far the job is: `current` of `total`, and what it is doing."""
    global _written_at
    if _sink is None:
        return
    now, complete = time.monotonic(), total is not None and current >= total
    if complete or now - _written_at >= WRITE_EVERY:
        _written_at = now
        percent = round(100 * current / total, 1) if total else None
        _sink({"current": current, "total": total, "percent": percent, "message": message})


def track(rows: Iterable[Row], total: int | None = None, message: str | None = None) -> Iterator[Row]:
    """Go through rows, reporting after each; `total` defaults to their length where they have one."""
    if total is None and hasattr(rows, "__len__"):
        total = len(rows)  # type: ignore[arg-type]
    for number, row in enumerate(rows, 1):
        yield row
        update(number, total, message)
