"""Jobs of which there may be one: what a second caller gets, and when the way is free again."""

from collections.abc import Callable
from threading import Thread
from typing import Any

import pytest
import redis
from flask.testing import FlaskClient

from app.api.application import create_app

URL = "/api/v1/jobs"


@pytest.fixture
def client(valkey: redis.Redis) -> FlaskClient:
    return create_app(connection=valkey).test_client()


def put(client: FlaskClient, args: list[int], **unique: Any) -> Any:
    return client.post(URL, json={"function": "demo.add", "args": args, "unique": unique})


def test_the_second_caller_gets_the_first_job(client: FlaskClient, valkey: redis.Redis) -> None:
    first, second, other = put(client, [1, 2]), put(client, [1, 2]), put(client, [1, 3])
    assert (first.status_code, second.status_code, other.status_code) == (202, 200, 202)
    assert first.json["id"] == second.json["id"] != other.json["id"]
    assert second.headers["Location"] == first.headers["Location"]
    assert valkey.llen("rq:queue:default") == 2


def test_or_an_error(client: FlaskClient) -> None:
    first = put(client, [1, 2], on_conflict="reject")
    second = put(client, [1, 2], on_conflict="reject")
    assert second.status_code == 409
    assert first.json["id"] in second.json["detail"]


def test_or_the_first_gives_way(client: FlaskClient, valkey: redis.Redis) -> None:
    first, second = put(client, [1, 2], on_conflict="replace"), put(client, [1, 2], on_conflict="replace")
    assert client.get(first.headers["Location"]).status_code == 404
    assert valkey.lrange("rq:queue:default", 0, -1) == [second.json["id"].encode()]
    valkey.lpop("rq:queue:default")
    valkey.hset(f"rq:job:{second.json['id']}", "status", "started")
    assert put(client, [1, 2], on_conflict="replace").status_code == 409


@pytest.mark.parametrize("end", ["finished", "failed", "canceled", "stopped", None])
def test_the_way_is_free_once_it_has_ended(client: FlaskClient, valkey: redis.Redis, end: str | None) -> None:
    first = put(client, [1, 2])
    key = f"rq:job:{first.json['id']}"
    valkey.hset(key, "status", end) if end else valkey.delete(key)
    assert put(client, [1, 2]).json["id"] != first.json["id"]


@pytest.mark.parametrize("word", ["during", "while"])
@pytest.mark.parametrize(("during", "same"), [("queued", False), ("queued_or_running", True)])
def test_a_job_that_runs_counts_if_it_is_said_so(
    client: FlaskClient, valkey: redis.Redis, during: str, same: bool, word: str
) -> None:
    first = put(client, [1, 2], **{word: during})
    valkey.hset(f"rq:job:{first.json['id']}", "status", "started")
    second = put(client, [1, 2], **{word: during})
    assert (second.json["id"] == first.json["id"]) is same


SHOP = """
from app import Unique, job


@job(unique=Unique(by=("a",)))
def total(a: int, b: int) -> None: ...
"""


def test_what_the_request_says_counts_and_not_what_the_function_says(
    client: FlaskClient, write_module: Callable[[str, str], None]
) -> None:
    write_module("shop", SHOP)
    job = {"function": "shop.total", "args": [1, 2]}
    first = client.post(URL, json=job).json["id"]
    assert client.post(URL, json={**job, "args": [1, 3]}).json["id"] == first
    other = client.post(URL, json={**job, "args": [1, 3], "unique": {"by": ["a", "b"]}})
    assert (other.status_code, other.json["id"] == first) == (202, False)


def test_some_arguments_may_count(client: FlaskClient) -> None:
    first, second = put(client, [1, 2], by=["a"]), put(client, [1, 3], by=["a"])
    assert first.json["id"] == second.json["id"]
    first, second = put(client, [1, 2], by="sum-{b}"), put(client, [3, 2], by="sum-{b}")
    assert first.json["id"] == second.json["id"]
    wrong = put(client, [1, 2], by=["c"])
    assert (wrong.status_code, wrong.json["errors"][0]["pointer"]) == (422, "#/unique/by")


@pytest.mark.parametrize("word", ["ttl", "for"])
def test_it_may_count_for_a_time(client: FlaskClient, valkey: redis.Redis, word: str) -> None:
    put(client, [1, 2], **{word: 60})
    [lock] = valkey.keys("jobline:unique:*")
    assert 59_000 < valkey.pttl(lock) <= 60_000


def test_one_request_may_not_hold_it_twice(client: FlaskClient, valkey: redis.Redis) -> None:
    job = {"function": "demo.add", "args": [1, 2], "unique": {}}
    ids = client.post(f"{URL}/bulk", json={"jobs": [job, job]}).json["ids"]
    assert ids[0] == ids[1]
    assert valkey.llen("rq:queue:default") == 1


def test_of_one_request_the_last_job_replaces_the_others(client: FlaskClient, valkey: redis.Redis) -> None:
    job = {"function": "demo.add", "args": [1, 2], "unique": {"on_conflict": "replace"}}
    ids = client.post(f"{URL}/bulk", json={"jobs": [{**job, "id": name} for name in ("a", "b", "c")]}).json["ids"]
    assert valkey.lrange("rq:queue:default", 0, -1) == [b"c"]
    assert valkey.keys("rq:job:*") == [b"rq:job:c"]
    assert ids[-1] == "c"


def test_of_many_callers_at_once_one_makes_the_job(client: FlaskClient, valkey: redis.Redis) -> None:
    application = client.application
    answers: list[int] = []
    threads = [
        Thread(target=lambda: answers.append(put(application.test_client(), [1, 2]).status_code)) for _ in "x" * 16
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [200] * 15 + [202]
    assert valkey.llen("rq:queue:default") == 1


def bulk(client: FlaskClient, *jobs: dict[str, Any]) -> Any:
    return client.post(f"{URL}/bulk", json={"jobs": [{"function": "demo.add", "args": [1, 2], **job} for job in jobs]})


@pytest.mark.parametrize("order", [1, -1])
def test_a_job_depends_on_the_one_that_stands_for_its_parent(
    client: FlaskClient, valkey: redis.Redis, order: int
) -> None:
    there = put(client, [1, 2]).json["id"]
    pair = [{"id": "parent", "unique": {}}, {"id": "child", "depends_on": ["parent"]}]
    assert bulk(client, *pair[::order]).json["ids"] == [there, "child"][::order]
    assert client.get(f"{URL}/child").json["depends_on"] == [there]
    assert valkey.smembers(f"rq:job:{there}:dependents") == {b"child"}
    assert valkey.smembers("rq:job::child:dependencies") == {there.encode()}


@pytest.mark.parametrize("order", [1, -1])
def test_no_job_depends_on_one_that_the_same_request_replaces(
    client: FlaskClient, valkey: redis.Redis, order: int
) -> None:
    there = put(client, [1, 2]).json["id"]
    pair = [{"unique": {"on_conflict": "replace"}}, {"id": "child", "depends_on": [there]}]
    answer = bulk(client, *pair[::order])
    assert (answer.status_code, answer.json["errors"][0]["pointer"]) == (422, f"#/jobs/{int(order > 0)}/depends_on/0")
    assert client.get(f"{URL}/{there}").status_code == 200
