"""Warnings of queues that no worker serves: with a new job, and with the queue."""

import json
import threading
from typing import Any

import pytest
import redis
import rq
from flask.testing import FlaskClient

from app.api.application import create_app
from app.settings import Settings
from app.testing import run_jobs
from app.views import served
from app.views.served import ServedQueues, UnservedQueues
from app.worker import Worker
from tests.conftest import Project, until
from tests.receiver import SECRET

JOBS = "/api/v1/jobs"
ADD = {"function": "demo.add", "args": [1, 2]}


def warning(queue: str) -> str:
    return f'no worker takes jobs from queue "{queue}"'


@pytest.fixture
def client(valkey: redis.Redis) -> FlaskClient:
    return create_app(Settings(webhook_secret=SECRET), valkey).test_client()


def birth(connection: redis.Redis, *queues: str, worker: type[rq.worker.BaseWorker] = Worker) -> Any:
    found = worker(list(queues), connection=connection)
    found.register_birth()
    return found


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (JOBS, {**ADD, "queue": "x"}),
        (JOBS, {**ADD, "queue": "x", "delay": "1h"}),
        (f"{JOBS}/bulk", {"jobs": [{**ADD, "queue": "x"}, {**ADD, "queue": "default"}, {**ADD, "queue": "x"}]}),
        ("/api/v1/workflows", {"jobs": [{**ADD, "name": "a", "queue": "x"}, {**ADD, "name": "b", "queue": "x"}]}),
    ],
)
def test_an_enqueue_warns_once_of_a_queue_without_a_worker(
    client: FlaskClient, valkey: redis.Redis, path: str, body: dict[str, Any]
) -> None:
    birth(valkey, "default")
    answer = client.post(path, json=body)
    assert (answer.status_code, answer.get_json()["warnings"]) == (202, [warning("x")])


@pytest.mark.parametrize("worker", [Worker, rq.Worker])
def test_where_any_worker_serves_the_queue_there_is_nothing_to_warn_of(
    client: FlaskClient, valkey: redis.Redis, worker: type[rq.worker.BaseWorker]
) -> None:
    birth(valkey, "x", "default", worker=worker)
    assert "warnings" not in client.post(JOBS, json={**ADD, "queue": "x"}).get_json()
    assert "warnings" not in client.post("/api/v1/functions/demo.add/jobs", json={"a": 1, "b": 2}).get_json()
    assert "warnings" not in client.get("/api/v1/queues/x").get_json()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (JOBS, {**ADD, "webhook": {"url": "https://example.com/"}}),
        ("/api/v1/workflows", {"jobs": [{**ADD, "name": "a"}], "webhook": {"url": "https://example.com/"}}),
    ],
)
def test_a_webhook_that_nobody_would_deliver_is_warned_of(
    client: FlaskClient, valkey: redis.Redis, path: str, body: dict[str, Any]
) -> None:
    birth(valkey, "high", "default", "low")
    assert client.post(path, json=body).get_json()["warnings"] == [warning("webhooks")]


def test_a_request_that_is_repeated_gets_its_warnings_again(client: FlaskClient) -> None:
    def send() -> Any:
        return client.post(JOBS, json={**ADD, "queue": "x"}, headers={"Idempotency-Key": "one"})

    first, second = send(), send()
    assert second.headers["Idempotent-Replayed"] == "true"
    assert first.get_json() == second.get_json()
    assert first.get_json()["warnings"] == [warning("x")]


def test_queues_warn_where_jobs_are_and_no_worker_is(client: FlaskClient, valkey: redis.Redis) -> None:
    serving = birth(valkey, "default")
    for queue in ("x", "default"):
        client.post(JOBS, json={**ADD, "queue": queue})
    client.post("/api/v1/queues/empty/pause")
    found = {queue["name"]: queue.get("warnings") for queue in client.get("/api/v1/queues").get_json()["queues"]}
    assert found == {"x": [warning("x")], "default": None}
    serving.register_death()
    assert client.get("/api/v1/queues/default").get_json()["warnings"] == [warning("default")]
    client.post("/api/v1/queues/default/empty")
    assert "warnings" not in client.get("/api/v1/queues/default").get_json()


def test_a_worker_whose_heartbeat_stopped_serves_nothing(client: FlaskClient, valkey: redis.Redis) -> None:
    dead = birth(valkey, "x")
    valkey.delete(dead.key)  # as RQ's expiry does
    valkey.hincrby(dead.key, "fence", 1)
    assert client.post(JOBS, json={**ADD, "queue": "x"}).get_json()["warnings"] == [warning("x")]


def test_what_is_known_is_read_once_for_many_requests(
    client: FlaskClient, valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[threading.Thread] = []
    read = served.served_queues
    monkeypatch.setattr(served, "served_queues", lambda c: (reads.append(threading.current_thread()), read(c))[1])
    for _ in range(20):
        assert client.post(JOBS, json={**ADD, "queue": "x"}).get_json()["warnings"] == [warning("x")]
    assert len(reads) == 1


def test_what_is_known_is_renewed_beside_the_requests(valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served, "REFRESH_AFTER_SECONDS", 0.0)
    monkeypatch.setattr(served, "MAX_AGE_SECONDS", 60.0)
    known = ServedQueues(valkey)
    assert known.warnings(["x"]) == {"warnings": [warning("x")]}
    birth(valkey, "x")
    reads: list[threading.Thread] = []
    read = served.served_queues
    monkeypatch.setattr(served, "served_queues", lambda c: (reads.append(threading.current_thread()), read(c))[1])
    until(lambda: known.warnings(["x"]) == {}, 5)
    assert threading.main_thread() not in reads


def test_no_request_waits_for_another_that_asks(fake: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, answered = threading.Event(), threading.Event()

    def slow(_: object) -> set[str]:
        asked.set()
        answered.wait(20)
        return set()

    monkeypatch.setattr(served, "served_queues", slow)
    known = ServedQueues(fake)
    first = threading.Thread(target=known.warnings, args=[["x"]])
    first.start()
    assert asked.wait(20)
    assert known.warnings(["x"]) == {}
    answered.set()
    first.join(20)
    assert known.warnings(["x"]) == {"warnings": [warning("x")]}


def test_nobody_is_warned_while_it_is_not_known(fake: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(_: object) -> set[str]:
        raise redis.ConnectionError

    monkeypatch.setattr(served, "served_queues", away)
    answer = create_app(Settings(), fake).test_client().post(JOBS, json={**ADD, "queue": "x"})
    assert (answer.status_code, "warnings" in answer.get_json()) == (202, False)


def test_a_test_that_runs_all_queues_itself_is_warned_of_nothing() -> None:
    with run_jobs() as jobs:
        assert "warnings" not in jobs.client.post(JOBS, json={**ADD, "queue": "x"}).get_json()
        assert "warnings" not in jobs.client.get("/api/v1/queues/x").get_json()


def test_the_scheduler_logs_an_unserved_queue_once_until_it_was_served(
    client: FlaskClient, valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr(served.log, "warning", lambda text, **said: logged.append((text, said)), raising=False)
    monkeypatch.setattr(served, "CHECK_INTERVAL_SECONDS", 0.0)
    unserved = UnservedQueues(valkey)

    def looks() -> list[tuple[str, dict[str, Any]]]:
        logged.clear()
        for _ in range(3):
            unserved.check()
        return list(logged)

    said = [(warning("webhooks"), {"queue": "webhooks", "waiting": 1})]
    client.post(JOBS, json={**ADD, "queue": "webhooks"})
    client.post(JOBS, json={**ADD, "queue": "later", "delay": "1h"})
    assert looks() == said
    assert looks() == []
    serving = birth(valkey, "webhooks")
    assert looks() == []
    serving.register_death()
    assert looks() == said


def test_a_queue_is_not_logged_while_its_workers_are_just_starting(
    client: FlaskClient, valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[str] = []
    monkeypatch.setattr(served.log, "warning", lambda text, **_: logged.append(text), raising=False)
    monkeypatch.setattr(served, "CHECK_INTERVAL_SECONDS", 0.0)
    unserved = UnservedQueues(valkey)
    client.post(JOBS, json=ADD)
    unserved.check()
    birth(valkey, "default")
    unserved.check()
    assert logged == []


def test_the_scheduler_process_logs_it(project: Project, client: FlaskClient) -> None:
    client.post(JOBS, json={**ADD, "queue": "x"})
    process = project.start("scheduler.py", LOG_FORMAT="json")
    killer = threading.Timer(30, process.kill)
    killer.start()
    assert process.stdout
    line = next(line for line in process.stdout if b"no worker takes" in line)
    process.terminate()
    process.communicate(timeout=10)
    killer.cancel()
    said = json.loads(line)
    assert (said["event"], said["queue"], said["level"]) == (warning("x"), "x", "warning")
