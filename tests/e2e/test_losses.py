"""Whatever is killed, and whenever: no job is lost, none stays started, and none runs twice that was not in flight."""

import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import redis
import rq
from rq.serializers import JSONSerializer

from app.views import job_view
from tests.conftest import RQ_WORKER, Project, Server, status, until

pytestmark = pytest.mark.concurrency(1, 20)

SOURCE = """
import os, signal, time
from pathlib import Path
from redis.client import Pipeline
from app import job


def note(path: str, text: str, seconds: float = 0) -> None:
    with open(path, "a") as file:
        file.write(text + "\\n")
    time.sleep(seconds)


def held(path: str, text: str, until: str) -> None:
    note(path, text)
    while not Path(until).exists():
        time.sleep(0.01)


@job(idempotent=True)
def again(path: str, text: str, seconds: float = 0) -> None:
    note(path, text, seconds)


def failed(job, connection, *exc_info) -> None:
    connection.set("failed", str(exc_info[1]))


def fails() -> None:
    raise ValueError from None


def succeeded(job, connection, result) -> None: ...


def dies_as_it_fails() -> None:
    def die(*_) -> None:
        os.kill(os.getppid(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)

    Pipeline.execute = die
    raise ValueError
"""

Started = list[subprocess.Popen[bytes]]


@pytest.fixture
def started() -> Iterator[Started]:
    processes: Started = []
    yield processes
    for process in processes:
        for one in family(process):
            one.kill()
        process.kill()
        process.communicate()


def family(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def worker(project: Project, started: Started, *queues: str, **environment: str) -> subprocess.Popen[bytes]:
    started.append(project.start(*RQ_WORKER, *queues, LOG_LEVEL="ERROR", **environment))  # nobody reads what it prints
    return started[-1]


def put(connection: redis.Redis, queue: str, job_id: str, name: str, *args: object, **options: object) -> None:
    found = rq.Queue(queue, connection=connection, serializer=JSONSerializer)
    found.enqueue(f"jobs.notes.{name}", args=args, job_id=job_id, **options)


def kill_both(process: subprocess.Popen[bytes]) -> None:
    horses = family(process)
    process.kill()
    for horse in horses:
        if horse.is_running():
            horse.kill()


@pytest.mark.parametrize("survivor", ["worker", "scheduler"])
def test_a_dead_workers_jobs_are_recovered_by_whoever_lives(
    project: Project, valkey: redis.Redis, started: Started, survivor: str
) -> None:
    project.write("notes", SOURCE)
    log = str(project.folder / "log")
    kinds = {
        "plain": {"name": "note"},
        "retried": {"name": "note", "retry": rq.Retry(1)},
        "again": {"name": "again"},
        "called": {"name": "note", "on_failure": rq.job.Callback("jobs.notes.failed")},
    }
    workers = {queue: worker(project, started, queue) for queue in kinds}
    for queue, options in kinds.items():
        put(
            valkey,
            queue,
            queue,
            str(options["name"]),
            log,
            queue,
            60,
            **{k: v for k, v in options.items() if k != "name"},
        )
    for queue in kinds:
        until(lambda queue=queue: status(valkey, queue) == "started")  # type: ignore[misc]
    horses = [horse for process in workers.values() for horse in family(process)]
    for queue, process in workers.items():
        process.kill() if queue == "plain" else kill_both(process)
    killed_at = time.monotonic()
    if survivor == "worker":
        worker(project, started, "elsewhere")
    else:
        started.append(project.start("-m", "scheduler"))
    until(lambda: not any(valkey.zcard(f"rq:wip:{queue}") for queue in kinds), 30)
    assert time.monotonic() - killed_at < 30
    assert not [horse for horse in horses if horse.is_running() and horse.status() != psutil.STATUS_ZOMBIE]
    assert {queue: status(valkey, queue) for queue in kinds} == {
        "plain": "failed", "retried": "queued", "again": "queued", "called": "failed",
    }  # fmt: skip
    job = job_view.fetch(valkey, ["plain"])[0]
    assert job
    assert job["error"] == {
        "type": "WorkerLost",
        "message": "the worker died while it ran this job",
        "traceback": "WorkerLost: the worker died while it ran this job",
    }
    assert valkey.lrange("rq:queue:retried", 0, -1) == [b"retried"]
    until(lambda: valkey.zcard("jobline:leases") == (1 if survivor == "worker" else 0))
    assert until(lambda: valkey.get("failed")) == b"WorkerLost: the worker died while it ran this job"


def test_a_finished_job_never_fails_later(project: Project, valkey: redis.Redis, started: Started) -> None:
    """A frozen worker is given up; what it says when it wakes counts no more."""
    project.write("notes", SOURCE)
    log = project.folder / "log"
    frozen = worker(project, started, "default")
    put(valkey, "default", "job", "again", str(log), "run", 3)
    until(lambda: status(valkey, "job") == "started")
    all_of_it = [psutil.Process(frozen.pid), *family(frozen)]
    for process in all_of_it:
        process.suspend()
    worker(project, started, "default")
    until(lambda: status(valkey, "job") == "finished", 40)
    for process in reversed(all_of_it):
        process.resume()
    until(lambda: valkey.zcard("jobline:leases") == 2)  # it beats again
    put(valkey, "default", "next", "note", str(log), "next")
    until(lambda: status(valkey, "next") == "finished")
    assert status(valkey, "job") == "finished"
    assert valkey.zcard("rq:failed:default") == 0
    kinds = [entry[b"type"] for _, entry in valkey.xrange("rq:results:job")]
    assert kinds == [b"4", b"1"]  # the attempt that was given up, retried; and the one success


def test_a_dead_horses_job_is_recovered_at_once(project: Project, valkey: redis.Redis, started: Started) -> None:
    project.write("notes", SOURCE)
    process = worker(project, started, "default")
    put(valkey, "default", "job", "note", str(project.folder / "log"), "run", 60)
    until(lambda: status(valkey, "job") == "started")
    killed_at = time.monotonic()
    family(process)[0].kill()
    until(lambda: status(valkey, "job") == "failed")
    assert time.monotonic() - killed_at < 2


def test_a_worker_killed_as_an_attempt_fails_leaves_no_retry_beside_it(
    project: Project, valkey: redis.Redis, started: Started
) -> None:
    """Else the job runs again, and once more when the worker is found to be dead, though it has finished meanwhile."""
    project.write("notes", SOURCE)
    callback = rq.Callback("jobs.notes.failed")  # so that RQ writes its end, in several steps
    put(valkey, "default", "job", "dies_as_it_fails", retry=rq.Retry(3, interval=60), on_failure=callback)
    worker(project, started, "default").wait(20)
    assert valkey.zcard("rq:wip:default") == 1
    assert valkey.zcard("rq:scheduled:default") == 0


def test_a_cut_line_loses_nothing_and_runs_nothing_twice(
    project: Project, valkey: redis.Redis, started: Started
) -> None:
    project.write("notes", SOURCE)
    log = project.folder / "log"
    for number in range(2000):
        put(valkey, "default", str(number), "note", str(log), str(number))
    worker(project, started, "default")
    until(lambda: valkey.zcard("rq:finished:default") > 50)
    while valkey.zcard("rq:finished:default") < 2000:
        valkey.client_kill_filter(_type="normal", skipme=True)
        time.sleep(0.05)
    runs = Counter(log.read_text().split())
    assert len(runs) == 2000
    assert set(runs.values()) == {1}
    assert valkey.zcard("rq:wip:default") == 0


def test_redis_killed_and_restarted(tmp_path: Path, server: Server, started: Started) -> None:
    server.start()
    project = Project(tmp_path / "project", server.url)
    project.write("notes", SOURCE)
    log = project.folder / "log"
    for number in range(1000):
        name, last = ("held", str(project.folder / "may end")) if number == 500 else ("note", 0)
        put(server.connection, "default", str(number), name, str(log), str(number), last)
    process = worker(project, started, "default")
    until(lambda: status(server.connection, "500") == "started")
    server.kill()
    (project.folder / "may end").touch()
    time.sleep(1)
    server.start()
    until(lambda: server.connection.zcard("rq:finished:default") == 1000, 30)
    runs = Counter(log.read_text().split())
    assert len(runs) == 1000
    assert set(runs.values()) == {1}
    os.kill(process.pid, signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode == 0
    assert server.connection.zcard("rq:wip:default") == 0


@pytest.mark.parametrize("other", ["fails", "has a callback"])
def test_jobs_claimed_ahead_of_one_that_is_not_plain_are_run(
    project: Project, valkey: redis.Redis, started: Started, other: str
) -> None:
    """What ends it waits for all answers of Redis, and so reads that of the claim that is under way."""
    project.write("notes", SOURCE)
    worker(project, started, "default")
    for number in range(300):
        if number % 10:
            put(valkey, "default", str(number), "note", os.devnull, str(number))
        elif other == "fails":
            put(valkey, "default", str(number), "fails")
        else:
            put(valkey, "default", str(number), "note", os.devnull, "", on_success=rq.Callback("jobs.notes.succeeded"))
    until(lambda: valkey.zcard("rq:finished:default") + valkey.zcard("rq:failed:default") == 300)
    assert valkey.zcard("rq:wip:default") == 0


@pytest.mark.one_at_a_time("only such a worker claims more jobs than it runs")
def test_what_a_held_up_horse_has_claimed_goes_back(project: Project, valkey: redis.Redis, started: Started) -> None:
    project.write("notes", SOURCE)
    log = str(project.folder / "log")
    for number in range(100):
        put(valkey, "default", str(number), "note", log, str(number))
    put(valkey, "default", "long", "note", log, "long", 30)
    after = [f"after-{number}" for number in range(40)]
    for job_id in after:
        put(valkey, "default", job_id, "note", log, job_id)
    worker(project, started, "default")
    until(lambda: status(valkey, "long") == "started")
    until(lambda: valkey.lrange("rq:queue:default", 0, -1) == [job_id.encode() for job_id in after], 2)
    assert valkey.zcard("rq:wip:default") == 1
    worker(project, started, "default")
    until(lambda: all(status(valkey, job_id) == "finished" for job_id in after))
    assert status(valkey, "long") == "started"


def test_jobs_that_fail_hold_up_none_that_were_claimed_with_them(
    project: Project, valkey: redis.Redis, started: Started
) -> None:
    """What waits for such an end reads the answer of the next claim too, whose jobs are to be run."""
    project.write("mixed", "def job(n: int) -> int:\n    if n % 10 == 9:\n        raise ValueError\n    return n\n")
    queue = rq.Queue("default", connection=valkey, serializer=JSONSerializer)
    for number in range(200):
        queue.enqueue("jobs.mixed.job", number, job_id=str(number))
    worker(project, started, "default")
    until(lambda: valkey.zcard("rq:finished:default") + valkey.zcard("rq:failed:default") == 200, 20)
    assert valkey.zcard("rq:failed:default") == 20
    assert valkey.zcard("rq:wip:default") == 0
