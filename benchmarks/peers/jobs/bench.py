"""The jobs that are measured."""

import os
import time


def noop(i: int) -> int:
    """Return the argument."""
    return i


def stamp() -> float:
    """Say when it ran."""
    return time.time()


def mark(path: str, number: int, seconds: float) -> int:
    """Sleep, and note start and end in a file, which tells of every run even if Redis does not."""
    _note(path, "start", number)
    time.sleep(seconds)
    _note(path, "end", number)
    return number


def _note(path: str, event: str, number: int) -> None:
    line = f"{event} {number} {time.monotonic()} {os.getpid()}\n"
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, line.encode())  # one write: lines of several processes never mix
    os.close(file)
