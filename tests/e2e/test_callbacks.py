"""Callbacks of RQ come from the catalogue: what else a job's hash names is not imported, and the job is set aside."""

import pytest
import redis
import rq
from rq.serializers import JSONSerializer

from app.lifecycle import callback_processes, executions, recovery
from app.rq_adapter.rq_parts import Queue
from tests.conftest import Project, status
from tests.e2e.test_worker import state
from tests.scripts.hand import Hand

pytestmark = pytest.mark.concurrency(1, 20)

REFUSED = ("data.storage.evil.run", "os.getcwd", "jobs.notes._hidden", "jobs.webhooks.deliver", "jobs.notes.absent")
KINDS = ("success", "failure", "stopped")
EVIL = """
from pathlib import Path

Path("imported").touch()


def run(*args):
    Path("run").touch()
"""
NOTES = """
from pathlib import Path


def work(fails: bool = False) -> None:
    Path("worked").touch()
    if fails:
        raise KeyError("fails")


def told(job, connection, *rest) -> None:
    connection.incr(f"told:{job.id}")


def _hidden(job, connection, *rest) -> None:
    connection.incr("hidden")
"""


def enqueue(connection: redis.Redis, job_id: str, *args: object) -> None:
    queue = rq.Queue("default", connection=connection, serializer=JSONSerializer)
    queue.enqueue("jobs.notes.work", *args, job_id=job_id)


@pytest.mark.parametrize("kind", KINDS)
def test_one_outside_the_catalogue_is_not_imported_and_its_job_is_set_aside(
    project: Project, valkey: redis.Redis, kind: str
) -> None:
    folder = project.folder / "data" / "storage"
    folder.mkdir(parents=True)
    (folder / "evil.py").write_text(EVIL)
    project.write("notes", NOTES)
    for number, name in enumerate(REFUSED):
        enqueue(valkey, f"job{number}", kind == "failure")
        valkey.hset(f"rq:job:job{number}", f"{kind}_callback_name", name)
    enqueue(valkey, "next")
    project.work()
    for number, name in enumerate(REFUSED):
        job = state(valkey, f"job{number}")
        assert (job["status"], job["error"]["type"]) == ("failed", "UnreadableJob")
        assert name in job["error"]["message"]
        assert valkey.hget(f"jobline:unreadable:job{number}", f"{kind}_callback_name") == name.encode()
    assert status(valkey, "next") == "finished"
    assert not [*project.folder.glob("**/imported"), *project.folder.glob("**/run")]
    assert not valkey.exists("hidden")


def test_one_of_the_catalogue_is_called(project: Project, valkey: redis.Redis) -> None:
    project.write("notes", NOTES)
    for job_id, fails, kind in (("good", False, "success"), ("bad", True, "failure")):
        enqueue(valkey, job_id, fails)
        valkey.hset(f"rq:job:{job_id}", f"{kind}_callback_name", "jobs.notes.told")
    project.work()
    assert (valkey.get("told:good"), valkey.get("told:bad")) == (b"1", b"1")


@pytest.mark.one_at_a_time("no worker is started")
@pytest.mark.parametrize("outcome", [recovery.Outcome.FAILED, recovery.Outcome.STOPPED])
def test_nor_is_it_imported_for_a_job_whose_worker_has_died(valkey: redis.Redis, outcome: recovery.Outcome) -> None:
    Queue("default", connection=valkey).enqueue("jobs.demo.add", 1, 2, job_id="job")
    [job] = Hand(valkey).run()
    for kind in KINDS:
        valkey.hset("rq:job:job", f"{kind}_callback_name", "tests.e2e.test_callbacks.note")
    recovery.recover(valkey, executions.Execution("default", "job", job.execution_id), "lost", lambda _: outcome)
    callback_processes.wait()
    assert status(valkey, "job") == outcome.value
    assert not valkey.exists("noted")


def note(job: rq.job.Job, connection: redis.Redis, *_: object) -> None:
    connection.set("noted", 1)
