"""The contract of /failures, of requeueing with another call, and of a job's history."""

from datetime import timedelta
from typing import Any

import pytest
import redis
from flask.testing import FlaskClient

from app.api.application import create_app
from app.author.options import Limit, job
from app.catalog.catalog import Catalog, Function
from app.settings import Settings
from app.views import failures
from tests.failed import fail

JOBS = "/api/v1/jobs"


@pytest.fixture
def client(valkey: redis.Redis) -> FlaskClient:
    return create_app(Settings(), valkey).test_client()


def test_failures_are_grouped_most_frequent_first(client: FlaskClient, valkey: redis.Redis) -> None:
    fail(valkey, "one", error="KeyError: 'x'")
    fail(valkey, "old", ago=timedelta(days=2))
    fail(valkey, "newer", queue="low", error="ValueError: the latest")
    fail(valkey, "mail", function="demo.sleep", args=(1,))
    client.post(JOBS, json={"function": "demo.fail", "args": ["waits"]})
    answer = client.get("/api/v1/failures").get_json()
    assert answer["complete"] is True
    first, *rest = answer["failures"]
    jobs = {job_id: client.get(f"{JOBS}/{job_id}").get_json() for job_id in ("old", "newer")}
    assert first == {
        "function": "demo.fail",
        "error": "ValueError",
        "message": "the latest",
        "count": 2,
        "first_seen": jobs["old"]["ended_at"],
        "last_seen": jobs["newer"]["ended_at"],
        "example": "newer",
        "queues": first["queues"],
    }
    assert sorted(first["queues"]) == ["default", "low"]
    assert {(group["function"], group["error"], group["count"]) for group in rest} == {
        ("demo.fail", "KeyError", 1),
        ("demo.sleep", "ValueError", 1),
    }


@pytest.mark.parametrize(
    ("query", "counts"),
    [("queue=low", [2]), ("function=demo.sleep", [1]), ("since=2199-01-01T00:00:00Z", []), ("", [5, 1])],
)
def test_failures_are_filtered(client: FlaskClient, valkey: redis.Redis, query: str, counts: list[int]) -> None:
    fail(valkey, "a", "b", "c")
    fail(valkey, "d", "e", queue="low")
    fail(valkey, "f", function="demo.sleep", args=(1,))
    found = client.get(f"/api/v1/failures?{query}").get_json()["failures"]
    assert [group["count"] for group in found] == counts


def test_of_too_many_the_newest_are_looked_at(
    client: FlaskClient, valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failures, "MAX_JOBS_READ", 20)
    fail(valkey, *(f"old-{n}" for n in range(30)), ago=timedelta(hours=1), error="KeyError: old")
    fail(valkey, *(f"new-{n}" for n in range(10)), queue="low")
    answer = client.get("/api/v1/failures").get_json()
    assert answer["complete"] is False
    assert {group["error"]: group["count"] for group in answer["failures"]} == {"ValueError": 10, "KeyError": 10}


def test_a_job_is_requeued_with_another_call(client: FlaskClient, valkey: redis.Redis) -> None:
    fail(valkey, "job", function="demo.add", args=(1, 2), tags=["red"])
    body = {"args": [1], "kwargs": {"b": 40}, "queue": "low", "timeout": "1m", "retry": {"max": 2, "intervals": [5, 6]}}
    answer = client.post(f"{JOBS}/job/requeue", json=body)
    job = answer.get_json()
    assert answer.status_code == 202
    assert (job["status"], job["args"], job["kwargs"], job["queue"]) == ("queued", [1], {"b": 40}, "low")
    assert (job["timeout"], job["retries_left"], job["tags"], job["error"]) == (60, 2, ["red"], None)
    assert job["description"] == "jobs.demo.add(1, b=40)"
    assert valkey.lrange("rq:queue:low", 0, -1) == [b"job"]
    assert valkey.exists("rq:failed:default", "rq:queue:default") == 0
    assert "low" in [queue["name"] for queue in client.get("/api/v1/queues").get_json()["queues"]]


def test_what_is_not_said_stays(client: FlaskClient, valkey: redis.Redis) -> None:
    fail(valkey, "job", function="demo.add", args=(1, 2), description="Mine")
    job = client.post(f"{JOBS}/job/requeue", json={"args": [3, 4]}).get_json()
    assert (job["args"], job["kwargs"], job["queue"], job["description"]) == ([3, 4], {}, "default", "Mine")


@pytest.mark.parametrize(
    ("body", "status", "pointer"),
    [
        ({"args": ["x", 2]}, 422, "#/args/0"),
        ({"kwargs": {"c": 1}}, 422, "#/kwargs/c"),
        ({"queue": "no such name!"}, 422, "#/queue"),
        ({"retry": {"max": 0}}, 422, "#/retry/max"),
        ({"function": "demo.sleep"}, 422, "#/function"),
        ({"args": ["1" * 70_000, 2]}, 422, "#/args/0"),
    ],
)
def test_a_call_that_does_not_fit_leaves_the_job_as_it_is(
    client: FlaskClient, valkey: redis.Redis, body: dict[str, Any], status: int, pointer: str
) -> None:
    fail(valkey, "job", function="demo.add", args=(1, 2))
    before = valkey.hgetall("rq:job:job")
    answer = client.post(f"{JOBS}/job/requeue", json=body)
    assert (answer.status_code, answer.get_json()["errors"][0]["pointer"]) == (status, pointer)
    assert valkey.hgetall("rq:job:job") == before
    assert valkey.zcard("rq:failed:default") == 1


def test_arguments_above_the_limit_and_functions_that_are_gone(client: FlaskClient, valkey: redis.Redis) -> None:
    fail(valkey, "job")
    assert client.post(f"{JOBS}/job/requeue", json={"args": ["x" * 70_000]}).status_code == 413
    valkey.hset("rq:job:job", "data", b'["jobs.gone.now", null, [], {}]')
    assert client.post(f"{JOBS}/job/requeue", json={"args": []}).status_code == 422
    assert client.post(f"{JOBS}/unknown/requeue", json={"args": []}).status_code == 404
    assert client.post(f"{JOBS}/job/requeue").status_code == 202
    assert client.post(f"{JOBS}/job/requeue", json={"queue": "low"}).status_code == 409
    assert valkey.exists("rq:queue:low") == 0


def test_the_history_of_a_job_survives_its_requeue(client: FlaskClient, valkey: redis.Redis) -> None:
    fail(valkey, "job")
    failed = client.get(f"{JOBS}/job").get_json()["history"]
    assert [(entry["attempt"], entry["outcome"], entry["error"]) for entry in failed] == [
        (1, "failed", {"type": "ValueError", "message": "no"})
    ]
    assert client.post(f"{JOBS}/job/requeue").get_json()["history"] == failed


def test_a_job_with_an_unreadable_history_is_shown(client: FlaskClient, valkey: redis.Redis) -> None:
    fail(valkey, "job")
    entry = {"type": "x", "exc_string": "x", "execution_ended_at": "1e300", "execution_started_at": "nan"}
    valkey.xadd("rq:results:job", entry)
    assert len(client.get(f"{JOBS}/job").get_json()["history"]) == 2
    valkey.delete("rq:results:job")
    valkey.set("rq:results:job", "no stream")
    assert client.get(f"{JOBS}/job").get_json()["history"] == []


def test_an_attempt_that_says_no_end_ended_when_it_was_written_down(client: FlaskClient, valkey: redis.Redis) -> None:
    fail(valkey, "job")
    valkey.delete("rq:results:job")
    valkey.xadd("rq:results:job", {"type": 2, "exc_string": ""}, id="1700000000250-0")
    [attempt] = client.get(f"{JOBS}/job").get_json()["history"]
    assert (attempt["started_at"], attempt["ended_at"]) == (None, "2023-11-14T22:13:20.250000Z")


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ({}, "rate:queue:low:7"),
        ({"rate_limit": {"most": "9/s", "by": "queue", "key": "given {a}"}}, "rate:queue:low:given 1"),
    ],
)
def test_limits_go_by_the_new_arguments_and_the_new_queue(valkey: redis.Redis, given: dict[str, Any], key: str) -> None:
    """Those of the function; what was given with the job has no key any more to make it from, but its queue."""

    @job(rate_limit=Limit("5/s", by="queue", key="{a}"))
    def add(a: int, b: int) -> int:
        return a + b

    catalog = Catalog().refresh()
    catalog.functions["demo.add"] = Function("demo.add", add)
    client = create_app(Settings(), valkey, catalog).test_client()
    client.post(JOBS, json={"function": "demo.add", "args": [1, 2], "id": "job", **given})
    client.post(f"{JOBS}/job/cancel")
    assert client.post(f"{JOBS}/job/requeue", json={"args": [7, 2], "queue": "low"}).status_code == 202
    assert f'"{key}"'.encode() in valkey.hget("rq:job:job", "limits")


def test_a_job_of_a_workflow_may_keep_and_get_references_to_results(valkey: redis.Redis) -> None:
    client = create_app(Settings(), valkey).test_client()
    jobs = [
        {"name": "one", "function": "demo.add", "args": [1, 2]},
        {"name": "two", "function": "demo.add", "args": [{"$result": "one"}, 2], "after": ["one"]},
    ]
    flow = client.post("/api/v1/workflows", json={"jobs": jobs}).get_json()["id"]
    assert client.post(f"{JOBS}/cancel", json={"function": "demo.add"}).get_json()["canceled"] == 1
    assert client.get(f"{JOBS}/{flow}-two").get_json()["status"] == "canceled"
    misfit = client.post(f"{JOBS}/{flow}-two/requeue", json={"args": [{"$result": "one"}, "x"]})
    assert [error["pointer"] for error in misfit.get_json()["errors"]] == ["#/args/1"]
    job = client.post(f"{JOBS}/{flow}-two/requeue", json={"args": [{"$result": "one"}, 5]}).get_json()
    assert job["args"] == [{"$result": "one"}, 5]
    assert client.post(f"{JOBS}/requeue", json={"status": "canceled"}).get_json()["requeued"] == 1
    assert client.get(f"/api/v1/workflows/{flow}").get_json()["status"] == "running"
