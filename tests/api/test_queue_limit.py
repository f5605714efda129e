"""QUEUE_LIMIT: no request makes more queues; empty ones of no worker disappear from RQ's set."""

import time
from typing import Any

import pytest
import redis
from flask.testing import FlaskClient
from rq import Queue

from app.api.application import create_app
from app.catalog.catalog import Catalog
from app.lifecycle import empty_queues
from app.lifecycle.empty_queues import EmptyQueueRemover
from app.redis.keys import QUEUES
from app.schedules.process import Scheduler
from app.settings import Settings
from tests.contents import contents
from tests.failed import fail

V1 = "/api/v1"
CALL = {"function": "demo.add", "args": [1, 2]}
NODE = {"name": "one", **CALL}


@pytest.fixture
def client(fake: redis.Redis) -> FlaskClient:
    """Three queues at most; there are two: known and default."""
    fake.sadd(QUEUES, "rq:queue:known", "rq:queue:default")
    return create_app(Settings(queue_limit=3, queues="default,named", audit="off"), fake).test_client()


@pytest.fixture
def _full(fake: redis.Redis) -> None:
    fake.sadd(QUEUES, "rq:queue:third")


def queues(connection: redis.Redis) -> set[str]:
    return {key.decode().removeprefix("rq:queue:") for key in connection.smembers(QUEUES)}


REQUESTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "job": ("POST", "jobs", {**CALL, "queue": "more"}),
    "named job": ("POST", "jobs", {**CALL, "queue": "more", "id": "x"}),
    "delayed job": ("POST", "jobs", {**CALL, "queue": "more", "delay": 60}),
    "unique job": ("POST", "jobs", {**CALL, "queue": "more", "unique": {}}),
    "bulk": ("POST", "jobs/bulk", {"jobs": [{**CALL, "queue": "known"}, {**CALL, "queue": "more"}]}),
    "workflow": ("POST", "workflows", {"jobs": [NODE, {**NODE, "name": "two", "after": ["one"], "queue": "more"}]}),
    "hook": ("POST", "workflows", {"jobs": [NODE], "on_success": {**CALL, "queue": "more"}}),
    "schedule": ("PUT", "schedules/s", {**CALL, "interval": 60, "queue": "more"}),
    "change": ("PATCH", "jobs/waits", {"queue": "more"}),
    "requeue": ("POST", "jobs/failed/requeue", {"queue": "more"}),
}


@pytest.mark.usefixtures("_full")
@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "once"}], ids=["plain", "idempotent"])
@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_that_would_make_one_more_is_refused_and_changes_nothing(
    client: FlaskClient, fake: redis.Redis, name: str, headers: dict[str, str]
) -> None:
    fail(fake, "failed")
    client.post(f"{V1}/jobs", json={**CALL, "id": "waits", "delay": 3600})
    before = contents(fake)
    method, path, body = REQUESTS[name]
    answer = client.open(f"{V1}/{path}", method=method, json=body, headers=headers)
    assert answer.status_code == 409
    assert "Queue 'more' would be one more than QUEUE_LIMIT allows, which is 3" in answer.get_json()["detail"]
    assert contents(fake) == before


@pytest.mark.parametrize("name", REQUESTS)
def test_the_last_one_is_made_and_those_that_there_are_or_QUEUES_names_always_are_taken(
    client: FlaskClient, fake: redis.Redis, name: str
) -> None:
    fail(fake, "failed")
    client.post(f"{V1}/jobs", json={**CALL, "id": "waits", "delay": 3600})
    method, path, body = REQUESTS[name]
    assert client.open(f"{V1}/{path}", method=method, json=body).status_code < 300
    fake.sadd(QUEUES, "rq:queue:more")
    for queue in ("known", "more", "named"):
        assert client.post(f"{V1}/jobs", json={**CALL, "queue": queue}).status_code == 202
        assert client.post(f"{V1}/jobs", json={**CALL, "queue": queue, "id": queue}).status_code == 202
    assert queues(fake) == {"default", "known", "more", "named"}
    assert client.post(f"{V1}/jobs", json={**CALL, "queue": "other"}).status_code == 409


def test_a_bulk_of_many_names_makes_none_of_them(client: FlaskClient, fake: redis.Redis) -> None:
    body = {"jobs": [{**CALL, "queue": f"q{number}"} for number in range(1000)]}
    assert client.post(f"{V1}/jobs/bulk", json=body).status_code == 409
    assert queues(fake) == {"default", "known"}
    assert not fake.keys("rq:job:*")


def test_a_schedule_whose_run_would_make_one_more_is_set_aside(client: FlaskClient, fake: redis.Redis) -> None:
    client.put(f"{V1}/schedules/s", json={**CALL, "interval": 60, "queue": "more"})
    fake.sadd(QUEUES, "rq:queue:third")
    assert client.post(f"{V1}/schedules/s/trigger").status_code == 409
    client.put(f"{V1}/schedules/due", json={**CALL, "interval": 60, "queue": "third"})
    fake.srem(QUEUES, "rq:queue:third")
    fake.sadd(QUEUES, "rq:queue:other")
    scheduler = Scheduler(fake, Settings(queue_limit=3), Catalog(), clock=lambda: time.time() + 90)
    for _ in range(3):
        scheduler.step()
    assert "QUEUE_LIMIT" in client.get(f"{V1}/schedules/due").get_json()["reason"]
    assert queues(fake) == {"default", "known", "other"}


def test_no_round_trip_is_added_to_an_enqueue(client: FlaskClient, fake: redis.Redis) -> None:
    sent: list[str] = []
    plain = fake.execute_command
    fake.execute_command = lambda *words, **options: sent.append(words[0]) or plain(*words, **options)  # type: ignore[func-returns-value]
    client.post(f"{V1}/jobs", json={**CALL, "queue": "known"})
    sent.clear()
    client.post(f"{V1}/jobs", json={**CALL, "queue": "known"})
    assert [word for word in sent if word.startswith("EVAL")] == ["EVALSHA"]
    assert not {"SMEMBERS", "SCARD", "SISMEMBER"} & set(sent)


def test_empty_queues_of_no_worker_disappear(fake: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    client = create_app(Settings(audit="off"), fake).test_client()
    stock = [Queue(name, connection=fake) for name in ("waiting", "finished", "served", "empty", "other")]
    fake.sadd(QUEUES, *(queue.key for queue in stock), "rq:queue:paused", "rq:queue:default")
    client.post(f"{V1}/jobs", json={**CALL, "queue": "waiting", "delay": 60})
    fake.zadd("rq:finished:finished", {"x": 1})
    fake.sadd("rq:workers", "rq:worker:w")
    fake.hset("rq:worker:w", mapping={"queues": "served", "last_heartbeat": "x"})
    client.post(f"{V1}/queues/paused/pause")
    remover = EmptyQueueRemover(fake, ["default"])
    everything = queues(fake)
    remover.sweep()
    remover.sweep()
    assert queues(fake) == everything  # not before it has been so for a while
    monkeypatch.setattr(empty_queues, "INTERVAL_SECONDS", 0.0)
    remover._next_sweep_at = 0.0
    remover.sweep()
    assert queues(fake) == everything - {"empty", "other"}
    client.post(f"{V1}/jobs", json={**CALL, "queue": "empty"})
    assert "empty" in queues(fake)
