"""Requests with an Idempotency-Key: sent twice, they act once."""

from threading import Thread
from typing import Any

import pytest
import redis
from flask.testing import FlaskClient

from app.access import api_keys
from app.api.application import create_app
from app.enqueue.idempotency import Receipt
from app.lifecycle import actions
from app.settings import Settings
from tests.conftest import until

BODY = {"function": "demo.add", "args": [1, 2]}


@pytest.fixture
def client(valkey: redis.Redis) -> FlaskClient:
    return create_app(connection=valkey).test_client()


def post(client: FlaskClient, path: str = "/api/v1/jobs", body: Any = BODY, key: str = "k", **headers: str) -> Any:
    return client.post(path, json=body, headers={"Idempotency-Key": key, **headers})


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/v1/jobs", BODY),
        ("/api/v1/jobs", {**BODY, "delay": 60}),
        ("/api/v1/jobs/bulk", {"jobs": [BODY, BODY]}),
        ("/api/v1/functions/demo.add/jobs", {"a": 1, "b": 2}),
    ],
)
def test_the_first_answer_is_given_again(client: FlaskClient, valkey: redis.Redis, path: str, body: Any) -> None:
    first = post(client, path, body)
    made = sorted(valkey.keys("rq:job:*"))
    second = post(client, path, body)
    assert (first.status_code, second.status_code) == (202, 202)
    assert first.json == second.json
    assert first.headers.get("Location") == second.headers.get("Location")
    assert (first.headers.get("Idempotent-Replayed"), second.headers["Idempotent-Replayed"]) == (None, "true")
    assert sorted(valkey.keys("rq:job:*")) == made
    [key] = valkey.keys("jobline:idempotency:*")
    assert 86_000 < valkey.ttl(key) <= 86_400


def test_who_has_waited_is_given_the_end_again(client: FlaskClient, valkey: redis.Redis) -> None:
    def end_it() -> None:
        [key] = until(lambda: valkey.keys("rq:job:*"))
        until(lambda: valkey.info("clients")["blocked_clients"])
        actions.cancel(valkey, key.decode().rpartition(":")[2])

    ending = Thread(target=end_it)
    ending.start()
    first = post(client, Prefer="wait=20")
    ending.join()
    second = post(client, Prefer="wait=20")
    assert (first.status_code, first.json["status"]) == (200, "canceled")
    assert (second.status_code, second.json) == (200, first.json)
    assert second.headers["Idempotent-Replayed"] == "true"


def test_another_request_with_the_same_key_is_refused(client: FlaskClient) -> None:
    post(client)
    assert post(client, body={**BODY, "args": [1, 3]}).status_code == 422
    assert post(client, "/api/v1/functions/demo.add/jobs", {"a": 1, "b": 2}).status_code == 422


@pytest.mark.parametrize("said", [{"id": "mine"}, {"unique": {}}])
def test_a_process_that_dies_before_it_answers_has_done_it_once(
    client: FlaskClient, valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch, said: dict[str, Any]
) -> None:
    def dies(*_: Any) -> None:
        raise SystemExit

    with monkeypatch.context() as death:
        death.setattr(Receipt, "store_answer", dies)
        with pytest.raises(SystemExit):
            post(client, body={**BODY, **said})
    [job_id] = valkey.lrange("rq:queue:default", 0, -1)
    again = post(client, body={**BODY, **said})
    assert (again.status_code, again.json["id"]) == (202, job_id.decode())
    assert valkey.llen("rq:queue:default") == 1


def test_a_request_that_was_refused_may_come_again(client: FlaskClient, valkey: redis.Redis) -> None:
    assert post(client, body={**BODY, "id": "taken"}).status_code == 202
    assert post(client, body={**BODY, "id": "taken"}, key="other").status_code == 409
    assert len(valkey.keys("jobline:idempotency:*")) == 1
    assert post(client, key="other").status_code == 202


def test_each_caller_has_keys_of_their_own(valkey: redis.Redis) -> None:
    pairs = [api_keys.new(name, ["read", "enqueue"]) for name in ("one", "two")]
    settings = Settings(api_keys=",".join(str(entry) for _, entry in pairs))
    client = create_app(settings, valkey).test_client()
    ids = {post(client, Authorization=f"Bearer {key}").json["id"] for key, _ in pairs}
    assert len(ids) == 2


def test_a_unique_job_that_was_there_is_answered_the_same_way_again(client: FlaskClient) -> None:
    body = {**BODY, "unique": {}}
    first = post(client, body=body, key="first")
    second, third = post(client, body=body, key="second"), post(client, body=body, key="second")
    assert (second.status_code, third.status_code) == (200, 200)
    assert first.json["id"] == second.json["id"] == third.json["id"]


@pytest.mark.parametrize("key", ["", "x" * 256])
def test_a_bad_key_is_refused(client: FlaskClient, key: str) -> None:
    assert post(client, key=key).status_code == 400


def test_of_the_same_request_many_times_at_once_one_acts(client: FlaskClient, valkey: redis.Redis) -> None:
    application = client.application
    answers: list[int] = []
    threads = [Thread(target=lambda: answers.append(post(application.test_client()).status_code)) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(answers) == {202}
    assert valkey.llen("rq:queue:default") == 1
