"""No nesting, however deep, takes a route down: neither in a request nor in a job that another has written."""

from typing import Any

import pytest
import redis
from flask.testing import FlaskClient
from rq import Queue
from rq.serializers import JSONSerializer

from app.api.application import create_app
from app.settings import Settings

JOBS = "/api/v1/jobs"


@pytest.fixture
def client(fake: redis.Redis) -> FlaskClient:
    return create_app(Settings(), fake).test_client()


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("depth", [65, 250, 900])
@pytest.mark.parametrize("path", [JOBS, f"{JOBS}/bulk", "/api/v1/functions/demo.add/jobs", "/api/v1/workflows"])
def test_a_deep_request_is_refused_and_nothing_is_queued(
    client: FlaskClient, fake: redis.Redis, path: str, depth: int
) -> None:
    body = b'{"function": "demo.add", "args": ' + b"[" * depth + b"]" * depth + b"}"
    answer = client.post(path, data=body, content_type="application/json")
    assert (answer.status_code, answer.get_json()["errors"][0]["pointer"]) == (422, "#")
    assert fake.keys("rq:*") == []


def test_a_deep_job_of_another_is_shown_as_unreadable_and_hides_no_other(
    client: FlaskClient, fake: redis.Redis
) -> None:
    client.post(JOBS, json={"function": "demo.add", "args": [1, 2], "id": "plain"})
    Queue("default", connection=fake, serializer=JSONSerializer).enqueue("jobs.demo.add", nested(240), 2, job_id="deep")
    shown = {job["id"]: job["function"] for job in client.get(JOBS).get_json()["jobs"]}
    assert shown == {"plain": "demo.add", "deep": None}
    assert client.get(f"{JOBS}/deep").status_code == 200
