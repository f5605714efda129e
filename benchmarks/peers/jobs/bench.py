"""The jobs that are measured."""

import asyncio
import json
import os
import time
import zlib

SECONDS = float(os.environ.get("JOB_SECONDS", "0"))


def noop(i: int) -> int:
    """Return the argument, after JOB_SECONDS if that is set."""
    if SECONDS:
        time.sleep(SECONDS)
    return i


async def async_noop(i: int) -> int:
    """Return the argument, after awaiting JOB_SECONDS if that is set."""
    if SECONDS:
        await asyncio.sleep(SECONDS)
    return i


def stamp() -> float:
    """Say when it ran."""
    return time.time()


async def async_stamp() -> float:
    """Say when it ran."""
    return time.time()


def mark(path: str, number: int, seconds: float) -> int:
    """Sleep, and note start and end in a file, which tells of every run even if Redis does not."""
    _note(path, "start", number)
    time.sleep(seconds)
    _note(path, "end", number)
    return number


def step(path: str, seconds: float, before: list[object], me: tuple[int, str]) -> int:
    """A job of a graph, `me` its number and what it does: "works", "fails", or "fails first" (in its first run).

    The result tells of all results that it was given.
    """
    number, does = me
    _note(path, "start", number)
    time.sleep(seconds)
    if does == "fails" or (does == "fails first" and _is_new(f"{path}-{number}")):
        _note(path, "raise", number)
        raise RuntimeError(does)
    _note(path, "end", number)
    return zlib.crc32(json.dumps([number, before]).encode())


def _is_new(path: str) -> bool:
    """Whether this makes the file."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def _note(path: str, event: str, number: int) -> None:
    line = f"{event} {number} {time.monotonic()} {os.getpid()}\n"
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, line.encode())  # one write: lines of several processes never mix
    os.close(file)
