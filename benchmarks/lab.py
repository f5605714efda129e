"""What a benchmark works with: the server, a project in a folder of its own, and the commands it starts there."""

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import server
from benchmarks.environments import ENVIRONMENTS, PEERS, ROOT, bin_folder
from benchmarks.processes import Command
from benchmarks.server import Server

PRODUCERS = {"bullmq": ("node", PEERS / "peer_bullmq.js"), "sidekiq": ("ruby", PEERS / "peer_sidekiq.rb")}
"""Interpreter and program of peers that are not Python."""


@dataclass(frozen=True)
class Sizes:
    """How long and how much; seconds and jobs."""

    drain_seconds: float = 5.5
    latency_jobs: int = 300
    crowd: int = 1_000_000
    scale_jobs: int = 60_000
    memory_jobs: int = 5_000
    recovery_tries: int = 5
    recovery_seconds: float = 150
    chaos_jobs: int = 10_000
    chaos_stock_jobs: int = 3_000
    chaos_seconds: float = 180
    settle_seconds: float = 120
    schedules: int = 1_000
    ticks_seconds: float = 180
    load_seconds: int = 10
    bulk_seconds: int = 5
    graphs: int = 10_000
    graphs_seconds: float = 600
    lives_steps: int = 100_000


SMOKE = Sizes(0.4, 20, 2_000, 200, 50, 1, 25, 1_000, 300, 20, 25, 20, 30, 1, 1, 100, 30, 300)
"""Enough to see that a row works; its figures mean nothing."""


@dataclass
class Lab:
    """One run. `known` keeps the size of each drain from its first round to the last."""

    server: Server
    folder: Path
    sizes: Sizes
    seed: int
    known: dict[str, int] = field(default_factory=dict)

    def start(self, peer: str, command: tuple[str, ...], **environment: str) -> Command:
        program = str(bin_folder(peer) / command[0])
        words = [word.format(url=self.server.url) for word in command[1:]]
        return Command([program, *words], self.folder, self._environment() | environment)

    @contextmanager
    def started(
        self, peer: str, command: tuple[str, ...], copies: int = 1, **environment: str
    ) -> Iterator[list[Command]]:
        """That command `copies` times, until the end of the block."""
        commands: list[Command] = []
        try:
            for _ in range(copies):
                commands.append(self.start(peer, command, **environment))
            yield commands
        finally:
            for one in commands:
                one.stop()

    def drive(self, peer: str, operation: str, *words: object) -> Any:
        """An operation of the peer's producer, in its own environment: peers/drive.py says which there are."""
        if producer := PRODUCERS.get(peer):
            command = [bin_folder(peer) / producer[0], producer[1]]
        else:
            module = "peer_rq" if peer == "limit" else f"peer_{peer}"
            command = [bin_folder(peer) / "python", PEERS / "drive.py", module]
        found = subprocess.run(
            [*command, operation, *map(str, words)],
            cwd=self.folder,
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        if found.returncode:
            reason = found.stderr.strip().splitlines() or [f"exit code {found.returncode}"]
            raise RuntimeError(f"{operation} failed: {reason[-1]}")
        return json.loads(found.stdout.splitlines()[-1])

    def _environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TZ") if name in os.environ}
        modules = {"PYTHONPATH": f"{PEERS}:{self.folder}", "NODE_PATH": str(ENVIRONMENTS / "bullmq" / "node_modules")}
        return {**kept, **modules, "REDIS_URL": self.server.url}


@contextmanager
def opened(sizes: Sizes, seed: int, append_only: bool) -> Iterator[Lab]:
    """A server and a project with jobs/ of its own on the code of this repository."""
    with server.running(append_only) as found, tempfile.TemporaryDirectory(prefix="jobline-project-") as name:
        folder = Path(name)
        (folder / "app").symlink_to(ROOT / "app")
        (folder / "jobs").symlink_to(PEERS / "jobs")
        shutil.copy(ROOT / "scheduler.py", folder)  # a link would find the repository's own jobs/
        yield Lab(found, folder, sizes, seed)


def wait_until(condition: Callable[[], Any], seconds: float, every: float = 0.02) -> float | None:
    """How long it took until the condition was true; None if it was not within `seconds`."""
    start = time.monotonic()
    while not condition():
        if time.monotonic() - start > seconds:
            return None
        time.sleep(every)
    return time.monotonic() - start
