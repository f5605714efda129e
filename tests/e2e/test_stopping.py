"""Signals and RQ's commands: what runs is finished or given back, and everything of `rq worker` works."""

import os
import signal
import subprocess
import time

import psutil
import pytest
import redis
import rq
from rq.command import send_kill_horse_command, send_shutdown_command, send_stop_job_command
from rq.serializers import JSONSerializer
from rq.suspension import resume, suspend

from app.views import job_view
from tests.conftest import RQ_WORKER, Project, status, until

pytestmark = pytest.mark.concurrency(1, 20)

SOURCE = """
import os, time
from pathlib import Path


def nap(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


def meet(folder: str, processes: int) -> int:  # it ends when so many processes run it
    (Path(folder) / f"{os.getpid()}.met").touch()
    for _ in range(2000):
        if len(list(Path(folder).glob("*.met"))) >= processes:
            break
        time.sleep(0.01)
    return os.getpid()
"""


class Worker:
    """A `rq worker` at work on a project."""

    def __init__(self, project: Project, connection: redis.Redis, *words: str, **environment: str) -> None:
        self.connection = connection
        project.write("naps", SOURCE)
        before = connection.scard("rq:workers")
        self.process = project.start(*RQ_WORKER, *words, **environment)
        until(lambda: connection.scard("rq:workers") > before)

    @property
    def name(self) -> str:
        return str(self.connection.smembers("rq:workers").pop().decode().removeprefix("rq:worker:"))

    def horse(self) -> psutil.Process:
        return until(lambda: psutil.Process(self.process.pid).children())[0]

    def ends(self, seconds: float = 20) -> str:
        output, _ = self.process.communicate(timeout=seconds)
        return output.decode()


@pytest.fixture
def queue(valkey: redis.Redis) -> rq.Queue:
    return rq.Queue("default", connection=valkey, serializer=JSONSerializer)


def naps(queue: rq.Queue, *seconds: float) -> None:
    """One job for each, named 0, 1, 2..."""
    for number, length in enumerate(seconds):
        queue.enqueue("jobs.naps.nap", length, job_id=str(number))


def ids(count: int) -> list[str]:
    """Those of the first jobs of `naps`."""
    return [str(number) for number in range(count)]


def test_a_signal_lets_the_job_finish_and_no_other_begin(
    project: Project, valkey: redis.Redis, queue: rq.Queue, started: list[subprocess.Popen[bytes]], concurrency: int
) -> None:
    worker = Worker(project, valkey)
    started.append(worker.process)
    running, waiting = ids(concurrency), [str(concurrency), str(concurrency + 1)]
    naps(queue, *[1.5] * concurrency, 0, 0)
    until(lambda: {status(valkey, job_id) for job_id in running} == {"started"})
    worker.process.terminate()
    assert "stopping on request" in worker.ends()
    assert worker.process.returncode == 0
    assert {status(valkey, job_id) for job_id in running} == {"finished"}
    assert {status(valkey, job_id) for job_id in waiting} == {"queued"}
    assert valkey.lrange("rq:queue:default", 0, -1) == [job_id.encode() for job_id in waiting]
    assert valkey.zcard("jobline:leases") == 0
    assert valkey.scard("rq:workers") == 0


@pytest.mark.parametrize("again", [False, True], ids=["after the grace", "at the second signal"])
def test_a_job_that_does_not_end_goes_back_to_its_queue(
    project: Project,
    valkey: redis.Redis,
    queue: rq.Queue,
    started: list[subprocess.Popen[bytes]],
    again: bool,
    concurrency: int,
) -> None:
    worker = Worker(project, valkey, SHUTDOWN_GRACE="60" if again else "1")
    started.append(worker.process)
    naps(queue, *[60] * concurrency, 0)
    until(lambda: {status(valkey, job_id) for job_id in ids(concurrency)} == {"started"})
    horse = worker.horse()
    worker.process.terminate()
    if again:
        until(lambda: valkey.hexists(f"rq:worker:{worker.name}", "shutdown_requested_date"))
        time.sleep(1.1)  # RQ takes two signals within a second as one
        worker.process.terminate()
    worker.ends()
    assert worker.process.returncode == 0
    assert not horse.is_running()
    *returned, last = (job_id.decode() for job_id in valkey.lrange("rq:queue:default", 0, -1))
    assert (sorted(returned), last) == (sorted(ids(concurrency)), str(concurrency))
    assert {status(valkey, job_id) for job_id in returned} == {"queued"}
    assert valkey.zcard("rq:wip:default") == 0


def test_commands(
    project: Project, valkey: redis.Redis, queue: rq.Queue, started: list[subprocess.Popen[bytes]]
) -> None:
    worker = Worker(project, valkey)
    started.append(worker.process)
    naps(queue, 60, 60, 0)
    until(lambda: status(valkey, "0") == "started")
    send_stop_job_command(valkey, "0", serializer=JSONSerializer)
    until(lambda: status(valkey, "0") == "stopped")
    until(lambda: status(valkey, "1") == "started")
    send_kill_horse_command(valkey, worker.name)
    until(lambda: status(valkey, "1") == "failed")
    until(lambda: status(valkey, "2") == "finished")
    queue.enqueue("jobs.naps.nap", 0, job_id="3")
    until(lambda: status(valkey, "3") == "finished")  # by the next work horse
    assert valkey.zscore("rq:failed:default", "0")
    valkey.publish(f"rq:pubsub:{worker.name}", '{"command": "stop-job", "job_id": "0"}')  # too late: it runs no more
    send_shutdown_command(valkey, worker.name)
    assert "Not working on job 0" in worker.ends()


def test_suspended_workers_take_nothing(
    project: Project, valkey: redis.Redis, queue: rq.Queue, started: list[subprocess.Popen[bytes]]
) -> None:
    worker = Worker(project, valkey)
    started.append(worker.process)
    suspend(valkey)
    key = f"rq:worker:{worker.name}"
    until(lambda: valkey.hget(key, "state") == b"suspended")
    naps(queue, 0)
    assert "RQ is currently suspended" in project.work()
    assert status(valkey, "0") == "queued"
    assert valkey.lrange("rq:queue:default", 0, -1) == [b"0"]
    resume(valkey)
    until(lambda: status(valkey, "0") == "finished")
    until(lambda: valkey.hget(key, "state") == b"idle")


def test_limits(project: Project, valkey: redis.Redis, queue: rq.Queue) -> None:
    Worker(project, valkey, "--max-idle-time", "1").ends()
    naps(queue, 0, 0, 0)
    Worker(project, valkey, "--max-jobs", "2").ends()
    assert [status(valkey, job_id) for job_id in "012"] == ["finished", "finished", "queued"]


def test_a_worker_is_idle_when_its_jobs_have_ended(project: Project, valkey: redis.Redis, queue: rq.Queue) -> None:
    worker = Worker(project, valkey, "--max-idle-time", "1")
    queue.enqueue("jobs.naps.nap", 2.5, job_id="0")
    queue.enqueue("jobs.naps.nap", 0, job_id="1", depends_on="0")
    worker.ends()
    assert [status(valkey, job_id) for job_id in "01"] == ["finished", "finished"]


def test_the_order_of_queues(project: Project, valkey: redis.Redis) -> None:
    for strategy, expected in (("default", "aaabbb"), ("round_robin", "ababab")):
        valkey.flushall()
        for name in "ab":
            found = rq.Queue(name, connection=valkey, serializer=JSONSerializer)
            for number in range(3):
                found.enqueue("jobs.demo.add", 1, 2, job_id=f"{name}{number}")
        project.work("a", "b", "--dequeue-strategy", strategy)
        jobs = [job for job in job_view.fetch(valkey, [f"{q}{n}" for q in "ab" for n in range(3)]) if job]
        in_order = sorted(jobs, key=lambda job: job["started_at"])
        assert "".join(job["queue"] for job in in_order) == expected


def test_with_scheduler_and_worker_pool(
    project: Project, valkey: redis.Redis, queue: rq.Queue, started: list[subprocess.Popen[bytes]], concurrency: int
) -> None:
    from datetime import timedelta

    worker = Worker(project, valkey, "--with-scheduler")
    started.append(worker.process)
    queue.enqueue_in(timedelta(seconds=1), "jobs.naps.nap", 0, job_id="later")
    until(lambda: status(valkey, "later") == "finished")
    worker.process.terminate()
    worker.ends()
    for number in range(concurrency + 1):
        queue.enqueue("jobs.naps.meet", str(project.folder), 2, job_id=str(number))
    pool = project.start(
        "-m", "rq.cli", "worker-pool", "-w", "app.worker.Worker", "-c", "app.worker_config", "-n", "2", "--burst"
    )
    pool.communicate(timeout=30)
    jobs = job_view.fetch(valkey, ids(concurrency + 1))
    assert len({job["result"] for job in jobs if job}) == 2


def test_a_changed_module_replaces_the_horse(
    project: Project, valkey: redis.Redis, queue: rq.Queue, started: list[subprocess.Popen[bytes]]
) -> None:
    worker = Worker(project, valkey, RELOAD="1")
    started.append(worker.process)
    first = worker.horse().pid
    project.write("naps", SOURCE.replace("return os.getpid()", "return 'changed'"))
    naps(queue, 0)
    until(lambda: status(valkey, "0") == "finished")
    job = job_view.fetch(valkey, ["0"])[0]
    assert job
    assert job["result"] == "changed"
    assert worker.horse().pid != first
    os.kill(worker.process.pid, signal.SIGTERM)
    worker.ends()
