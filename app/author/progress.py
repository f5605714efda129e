"""How far a running job is: `progress.update(...)` and `progress.track(rows)`.

Outside a worker both do nothing, so that a function is called and tested as a plain one. In a worker the latest report
is sent twice a second at most, by a thread (app/worker/progress_reporter.py): it neither fails nor holds up the job.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

Row = TypeVar("Row")
Sink = Callable[[Any, Any, Any], None]

MAX_MESSAGE_CHARACTERS = 4096  # characters
MAX_EXACT_INTEGER = 2**53  # a larger whole number is no longer exact in every reader of JSON

latest: tuple[str, dict[str, Any]] = "", {}
"""The job whose progress this process has sent last, and the report."""
_sink: Sink | None = None


def report_to(sink: Sink | None) -> None:
    """Set where reports go: `sink` gets the arguments of `update`, and must neither raise nor wait."""
    global _sink
    _sink = sink


def update(current: float, total: float | None = None, message: str | None = None) -> None:
    """Say how far the job is: `current` of `total`, and what it is doing."""
    if _sink is not None:
        _sink(current, total, message)


def track(rows: Iterable[Row], total: int | None = None, message: str | None = None) -> Iterator[Row]:
    """Go through rows, reporting after each; `total` defaults to their length where they have one."""
    if total is None and hasattr(rows, "__len__"):
        total = len(rows)  # type: ignore[arg-type]
    for number, row in enumerate(rows, 1):
        yield row
        update(number, total, message)


def report(current: Any, total: Any, message: Any) -> dict[str, Any] | None:
    """What is kept of the arguments of `update`; None if `current` is no finite number.

    A `total` that is none becomes null. `percent` is from 0 to 100, and null unless the total is more than 0.
    """
    current_number, total_number = _number(current), _number(total)
    if current_number is None:
        return None
    percent = (
        round(min(100.0, max(0.0, 100 * (current_number / total_number))), 1)
        if total_number and total_number > 0
        else None
    )
    text = None if message is None else str(message)[:MAX_MESSAGE_CHARACTERS].encode(errors="replace").decode()
    return {"current": current_number, "total": total_number, "percent": percent, "message": text}


def _number(value: Any) -> float | None:
    if isinstance(value, int) and abs(value) <= MAX_EXACT_INTEGER:
        return int(value)
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
