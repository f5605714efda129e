"""Jobs that fail, and jobs that are changed, while workers run."""

import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
import redis
import rq
from flask.testing import FlaskClient
from rq.serializers import JSONSerializer

from app.api.application import create_app
from app.lifecycle import bulk
from app.settings import Settings
from tests.conftest import RQ_WORKER, Project, status, until
from tests.failed import fail

pytestmark = pytest.mark.concurrency(1, 20)
JOBS = "/api/v1/jobs"
SOURCE = """
import time
from rq import Retry
from app import job


def flaky(path: str) -> int:
    with open(path, "a") as file:
        file.write("run\\n")
    if len(open(path).readlines()) < 3:
        raise KeyError("not yet")
    return 7


@job(idempotent=True)
def note(path: str, text: str, seconds: float = 0) -> None:
    with open(path, "a") as file:
        file.write(text + "\\n")
    time.sleep(seconds)


def again() -> object:
    return Retry(max=1)
"""


@pytest.fixture
def client(valkey: redis.Redis) -> FlaskClient:
    return create_app(Settings(), valkey).test_client()


@pytest.fixture
def worker(project: Project) -> Iterator[subprocess.Popen[bytes]]:
    project.write("kinds", SOURCE)
    process = project.start(*RQ_WORKER, "a", LOG_LEVEL="ERROR", SHUTDOWN_GRACE="1")
    yield process
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)


def put(connection: redis.Redis, job_id: str, name: str, *args: object, **options: Any) -> None:
    queue = rq.Queue("a", connection=connection, serializer=JSONSerializer)
    queue.enqueue(f"jobs.{name}", args=args, job_id=job_id, failure_ttl=600, **options)


def history(client: FlaskClient, job_id: str) -> list[tuple[object, ...]]:
    """Attempt, outcome and the error's type of each; newest first."""
    entries = client.get(f"{JOBS}/{job_id}").get_json()["history"]
    for entry in entries:
        assert entry["worker"]
        assert entry["started_at"] <= entry["ended_at"]
    assert entries == sorted(entries, key=lambda entry: entry["ended_at"], reverse=True)
    return [(entry["attempt"], entry["outcome"], (entry["error"] or {}).get("type")) for entry in entries]


def test_every_attempt_is_kept_with_its_error(
    project: Project, client: FlaskClient, valkey: redis.Redis, worker: subprocess.Popen[bytes]
) -> None:
    put(valkey, "fail", "demo.fail", "no", retry=rq.Retry(2))
    put(valkey, "flaky", "kinds.flaky", str(project.folder / "log"), retry=rq.Retry(5))
    put(valkey, "again", "kinds.again")
    until(lambda: [status(valkey, name) for name in ("fail", "flaky", "again")] == ["failed", "finished", "failed"])
    assert history(client, "fail") == [
        (3, "failed", "RuntimeError"),
        (2, "retried", "RuntimeError"),
        (1, "retried", "RuntimeError"),
    ]
    assert history(client, "flaky") == [(3, "finished", None), (2, "retried", "KeyError"), (1, "retried", "KeyError")]
    assert history(client, "again") == [(2, "failed", None), (1, "retried", None)]
    client.post(f"{JOBS}/fail/requeue", json={"args": ["still no"], "retry": {"max": 1, "intervals": [0]}})
    until(lambda: status(valkey, "fail") == "failed")
    assert [entry[:2] for entry in history(client, "fail")] == [
        (5, "failed"), (4, "retried"), (3, "failed"), (2, "retried"), (1, "retried")
    ]  # fmt: skip
    assert client.get(f"{JOBS}/fail").get_json()["error"]["message"] == "still no"


@pytest.mark.one_at_a_time("one job is lost with its work horse")
def test_attempts_that_were_lost_or_broken_off_are_kept_too(
    project: Project, client: FlaskClient, valkey: redis.Redis, worker: subprocess.Popen[bytes]
) -> None:
    log = str(project.folder / "log")
    for job_id in ("retried", "again", "stopped", "returned"):
        put(valkey, job_id, "kinds.note", log, job_id, 60, retry=rq.Retry(1) if job_id == "retried" else None)
    for job_id in ("retried", "again"):
        until(lambda job_id=job_id: status(valkey, job_id) == "started")
        psutil.Process(worker.pid).children()[0].kill()
        until(lambda job_id=job_id: valkey.xlen(f"rq:results:{job_id}") == 1)
        client.post(f"{JOBS}/{job_id}/cancel")
    until(lambda: status(valkey, "stopped") == "started")
    client.post(f"{JOBS}/stopped/cancel")
    until(lambda: status(valkey, "returned") == "started")
    worker.send_signal(signal.SIGTERM)
    until(lambda: status(valkey, "returned") == "queued")
    assert history(client, "retried")[-1] == (1, "retried", "WorkHorseTerminated")
    assert history(client, "again")[-1] == (1, "retried", "WorkHorseTerminated")
    assert history(client, "stopped")[0][:2] == (1, "stopped")
    assert history(client, "returned") == [(1, "retried", "Error")]


@pytest.mark.parametrize(
    "change",
    [{"queue": "b"}, {"delay": 3600}, {"timeout": 77}, {"at_front": True}],
    ids=lambda change: next(iter(change)),
)
def test_a_change_and_a_claim_win_or_lose_cleanly(
    project: Project, client: FlaskClient, valkey: redis.Redis, worker: subprocess.Popen[bytes], change: dict[str, Any]
) -> None:
    """The jobs at the head of the queue are changed again and again, while a worker takes them from there.

    Neither gets far ahead: the test waits for the worker after each round, so that both win and both lose.
    """
    log = project.folder / "log"
    client.post("/api/v1/queues/a/pause")
    for number in range(1000):
        put(valkey, str(number), "kinds.note", str(log), str(number), 0.004 * (number % 4 == 0), job_timeout=50)
    client.post("/api/v1/queues/a/resume")
    answers: dict[str, int] = {}
    while valkey.llen("rq:queue:a"):
        seen = valkey.zcard("rq:finished:a")
        for job_id in valkey.lrange("rq:queue:a", 0, 4):
            if job_id.decode() not in answers:
                answers[job_id.decode()] = client.patch(f"{JOBS}/{job_id.decode()}", json=change).status_code
        until(lambda: valkey.zcard("rq:finished:a") > seen or not valkey.llen("rq:queue:a"))  # noqa: B023 - called at once
    moved = [job_id for job_id, answer in answers.items() if answer == 200]
    assert set(answers.values()) == {200, 409}
    stay = "queue" in change or "delay" in change
    until(lambda: valkey.zcard("rq:finished:a") == 1000 - (len(moved) if stay else 0))
    runs = Counter(log.read_text().split())
    assert set(runs.values()) == {1}
    assert set(runs) == {str(number) for number in range(1000)} - set(moved if stay else [])
    if "queue" in change:
        assert sorted(valkey.lrange("rq:queue:b", 0, -1)) == sorted(job_id.encode() for job_id in moved)
    if "delay" in change:
        assert sorted(valkey.zrange("rq:scheduled:a", 0, -1)) == sorted(job_id.encode() for job_id in moved)
    for job_id in moved:
        assert valkey.hget(f"rq:job:{job_id}", "timeout") == (b"77" if "timeout" in change else b"50")


def test_jobs_that_are_requeued_in_bulk_run_once_each(
    project: Project, client: FlaskClient, valkey: redis.Redis, worker: subprocess.Popen[bytes], monkeypatch: Any
) -> None:
    """Two requests at once, each going on by its cursor, while a worker takes what they requeue."""
    log = project.folder / "log"
    for number in range(500):
        put(valkey, str(number), "kinds.note", str(log), str(number))
    until(lambda: valkey.zcard("rq:finished:a") == 500)
    for job_id in valkey.zrange("rq:finished:a", 0, -1):
        valkey.hset(f"rq:job:{job_id.decode()}", "status", "failed")
    valkey.rename("rq:finished:a", "rq:failed:a")
    log.unlink()
    monkeypatch.setattr(bulk, "MAX_SECONDS", 0)
    requeued: list[int] = []

    def go_on() -> None:
        cursor, other = None, create_app(Settings()).test_client()
        while not requeued or cursor:
            answer = other.post(f"{JOBS}/requeue", json={"queue": "a", "cursor": cursor}).get_json()
            requeued.append(answer["requeued"])
            cursor = answer["next_cursor"]

    threads = [threading.Thread(target=go_on) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sum(requeued) == 500
    until(lambda: valkey.zcard("rq:finished:a") == 500)
    assert set(Counter(log.read_text().split()).values()) == {1}


@pytest.mark.one_at_a_time("no worker is started")
def test_no_command_holds_redis_up_while_very_many_are_requeued(client: FlaskClient, valkey: redis.Redis) -> None:
    """20 ms by its own slow log, which counts what the machine does meanwhile: in the best of three runs."""
    number, longest = 20_000, []
    while len(longest) < 3 and min(longest, default=20_000) >= 20_000:
        valkey.flushall()
        fail(valkey, "model", args=("x" * 200,))
        model, result = valkey.dump("rq:job:model"), valkey.dump("rq:results:model")
        with valkey.pipeline(transaction=False) as pipeline:
            for n in range(number):
                pipeline.restore(f"rq:job:{n}", 0, model).restore(f"rq:results:{n}", 0, result)
                pipeline.zadd("rq:failed:default", {str(n): 2_000_000_000})
            pipeline.execute()
        valkey.slowlog_reset()
        requeued, cursor = 0, None
        while requeued == 0 or cursor:
            answer = client.post(f"{JOBS}/requeue", json={"cursor": cursor}).get_json()
            requeued, cursor = requeued + answer["requeued"], answer["next_cursor"]
        assert requeued == valkey.llen("rq:queue:default") == number + 1
        longest.append(max([entry["duration"] for entry in valkey.slowlog_get(128)], default=0))
    assert min(longest) < 20_000  # microseconds
