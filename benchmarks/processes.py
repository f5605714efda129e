"""Commands that are started, followed and killed with all their children; each by its process id, and no other."""

import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil

PATIENCE = 5.0  # seconds that a command gets to end on SIGTERM


class Command:
    """A command in a session of its own. A kill answers the ids of all processes that it had then."""

    def __init__(self, words: list[str], folder: Path, environment: dict[str, str]) -> None:
        self.process = psutil.Popen(
            words,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._orphans: list[psutil.Process] = []

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def kill_parent(self) -> set[int]:
        """Its children live on, and are killed by `stop` if they still do then."""
        children = self._children()
        self._orphans += children
        self._end()
        return {self.process.pid, *(child.pid for child in children)}

    def kill_children(self) -> set[int]:
        children = self._children()
        _kill(children)
        return {self.process.pid, *(child.pid for child in children)}

    def kill_all(self) -> set[int]:
        """The parent is halted first, so that it can make no further child."""
        if self.alive:
            self.process.suspend()
        children = self._children()
        _kill(children)
        self._end()
        return {self.process.pid, *(child.pid for child in children)}

    def stop(self) -> None:
        """SIGTERM, and what is left after PATIENCE is killed."""
        children = self._children()
        if self.alive:
            self.process.terminate()
            with suppress(psutil.TimeoutExpired):
                self.process.wait(PATIENCE)
        _kill([*children, *self._orphans])
        self._end()

    def _end(self) -> None:
        _kill([self.process])
        self.process.wait(PATIENCE)

    def _children(self) -> list[psutil.Process]:
        with suppress(psutil.NoSuchProcess):
            return self.process.children(recursive=True)
        return []


def is_alive(pid: int) -> bool:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def _kill(processes: Sequence[psutil.Process]) -> None:
    """Returns when they are dead, though perhaps not reaped by their parent."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    end = time.monotonic() + PATIENCE
    while any(is_alive(process.pid) for process in processes) and time.monotonic() < end:
        time.sleep(0.001)
