"""Queues that are paused, resumed and emptied, with real workers."""

import subprocess
import time
from collections.abc import Iterator

import pytest
import redis

from app.api.application import create_app
from app.lifecycle import queues
from tests.conftest import RQ_WORKER, Project, status, until
from tests.e2e.test_losses import put

HELD = [f"held-{number}" for number in range(3)]


@pytest.fixture
def worker(project: Project, valkey: redis.Redis) -> Iterator[subprocess.Popen[bytes]]:
    queues.pause(valkey, "held")
    project.write("notes", "def add(a: int, b: int) -> int:\n    return a + b\n")
    process = project.start(*RQ_WORKER, "held", "open", LOG_LEVEL="ERROR")
    until(lambda: valkey.zcard("jobline:leases"))
    yield process
    process.terminate()
    process.communicate(timeout=10)


def test_nothing_is_taken_from_a_paused_queue_until_it_is_resumed(
    worker: subprocess.Popen[bytes], valkey: redis.Redis
) -> None:
    for job_id in HELD:
        put(valkey, "held", job_id, "add", 1, 2)
    for number in range(5):
        put(valkey, "open", f"open-{number}", "add", 1, 2)
        until(lambda: status(valkey, f"open-{number}") == "finished", 2)  # noqa: B023 - called at once
    assert [status(valkey, job_id) for job_id in HELD] == ["queued"] * 3
    assert valkey.lrange("rq:queue:held", 0, -1) == [job_id.encode() for job_id in HELD]
    queues.resume(valkey, "held")
    until(lambda: [status(valkey, job_id) for job_id in HELD] == ["finished"] * 3, 2)


def test_a_running_worker_obeys_a_pause_at_once(worker: subprocess.Popen[bytes], valkey: redis.Redis) -> None:
    queues.resume(valkey, "held")
    put(valkey, "held", "first", "add", 1, 2)
    until(lambda: status(valkey, "first") == "finished", 3)
    queues.pause(valkey, "held")
    put(valkey, "held", "second", "add", 1, 2)
    put(valkey, "open", "last", "add", 1, 2)
    until(lambda: status(valkey, "last") == "finished", 2)
    assert status(valkey, "second") == "queued"


def test_a_worker_with_nothing_but_a_paused_queue_rests(worker: subprocess.Popen[bytes], valkey: redis.Redis) -> None:
    put(valkey, "held", "held", "add", 1, 2)
    valkey.config_resetstat()
    began = time.monotonic()
    until(lambda: valkey.info("commandstats").get("cmdstat_blmove", {}).get("calls", 0) > 4)
    assert time.monotonic() - began > 1


def test_a_burst_leaves_paused_jobs_behind(project: Project, valkey: redis.Redis) -> None:
    queues.pause(valkey, "held")
    put(valkey, "held", "held", "add", 1, 2)
    project.work("held")
    assert status(valkey, "held") == "queued"


def test_a_queue_is_paused_resumed_and_emptied_over_http(valkey: redis.Redis) -> None:
    client = create_app(connection=valkey).test_client()
    for number in range(1200):
        put(valkey, "full", str(number), "add", 1, 2)
    paused = client.post("/api/v1/queues/full/pause").json
    assert (paused["paused"], paused["counts"]["queued"]) == (True, 1200)
    assert client.get("/api/v1/queues").json["queues"][0]["paused"]
    assert not client.post("/api/v1/queues/full/resume").json["paused"]
    assert client.post("/api/v1/queues/full/empty").json == {"deleted": 1200}
    assert valkey.keys("rq:job:*") == []
    assert client.post("/api/v1/queues/none/empty").status_code == 404
    assert client.post("/api/v1/queues/a%20b/pause").status_code == 422
