"""SIGKILL of workers, or of their children, again and again; what died is started again at once."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.lab import Lab
from benchmarks.processes import Command
from benchmarks.workers import Worker

KINDS = ("parent", "children", "all")


@dataclass(frozen=True)
class Kill:
    """When, of what, and which processes the worker had."""

    at: float
    kind: str
    pids: set[int]


def kill_workers(
    lab: Lab,
    case: Worker,
    commands: list[Command],
    pause: Callable[[random.Random], float],
    going: Callable[[], bool],
    seconds: float,
) -> tuple[list[Kill], int]:
    """One of them after each pause, while it is `going`, and for so many seconds at most.

    The kills, and how many workers died that were not killed themselves. Each command is added to `commands`.
    """
    dice, crew, kills, died = random.Random(lab.seed), list(commands), list[Kill](), 0
    due = time.monotonic()
    end = due + seconds
    while going() and due < end:
        due += pause(dice)
        while time.monotonic() < due:
            for place, worker in enumerate(crew):
                if not worker.alive:
                    died += 1
                    crew[place] = lab.start(case.peer, case.command, **case.environment)
                    commands.append(crew[place])
            time.sleep(0.01)
        place, kind = dice.randrange(len(crew)), dice.choice(KINDS)
        at = time.monotonic()
        kills.append(Kill(at, kind, getattr(crew[place], f"kill_{kind}")()))
        if not crew[place].alive:
            crew[place] = lab.start(case.peer, case.command, **case.environment)
            commands.append(crew[place])
    return kills, died
