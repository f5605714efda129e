"""Clocks of real processes that jump by an hour: nothing alive is given up, and what is delayed goes on."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
from rq import Queue, Retry
from rq.serializers import JSONSerializer

from app.catalog.catalog import Catalog
from app.enqueue.new_job import prepare
from app.enqueue.write import enqueue
from app.lifecycle.lost_workers import LOOKS_BEFORE_LOST, SWEEP_INTERVAL_SECONDS
from app.redis.client import now
from app.redis.keys import CLOCK
from app.schedules import manage
from app.schedules.rule import Schedule
from app.settings import Settings
from tests.conftest import RQ_WORKER, Project, Server, status, until

HOUR = 3600
GIVEN_UP_AFTER = LOOKS_BEFORE_LOST * SWEEP_INTERVAL_SECONDS + 6  # seconds until a dead worker would have been given up
EVERY = ("redis", "scheduler", "worker")
SLEEP = "import select, time\ntime.sleep = lambda seconds: select.select([], [], [], seconds) and None\n"
"""faketime 0.9.10 breaks Python's own, which sleeps until a moment of the monotonic clock."""
pytestmark = pytest.mark.needs("faketime")


class Clocks:
    """Wall clocks of processes, which jump when they are told to; monotonic clocks are left alone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        (folder / "sitecustomize.py").write_text(SLEEP)

    def environment(self, part: str) -> dict[str, str]:
        self.jump(part, 0)
        return {
            "FAKETIME_TIMESTAMP_FILE": str(self.folder / part),
            "FAKETIME_NO_CACHE": "1",
            "DONT_FAKE_MONOTONIC": "1",
            "LD_PRELOAD": library(),
            "PYTHONPATH": str(self.folder),
        }

    def jump(self, part: str, seconds: int) -> None:
        whole = self.folder / f"{part}.new"
        whole.write_text(f"{seconds:+d}\n")
        whole.replace(self.folder / part)


def library() -> str:
    """What the command `faketime` preloads. It fails where a killed process with the same id has left its files."""
    for file in Path("/dev/shm").glob("*faketime_*"):
        if not psutil.pid_exists(int(file.name.rpartition("_")[2])):
            file.unlink(missing_ok=True)
    return subprocess.run(
        ["faketime", "-f", "+0", "sh", "-c", "echo $LD_PRELOAD"], capture_output=True, text=True, check=True
    ).stdout.strip()


class World:
    """Redis, a scheduler, a worker and an API, each with a clock of its own."""

    def __init__(self, folder: Path) -> None:
        self.clocks = Clocks(folder / "clocks")
        self.server = Server(folder / "server")
        self.log = folder / "log"
        self.processes: list[subprocess.Popen[bytes]] = []
        with environment(self.clocks.environment("redis")):
            self.server.start()
        self.connection = self.server.connection
        self.project = Project(folder / "project", self.server.url)
        self.start("scheduler", "scheduler.py")
        self.start("worker", *RQ_WORKER, "default")
        until(lambda: self.connection.get(CLOCK) and self.connection.zcard("jobline:leases") == 1)

    def start(self, part: str, *words: str) -> None:
        with self.log.open("ab") as log:
            self.processes.append(
                subprocess.Popen(
                    [sys.executable, *words],
                    cwd=self.project.folder,
                    env={
                        **os.environ,
                        "REDIS_URL": self.server.url,
                        "DATA_DIR": str(self.project.folder / "data"),
                        **self.clocks.environment(part),
                    },
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            )

    def jump(self, **seconds: int) -> None:
        """Each of these parts by so many seconds, counted from the real time."""
        for part, by in seconds.items():
            self.clocks.jump(part, by)

    def rq(self, function: str, *args: Any, **options: Any) -> None:
        """Enqueue as RQ does."""
        Queue("default", connection=self.connection, serializer=JSONSerializer).enqueue(function, *args, **options)

    def add(self, job_id: str, delay: float) -> None:
        job = prepare(Catalog().refresh().get("demo.add"), Settings(), [1, 2], {}, id=job_id, delay=delay)
        enqueue(self.connection, [job])

    def status(self, job_id: str) -> str:
        return status(self.connection, job_id)

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
        self.connection.close()
        self.server.kill()


@contextlib.contextmanager
def environment(values: dict[str, str]) -> Iterator[None]:
    """Variables of the environment for what is started meanwhile."""
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture
def new_world(tmp_path: Path) -> Iterator[Callable[[], World]]:
    with contextlib.ExitStack() as stack:

        def make() -> World:
            found = World(tmp_path / f"world-{time.monotonic_ns()}")
            stack.callback(found.close)
            return found

        yield make


@pytest.fixture
def world(new_world: Callable[[], World]) -> World:
    return new_world()


def runs(world: World) -> int:
    return int(world.connection.zcard("rq:finished:default"))


JUMPS = [
    {"worker": HOUR, "scheduler": -HOUR},
    {"worker": -HOUR, "scheduler": HOUR},
    {"redis": HOUR},
    {"redis": -HOUR},
]


def test_a_running_job_outlives_a_clock_that_jumps(new_world: Callable[[], World]) -> None:
    worlds = [new_world() for _ in JUMPS]
    for world, jump in zip(worlds, JUMPS, strict=True):
        world.rq("jobs.demo.sleep", GIVEN_UP_AFTER, job_id="job", job_timeout=600)
        until(lambda world=world: world.status("job") == "started")
        world.jump(**jump)

    def outcome(world: World) -> str:
        until(lambda: world.status("job") != "started", GIVEN_UP_AFTER + 20)
        return world.status("job")

    with ThreadPoolExecutor(len(worlds)) as threads:
        assert list(threads.map(outcome, worlds)) == ["finished"] * len(worlds)


@pytest.mark.parametrize("parts", [("redis",), ("scheduler", "worker"), EVERY])
def test_delayed_jobs_and_intervals_go_on_when_a_clock_is_put_back(world: World, parts: tuple[str, ...]) -> None:
    rule = {"name": "s", "function": "demo.add", "args": [1, 2], "interval": 2}
    schedule = Schedule.model_validate(rule)
    manage.put(world.connection, Catalog(), Settings(), schedule, now(world.connection), declared=False)
    until(lambda: runs(world) >= 1)
    world.add("before", delay=6)
    began = time.monotonic()
    world.jump(**dict.fromkeys(parts, -HOUR))
    count = runs(world)
    until(lambda: runs(world) >= count + 2, 10)
    until(lambda: world.status("before") == "finished", 15)
    assert time.monotonic() - began > 5.9
    world.add("after", delay=3)
    began = time.monotonic()
    until(lambda: world.status("after") == "finished", 15)
    assert time.monotonic() - began > 2.9
    assert ("the clock was put back" in world.log.read_text()) == ("redis" in parts)


@pytest.mark.parametrize("parts", [("worker",), EVERY])
def test_a_retry_is_neither_early_nor_an_hour_late(world: World, parts: tuple[str, ...]) -> None:
    world.rq("jobs.demo.fail", "no", job_id="job", retry=Retry(max=1, interval=5))
    until(lambda: world.status("job") == "scheduled")
    began = time.monotonic()
    world.jump(**dict.fromkeys(parts, -HOUR))
    until(lambda: world.status("job") == "failed", 15)
    assert time.monotonic() - began > 4
    world.rq("jobs.demo.fail", "no", job_id="other", retry=Retry(max=1, interval=5))
    until(lambda: world.status("other") == "scheduled")
    began = time.monotonic()
    until(lambda: world.status("other") == "failed", 15)
    assert time.monotonic() - began > 4
