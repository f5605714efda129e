"""PATCH /jobs/{id}: what is left in Redis is what would be there, had the job been enqueued so."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from flask.testing import FlaskClient

from app import limits
from app.api.application import create_app
from app.redis.keys import LEASES
from app.settings import Settings
from app.worker.redis_session import RedisSession
from tests.conftest import status, until
from tests.contract.test_worker import alike, everything
from tests.failed import fail

JOBS = "/api/v1/jobs"
AT = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
WAITS = {"depends_on": ["parent"]}


@pytest.fixture
def client(valkey: redis.Redis) -> FlaskClient:
    return create_app(Settings(audit="off"), valkey).test_client()


def put(client: FlaskClient, **said: Any) -> None:
    body = {"function": "demo.add", "args": [1, 2], "id": "job", **said}
    assert client.post(JOBS, json=body).status_code == 202


def scores(connection: redis.Redis) -> dict[bytes, Any]:
    return {key: connection.zrange(key, 0, -1, withscores=True) for key in connection.keys("rq:scheduled:*")}


@pytest.mark.parametrize(
    ("before", "change", "after"),
    [
        ({}, {"at": AT}, {"at": AT}),
        ({}, {"at": AT, "queue": "low", "at_front": True}, {"at": AT, "queue": "low", "at_front": True}),
        ({}, {"queue": "low", "timeout": "2m"}, {"queue": "low", "timeout": 120}),
        ({}, {"tags": ["a", "b"], "description": "Mine"}, {"tags": ["a", "b"], "description": "Mine"}),
        ({"at": AT}, {"delay": 0}, {}),
        ({"at": AT}, {"at": "2001-01-01T00:00:00Z"}, {}),
        ({"delay": "2h"}, {"at": AT}, {"at": AT}),
        ({"delay": "2h", "queue": "low"}, {"at": AT, "queue": "high"}, {"at": AT, "queue": "high"}),
        ({"at": AT}, {"queue": "low", "timeout": 7}, {"at": AT, "queue": "low", "timeout": 7}),
        ({"at": AT, "tags": ["a"]}, {"tags": ["b"]}, {"at": AT, "tags": ["b"]}),
        ({"at": AT, "ttl": 900}, {"delay": 0}, {"ttl": 900}),
        (WAITS, {"queue": "low", "tags": ["a"]}, {**WAITS, "queue": "low", "tags": ["a"]}),
    ],
)  # fmt: skip
def test_it_is_as_if_enqueued_so(
    client: FlaskClient, valkey: redis.Redis, before: dict[str, Any], change: dict[str, Any], after: dict[str, Any]
) -> None:
    client.post(JOBS, json={"function": "demo.add", "args": [0, 0], "id": "parent", "delay": "2d"})
    put(client, **before)
    answer = client.patch(f"{JOBS}/job", json=change)
    assert answer.status_code == 200, answer.get_json()
    job, changed, due = answer.get_json(), everything(valkey), scores(valkey)
    valkey.flushall()
    client.post(JOBS, json={"function": "demo.add", "args": [0, 0], "id": "parent", "delay": "2d"})
    put(client, **after)
    expected = everything(valkey)
    named = {"rq:queues", "rq:queues lives"}  # a queue stays known
    assert changed.keys() == expected.keys()
    assert {k: v for k, v in changed.items() if k not in named and not alike(v, expected[k])} == {}
    assert changed["rq:queues"] >= expected["rq:queues"]
    assert [entry[0][1] for entry in due.values()] == pytest.approx(
        [entry[0][1] for entry in scores(valkey).values()], abs=2
    )
    assert job["status"] == client.get(f"{JOBS}/job").get_json()["status"]


def test_at_front_is_the_head_of_the_queue_and_nothing_else_moves(client: FlaskClient, valkey: redis.Redis) -> None:
    for name in ("first", "second", "third"):
        put(client, id=name)
    client.patch(f"{JOBS}/third", json={"description": "Mine", "timeout": 5})
    client.patch(f"{JOBS}/second", json={"queue": "default"})
    assert valkey.lrange("rq:queue:default", 0, -1) == [b"first", b"second", b"third"]
    client.patch(f"{JOBS}/third", json={"at_front": True})
    assert valkey.lrange("rq:queue:default", 0, -1) == [b"third", b"first", b"second"]


def test_a_delay_counts_as_elapsed_time_and_a_moment_does_not(client: FlaskClient, valkey: redis.Redis) -> None:
    """The scheduler moves what is delayed when the clock is put back."""
    put(client)
    for body, delayed in (({"delay": 500}, True), ({"at": AT}, False), ({"delay": 500}, True), ({"delay": 0}, False)):
        assert client.patch(f"{JOBS}/job", json=body).status_code == 200
        assert valkey.hexists("rq:job:job", "delayed") == delayed


@pytest.mark.parametrize("status", ["started", "finished", "failed", "canceled"])
def test_a_job_that_has_started_is_not_changed(client: FlaskClient, valkey: redis.Redis, status: str) -> None:
    fail(valkey, "job")
    valkey.hset("rq:job:job", "status", status)
    before = everything(valkey)
    for body in ({"delay": 5}, {"at_front": True}, {"queue": "low"}, {"timeout": 5}, {"tags": []}):
        assert client.patch(f"{JOBS}/job", json=body).status_code == 409
    assert everything(valkey) == before


def test_a_job_that_a_worker_holds_is_not_changed(client: FlaskClient, valkey: redis.Redis) -> None:
    put(client)
    valkey.lrem("rq:queue:default", 1, "job")  # claimed, and not begun
    for body in ({"delay": 5}, {"at_front": True}, {"queue": "low"}, {"timeout": 5}, {"description": "x"}):
        assert client.patch(f"{JOBS}/job", json=body).status_code == 409


@pytest.mark.parametrize("body", [{"delay": 5}, {"at": AT}, {"at_front": True}, {"timeout": 5}])
def test_a_deferred_job_keeps_its_time(client: FlaskClient, valkey: redis.Redis, body: dict[str, Any]) -> None:
    put(client, id="parent")
    put(client, depends_on=["parent"])
    before = everything(valkey)
    answer = client.patch(f"{JOBS}/job", json=body)
    assert (answer.status_code, "deferred" in answer.get_json()["detail"]) == (409, True)
    assert everything(valkey) == before


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "#"),
        ({"delay": 5, "at": AT}, "#"),
        ({"at_front": False}, "#/at_front"),
        ({"queue": ""}, "#/queue"),
        ({"timeout": 0}, "#/timeout"),
        ({"tags": [""]}, "#/tags/0"),
        ({"function": "demo.fail"}, "#/function"),
    ],
)
def test_bad_input_changes_nothing(
    client: FlaskClient, valkey: redis.Redis, body: dict[str, Any], pointer: str
) -> None:
    put(client)
    before = everything(valkey)
    answer = client.patch(f"{JOBS}/job", json=body)
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.get_json()["errors"]] == [pointer]
    assert everything(valkey) == before
    assert client.patch(f"{JOBS}/unknown", json={"delay": 5}).status_code == 404


def test_meta_of_others_is_kept(client: FlaskClient, valkey: redis.Redis) -> None:
    put(client)
    valkey.hset("rq:job:job", "meta", '{"mine": 12345678901234567, "empty": []}')
    assert client.patch(f"{JOBS}/job", json={"tags": ["a"]}).get_json()["tags"] == ["a"]
    assert valkey.hget("rq:job:job", "meta") == b'{"mine":12345678901234567,"empty":[],"tags":["a"]}'
    valkey.hset("rq:job:job", "meta", b"\x80pickle")
    assert client.patch(f"{JOBS}/job", json={"tags": ["b"]}).status_code == 409
    assert valkey.hget("rq:job:job", "meta") == b"\x80pickle"


@pytest.fixture
def claims(valkey: redis.Redis) -> RedisSession:
    valkey.zadd(LEASES, {"w": 0})
    return RedisSession(valkey, "w", give_up=lambda: True)


def take(claims: RedisSession, queue: str) -> list[bytes]:
    found = claims.claim([queue], claims.new_executions(1))
    return [one.raw_id for one in found] if isinstance(found, list) else []


def test_a_job_that_waits_for_a_limit_of_its_queue_asks_that_of_the_next(
    client: FlaskClient, valkey: redis.Redis, claims: RedisSession
) -> None:
    for job_id in ("first", "second"):
        put(client, id=job_id, queue="a.b-c", concurrency={"most": 1, "by": "queue"})
    assert (take(claims, "a.b-c"), take(claims, "a.b-c")) == ([b"first"], [])
    assert status(valkey, "second") == "scheduled"
    assert client.patch(f"{JOBS}/second", json={"queue": "low"}).get_json()["status"] == "queued"
    assert take(claims, "low") == [b"second"]
    assert valkey.scard("jobline:limit:slots:queue:low::held") == 1


def test_a_job_that_waits_for_a_limit_and_is_put_off_is_not_let_go_before(
    client: FlaskClient, valkey: redis.Redis, claims: RedisSession
) -> None:
    for job_id in ("first", "second"):
        put(client, id=job_id, concurrency={"most": 1})
    assert (take(claims, "default"), take(claims, "default")) == ([b"first"], [])
    client.patch(f"{JOBS}/second", json={"delay": 3600})
    valkey.delete("rq:wip:default")  # the first has ended
    until(lambda: limits.sweep(valkey) == 3600)
    assert status(valkey, "second") == "scheduled"
    client.patch(f"{JOBS}/second", json={"delay": 0})
    until(lambda: limits.sweep(valkey) == 3600)
    assert valkey.lrange("rq:queue:default", 0, -1) == [b"second"]
