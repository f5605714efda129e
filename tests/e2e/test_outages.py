"""Redis goes away for two seconds under a running job: the job does not notice, and gets its own end."""

import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import rq
from rq.serializers import JSONSerializer

from app.states import ENDED
from app.views import job_view
from tests.conftest import RQ_WORKER, Project, Server, status, until

AWAY = 2.0  # seconds

SOURCE = """
import time
from pathlib import Path

from app import Retry, job, progress


def reports(folder: str, seconds: float) -> float:
    began = time.monotonic()
    for number in progress.track(range(100), message="on its way"):
        time.sleep(seconds / 100)
        if number == 10:
            Path(folder, "begun").touch()
    return time.monotonic() - began


def _wait_for_the_outage(folder: str) -> None:
    with open(Path(folder, "attempts"), "a") as file:
        file.write("x")
    Path(folder, "begun").touch()
    end = time.monotonic() + 20
    while not Path(folder, "away").exists() and time.monotonic() < end:
        time.sleep(0.01)
    Path(folder, "over").touch()


def returns(folder: str) -> str:
    _wait_for_the_outage(folder)
    return "done"


def fails(folder: str) -> None:
    _wait_for_the_outage(folder)
    raise KeyError("its own")


@job(retry=Retry(max=2, initial=0, not_on=(KeyError,)))
def discards(folder: str) -> None:
    fails(folder)


def returns_a_retry(folder: str) -> object:
    first = not Path(folder, "away").exists()
    _wait_for_the_outage(folder)
    return Retry(max=1, intervals=(0,)) if first else "done"


def called(folder: str) -> None:
    with open(Path(folder, "calls"), "a") as file:
        file.write("x")


def succeeded(job, connection, result) -> None:
    called(job.args[0])


def failed(job, connection, *exc_info) -> None:
    called(job.args[0])
"""


class Outage:
    """A worker at work on a Redis of its own, which goes away when a job has begun."""

    def __init__(self, project: Project, server: Server) -> None:
        self.server, self.folder = server, project.folder / "notes"
        self.folder.mkdir()
        self.queue = rq.Queue("default", connection=server.connection, serializer=JSONSerializer)

    def enqueue(self, name: str, *args: object, **said: Any) -> None:
        self.queue.enqueue(f"jobs.outage.{name}", args=(str(self.folder), *args), job_id="job", **said)

    def __call__(self) -> None:
        until((self.folder / "begun").exists)
        self.server.kill()
        (self.folder / "away").touch()
        time.sleep(AWAY)  # it is the outage itself
        self.server.start()

    def count(self, name: str) -> int:
        file: Path = self.folder / name
        return len(file.read_text()) if file.exists() else 0

    def job(self) -> dict[str, Any]:
        """The job at its end."""
        until(lambda: status(self.server.connection, "job") in ENDED)
        job = job_view.fetch(self.server.connection, ["job"])[0]
        assert job
        until(lambda: self.server.connection.zcard("rq:wip:default") == 0)
        return job


@pytest.fixture
def project(tmp_path: Path, server: Server) -> Project:
    found = Project(tmp_path / "project", server.url)
    found.write("outage", SOURCE)
    return found


@pytest.fixture
def outage(project: Project, server: Server) -> Iterator[Outage]:
    server.start()
    worker = project.start(*RQ_WORKER, "default", LOG_LEVEL="ERROR")
    yield Outage(project, server)
    worker.terminate()
    try:
        worker.communicate(timeout=20)
    except subprocess.TimeoutExpired:
        worker.kill()
        worker.communicate()


def test_a_job_that_reports_goes_on_and_its_last_report_arrives(outage: Outage) -> None:
    outage.enqueue("reports", 3)
    outage()
    job = outage.job()
    assert (job["status"], job["attempts"]) == ("finished", 1)
    assert job["result"] < 4  # it was not held up
    assert until(lambda: outage.job()["progress"]["current"] == 100)


def test_a_job_that_reports_its_end_while_redis_is_away_loses_no_report(outage: Outage) -> None:
    outage.enqueue("reports", 0.8)
    outage()
    assert outage.job()["status"] == "finished"
    assert until(lambda: outage.job()["progress"] == {
        "current": 100, "total": 100, "percent": 100.0, "message": "on its way",
    })  # fmt: skip


def test_reports_are_seen_again_as_soon_as_redis_is_back(outage: Outage) -> None:
    outage.enqueue("reports", 8)
    outage()

    def current() -> int:
        job = job_view.fetch(outage.server.connection, ["job"])[0]
        return int(((job or {}).get("progress") or {}).get("current", 0))

    until(lambda: 30 < current() < 100)
    assert status(outage.server.connection, "job") == "started"


def test_a_redis_that_is_silent_holds_no_job_up(outage: Outage) -> None:
    outage.enqueue("reports", 2)
    until((outage.folder / "begun").exists)
    assert outage.server.process
    outage.server.process.send_signal(signal.SIGSTOP)
    time.sleep(4)  # it is the outage itself
    outage.server.process.send_signal(signal.SIGCONT)
    job = outage.job()
    assert job["status"] == "finished"
    assert job["result"] < 3


@pytest.mark.parametrize("callback", [False, True], ids=["plain", "with a callback"])
def test_a_job_that_fails_meanwhile_fails_with_its_own_error(outage: Outage, callback: bool) -> None:
    outage.enqueue("fails", on_failure=rq.Callback("jobs.outage.failed") if callback else None)
    outage()
    job = outage.job()
    assert (job["status"], job["attempts"]) == ("failed", 1)
    assert (job["error"]["type"], job["error"]["message"]) == ("KeyError", "'its own'")
    assert outage.count("calls") == int(callback)


@pytest.mark.parametrize("interval", [0, 1])
def test_a_job_that_fails_meanwhile_has_all_its_retries_and_no_more(
    outage: Outage, project: Project, interval: int
) -> None:
    scheduler = project.start("scheduler.py", LOG_LEVEL="ERROR")
    outage.enqueue("fails", retry=rq.Retry(2, interval))
    outage()
    try:
        job = outage.job()
    finally:
        scheduler.kill()
        scheduler.communicate()
    assert (job["status"], job["attempts"], outage.count("attempts")) == ("failed", 3, 3)
    assert job["error"]["type"] == "KeyError"


def test_a_job_that_must_not_be_retried_is_not(outage: Outage) -> None:
    outage.enqueue("discards", retry=rq.Retry(2))
    outage()
    job = outage.job()
    assert (job["status"], job["attempts"], job["error"]["type"]) == ("failed", 1, "KeyError")


def test_what_waits_for_a_job_that_fails_meanwhile_is_queued(outage: Outage) -> None:
    outage.enqueue("fails")
    follows = rq.job.Dependency(jobs=["job"], allow_failure=True)
    outage.queue.enqueue("jobs.demo.add", 1, 2, job_id="next", depends_on=follows)
    outage()
    assert outage.job()["status"] == "failed"
    until(lambda: status(outage.server.connection, "next") == "finished")


@pytest.mark.parametrize("said", [
    {}, {"on_success": rq.Callback("jobs.outage.succeeded")}, {"repeat": rq.Repeat(1)}, {"group_id": "group"},
], ids=["plain", "with a callback", "repeated", "in a group"])  # fmt: skip
def test_a_job_that_succeeds_meanwhile_has_run_once(outage: Outage, said: dict[str, Any]) -> None:
    outage.enqueue("returns", **said)
    outage()
    runs = 2 if "repeat" in said else 1
    until(lambda: outage.count("attempts") == runs and outage.job()["status"] == "finished")
    assert outage.job()["result"] == "done"
    assert outage.count("attempts") == runs
    assert outage.count("calls") == int("on_success" in said)


def test_a_job_that_asks_for_a_retry_meanwhile_gets_it(outage: Outage) -> None:
    outage.enqueue("returns_a_retry")
    outage()
    job = outage.job()
    assert (job["status"], job["result"], outage.count("attempts")) == ("finished", "done", 2)


def test_a_worker_starts_no_job_twice_for_the_outage(outage: Outage) -> None:
    outage.enqueue("returns")
    for number in range(20):
        outage.queue.enqueue("jobs.demo.add", number, 1, job_id=f"next-{number}")
    outage()
    connection: redis.Redis = outage.server.connection
    until(lambda: connection.zcard("rq:finished:default") == 21)
    attempts = [job["attempts"] for job in job_view.fetch(connection, [f"next-{n}" for n in range(20)]) if job]
    assert attempts == [1] * 20
