"""Progress of a running job: `progress.update(...)` and `progress.track(rows)`.

Outside a worker both do nothing, so a job can be called and tested as a plain function. In a worker a thread sends the
latest report, at most twice a second (app/worker/reporter.py). It never fails or delays the job.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

Row = TypeVar("Row")
Sink = Callable[[Any, Any, Any], None]

MAX_MESSAGE_CHARACTERS = 4096
MAX_EXACT_INTEGER = 2**53  # larger integers are not exact in every JSON reader

latest: dict[str, dict[str, Any]] = {}
"""Maps the id of each running job to the report that this process has sent last."""
_sink: Sink | None = None


def report_to(sink: Sink | None) -> None:
    """Set the receiver of reports. `sink` is called with the arguments of `update`; it must not raise or block."""
    global _sink
    _sink = sink


def update(current: float, total: float | None = None, message: str | None = None) -> None:
    """Report progress: `current` of `total`, and a message."""
    if _sink is not None:
        _sink(current, total, message)


def track(rows: Iterable[Row], total: int | None = None, message: str | None = None) -> Iterator[Row]:
    """Iterate over rows, reporting progress after each. `total` defaults to their length, if they have one."""
    if total is None and hasattr(rows, "__len__"):
        total = len(rows)  # type: ignore[arg-type]
    for number, row in enumerate(rows, 1):
        yield row
        update(number, total, message)


def report(current: Any, total: Any, message: Any) -> dict[str, Any] | None:
    """Make the stored report from the arguments of `update`; None if `current` is not a finite number.

    An invalid `total` becomes null. `percent` is from 0 to 100, and null unless `total` is above 0.
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
