"""The whole way of a job: HTTP, Valkey, a worker, the scheduler, and back."""

import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from flask.testing import FlaskClient

from app.api.application import create_app
from app.settings import Settings
from app.views import waiting
from tests.conftest import RQ_WORKER, Project, until


@pytest.fixture
def client(valkey: redis.Redis) -> FlaskClient:
    return create_app(Settings()).test_client()


@pytest.fixture
def running(project: Project, client: FlaskClient) -> Iterator[None]:
    """A worker and the scheduler."""
    worker = project.start(*RQ_WORKER)
    scheduler = project.start("scheduler.py")
    until(lambda: client.get("/api/v1/workers").get_json()["workers"])
    yield
    for process in (worker, scheduler):
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)


def wait(client: FlaskClient, path: str, seconds: int = 20) -> Any:
    return client.get(path, headers={"Prefer": f"wait={seconds}"}).get_json()


@pytest.mark.usefixtures("running")
def test_a_failing_job_is_retried_after_its_waits(client: FlaskClient) -> None:
    body = {"function": "demo.fail", "args": ["no"], "retry": {"max": 2, "intervals": [1, "1s"]}}
    job = wait(client, client.post("/api/v1/jobs", json=body).headers["Location"])
    assert (job["status"], job["attempts"], job["retries_left"]) == ("failed", 3, 0)
    assert job["error"]["type"] == "RuntimeError"
    assert job["error"]["message"] == "no"


@pytest.mark.usefixtures("running")
def test_a_delayed_job_runs_in_time_and_a_dependent_after_its_parent(client: FlaskClient) -> None:
    parent = client.post("/api/v1/jobs", json={"function": "demo.add", "args": [1, 2], "delay": "1s"}).get_json()
    assert (parent["status"], parent["scheduled_for"] is not None) == ("scheduled", True)
    child = client.post(
        "/api/v1/jobs", json={"function": "demo.add", "args": [3, 4], "depends_on": [parent["id"]]}
    ).get_json()
    assert child["status"] == "deferred"
    child = wait(client, child["links"]["self"])
    assert child["result"] == 7
    assert child["started_at"] > wait(client, parent["links"]["self"])["ended_at"]


@pytest.mark.usefixtures("running")
def test_a_running_job_is_stopped(client: FlaskClient) -> None:
    path = client.post("/api/v1/functions/demo.sleep/jobs", json={"seconds": 60}).headers["Location"]
    until(lambda: client.get(path).get_json()["status"] == "started")
    assert client.delete(path).status_code == 409
    assert client.post(f"{path}/cancel").status_code == 202
    assert wait(client, path)["status"] == "stopped"


def test_a_wait_ends_when_the_job_is_canceled_without_polling(client: FlaskClient, valkey: redis.Redis) -> None:
    path = client.post("/api/v1/functions/demo.add/jobs", json={"a": 1, "b": 2}).headers["Location"]
    other = create_app(Settings()).test_client()
    answers: list[Any] = []
    waiter = threading.Thread(target=lambda: answers.append(wait(other, path, 30)))
    started = time.monotonic()
    waiter.start()
    until(lambda: valkey.info("clients")["blocked_clients"] == 1)
    before = valkey.info("stats")["total_commands_processed"]
    client.post(f"{path}/cancel")
    waiter.join(10)
    assert answers[0]["status"] == "canceled"
    assert time.monotonic() - started < 10
    assert valkey.info("stats")["total_commands_processed"] - before < 50  # a fresh connection says a few words itself


def test_one_who_waits_beside_too_many_is_answered_at_once(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "MAX_WAITERS", 1)
    path = client.post("/api/v1/functions/demo.add/jobs", json={"a": 1, "b": 2}).headers["Location"]
    other = create_app(Settings()).test_client()
    first = threading.Thread(target=wait, args=(other, path, 30))
    first.start()
    until(lambda: waiting._waiting.total() == 1)
    started = time.monotonic()
    assert wait(client, path, 30)["status"] == "queued"
    assert time.monotonic() - started < 5
    client.post(f"{path}/cancel")
    first.join(10)
    assert not waiting._waiting


def test_a_wait_is_over_when_it_is_over(client: FlaskClient) -> None:
    path = client.post("/api/v1/functions/demo.add/jobs", json={"a": 1, "b": 2}).headers["Location"]
    assert wait(client, path, 1)["status"] == "queued"
