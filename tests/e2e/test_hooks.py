"""Hooks of real workers: run in each work horse, around its jobs, on the loop of its coroutines."""

import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import redis
import rq
from rq.serializers import JSONSerializer

from tests.conftest import RQ_WORKER, Project, status, until

pytestmark = pytest.mark.concurrency(1, 20)

SOURCE = """
import asyncio
import os
from pathlib import Path

from app import Context, on_start, on_stop

LOG = Path(os.environ["DATA_DIR"]).parent / "calls"


def _note(text: str) -> None:
    with LOG.open("a") as file:
        file.write(f"{text}\\n")


@on_start
async def start(context: Context) -> None:
    if (LOG.parent / "broken").exists():
        raise ConnectionError("no database")
    context.pid, context.loop, context.beats = os.getpid(), asyncio.get_running_loop(), 0
    context.task = asyncio.create_task(_beat(context))
    _note(f"start {os.getpid()}")


async def _beat(context: Context) -> None:
    while True:
        await asyncio.sleep(0.01)
        context.beats += 1


@on_stop
async def stop(context: Context) -> None:
    assert asyncio.get_running_loop() is context.loop and not context.task.done()
    _note(f"stop {os.getpid()}")


@on_stop
def fails() -> None:
    raise OSError("cannot be closed")


def plain(context: Context) -> int:
    assert context.pid == os.getpid()
    return os.getpid()


async def coroutine(context: Context) -> int:
    assert context.loop is asyncio.get_running_loop()
    before = context.beats
    await asyncio.sleep(0.1)
    assert context.beats > before
    return os.getpid()
"""

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start(project: Project, started: list[subprocess.Popen[bytes]]) -> Start:
    project.write("hooked", SOURCE)

    def begin(*words: str, **environment: str) -> subprocess.Popen[bytes]:
        started.append(project.start(*RQ_WORKER, "default", *words, **environment))
        return started[-1]

    return begin


@pytest.fixture
def queue(valkey: redis.Redis) -> rq.Queue:
    return rq.Queue(connection=valkey, serializer=JSONSerializer)


@pytest.fixture
def calls(project: Project) -> Callable[[], list[str]]:
    file: Path = project.folder / "calls"
    return lambda: file.read_text().splitlines() if file.exists() else []


def test_hooks_run_in_the_process_of_the_jobs_and_on_their_loop(
    valkey: redis.Redis, start: Start, queue: rq.Queue, calls: Callable[[], list[str]], concurrency: int
) -> None:
    jobs = [queue.enqueue(f"jobs.hooked.{name}") for name in ("plain", "coroutine", "plain", "coroutine")]
    process = start()
    until(lambda: {status(valkey, job.id) for job in jobs} == {"finished"})
    [pid] = {job.latest_result().return_value for job in jobs}
    assert calls() == [f"start {pid}"]
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=20)
    assert calls() == [f"start {pid}", f"stop {pid}"]
    assert b"an on_stop hook has failed" in output
    assert b"cannot be closed" in output


def test_each_work_horse_runs_them_anew(
    valkey: redis.Redis, start: Start, queue: rq.Queue, calls: Callable[[], list[str]], concurrency: int
) -> None:
    jobs = [queue.enqueue("jobs.hooked.plain") for _ in range(3)]
    start("--burst", HORSE_JOBS="1").communicate(timeout=30)
    pids = {job.latest_result().return_value for job in jobs}
    begun = {line for line in calls() if line.startswith("start")}
    assert {f"start {pid}" for pid in pids} <= begun
    assert {line.replace("stop", "start") for line in calls() if line.startswith("stop")} == begun
    assert concurrency > 1 or len(pids) == 3


def test_a_worker_whose_start_fails_runs_no_job_until_it_succeeds(
    valkey: redis.Redis, project: Project, start: Start, queue: rq.Queue, concurrency: int
) -> None:
    broken = project.folder / "broken"
    broken.touch()
    job = queue.enqueue("jobs.hooked.plain")
    process = start()
    log = b""
    assert process.stdout
    while b"raised by the on_start hook hooked.start: this work horse runs no job" not in log:
        line = process.stdout.readline()
        assert line, log
        log += line
    assert b"no database" in log
    assert status(valkey, job.id) == "queued"
    broken.unlink()
    until(lambda: status(valkey, job.id) == "finished")
