"""Deliveries of webhooks are the service's own: whoever may enqueue makes none, by no way, and changes none."""

from typing import Any

import pytest
import redis
from flask.testing import FlaskClient

from app.api.application import create_app
from app.catalog.catalog import Catalog
from app.catalog.fields import RESERVED_ID_PREFIXES
from app.lifecycle import actions, outbox
from app.settings import Settings
from app.webhooks import webhook_delivery
from tests.receiver import OTHER_SECRET, SECRET

URL = "https://example.com/hook"
FORGED = {"function": "webhooks.deliver", "args": [URL, {"type": "job.finished", "data": {"id": "FORGED"}}]}
NODE = {"name": "a", "function": "demo.add", "args": [1, 2]}


@pytest.fixture
def client(fake: redis.Redis) -> FlaskClient:
    return create_app(Settings(webhook_secret=SECRET), fake).test_client()


@pytest.mark.parametrize(
    ("method", "path", "body", "pointer"),
    [
        ("POST", "/jobs", FORGED, "#/function"),
        ("POST", "/jobs", {**FORGED, "webhook": {"url": URL, "secret": OTHER_SECRET}}, "#/function"),
        ("POST", "/jobs/bulk", {"jobs": [{"function": "demo.add", "args": [1, 2]}, FORGED]}, "#/jobs/1/function"),
        ("POST", "/workflows", {"jobs": [{"name": "a", **FORGED}]}, "#/jobs/0/function"),
        ("POST", "/workflows", {"jobs": [NODE], "on_complete": FORGED}, "#/on_complete/function"),
        ("PUT", "/schedules/s", {**FORGED, "interval": 1}, "#/function"),
        ("POST", "/functions/webhooks.deliver/jobs", {"url": URL, "message": {}}, None),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_no_caller_enqueues_one(
    client: FlaskClient, fake: redis.Redis, method: str, path: str, body: Any, pointer: str | None
) -> None:
    answer = client.open(f"/api/v1{path}", method=method, json=body)
    assert answer.status_code == (422 if pointer else 404)
    assert "the service's own" in answer.text
    if pointer:
        assert [error["pointer"] for error in answer.get_json()["errors"]] == [pointer]
    assert not fake.keys("rq:job:*")


def test_one_that_is_pending_is_requeued_as_it_was_only(client: FlaskClient, fake: redis.Redis) -> None:
    made = {
        "function": "demo.add",
        "args": [1, 2],
        "webhook": {"url": URL, "secret": OTHER_SECRET, "events": ["job.canceled"]},
    }
    job_id = client.post("/api/v1/jobs", json=made).get_json()["id"]
    client.post(f"/api/v1/jobs/{job_id}/cancel")
    outbox.follow_up(fake)
    (delivery,) = (key.decode() for key in fake.lrange("rq:queue:webhooks", 0, -1))
    before = fake.hget(f"rq:job:{delivery}", "data")
    client.post(f"/api/v1/jobs/{delivery}/cancel")
    for change in ({"args": FORGED["args"]}, {"kwargs": {"url": URL, "message": {}}, "args": []}):
        answer = client.post(f"/api/v1/jobs/{delivery}/requeue", json=change)
        assert (answer.status_code, "the service's own" in answer.text) == (422, True)
    assert client.post(f"/api/v1/jobs/{delivery}/requeue").status_code == 202
    assert fake.hget(f"rq:job:{delivery}", "data") == before


@pytest.mark.parametrize("job_id", ["msg_", "msg_0123456789abcdef0123456789abcdef", "schedule-nightly"])
def test_no_caller_takes_an_id_of_the_service_s_own(client: FlaskClient, fake: redis.Redis, job_id: str) -> None:
    """Deliveries have ids that can be foreseen: the fields of a job that is there before would stay in its hash."""
    one = {"function": "demo.add", "args": [1, 2], "id": job_id}
    single = client.post("/api/v1/jobs", json=one)
    several = client.post("/api/v1/jobs/bulk", json={"jobs": [one]})
    for answer, pointer in ((single, "#/id"), (several, "#/jobs/0/id")):
        assert (answer.status_code, [e["pointer"] for e in answer.get_json()["errors"]]) == (422, [pointer])
    assert not fake.keys("rq:job:*")


def test_a_delivery_has_the_id_that_no_caller_may_take(client: FlaskClient, fake: redis.Redis) -> None:
    made = {"function": "demo.add", "args": [1, 2], "webhook": {"url": URL, "events": ["job.canceled"]}}
    job_id = client.post("/api/v1/jobs", json=made).get_json()["id"]
    client.post(f"/api/v1/jobs/{job_id}/cancel")
    outbox.follow_up(fake)
    (delivery,) = fake.lrange("rq:queue:webhooks", 0, -1)
    assert delivery.decode().startswith(RESERVED_ID_PREFIXES)
    assert client.post("/api/v1/jobs", json={**made, "id": delivery.decode()}).status_code == 422


def test_a_change_of_a_pending_one_leaves_its_call_and_its_secret(client: FlaskClient, fake: redis.Redis) -> None:
    made = {"function": "demo.add", "args": [1, 2], "webhook": {"url": URL, "secret": OTHER_SECRET}}
    job_id = client.post("/api/v1/jobs", json=made).get_json()["id"]
    client.post(f"/api/v1/jobs/{job_id}/cancel")
    outbox.follow_up(fake)
    (delivery,) = (key.decode() for key in fake.lrange("rq:queue:webhooks", 0, -1))

    def call() -> list[bytes | None]:
        return fake.hmget(f"rq:job:{delivery}", "data", webhook_delivery.DELIVERY_SECRET)

    before = call()
    for change in ({"queue": "low"}, {"tags": ["x"]}, {"description": URL}, {"timeout": 1}, {"delay": 5}):
        assert client.patch(f"/api/v1/jobs/{delivery}", json=change).status_code == 200
    for wrong in (
        {"args": []},
        {"data": "x"},
        {webhook_delivery.DELIVERY_SECRET: ""},
        {"function": "demo.add"},
        {"webhook": None},
    ):
        assert client.patch(f"/api/v1/jobs/{delivery}", json=wrong).status_code == 422
    client.post(f"/api/v1/jobs/{delivery}/cancel")
    for wrong in (
        {"data": "x"},
        {webhook_delivery.DELIVERY_SECRET: ""},
        {"function": "demo.add"},
        {"webhook": made["webhook"]},
    ):
        assert client.post(f"/api/v1/jobs/{delivery}/requeue", json=wrong).status_code == 422
    assert client.post(f"/api/v1/jobs/{delivery}/requeue", json={"queue": "low", "timeout": 9}).status_code == 202
    assert call() == before


def test_a_request_that_comes_again_forges_nothing(client: FlaskClient, fake: redis.Redis) -> None:
    again = {"Idempotency-Key": "a"}
    good = {"function": "demo.add", "args": [1, 2]}
    assert client.post("/api/v1/jobs", json=FORGED, headers=again).status_code == 422
    assert client.post("/api/v1/jobs", json=good, headers=again).status_code == 202
    assert client.post("/api/v1/jobs", json=FORGED, headers=again).status_code == 422
    assert len(fake.keys("rq:job:*")) == 1


@pytest.mark.parametrize("hook", ["on_success", "on_failure", "on_complete"])
def test_no_hook_delivers(client: FlaskClient, fake: redis.Redis, hook: str) -> None:
    answer = client.post("/api/v1/workflows", json={"jobs": [NODE], hook: FORGED})
    assert (answer.status_code, answer.get_json()["errors"][0]["pointer"]) == (422, f"#/{hook}/function")
    each = {"name": "b", **FORGED, "each": [1, 2]}
    assert client.post("/api/v1/workflows", json={"jobs": [NODE, each]}).status_code == 422
    assert not fake.keys("rq:job:*")


def test_a_stored_schedule_of_one_cannot_be_triggered(client: FlaskClient, fake: redis.Redis) -> None:
    """As an earlier version, or whoever writes to Redis, may have left it there."""
    client.put("/api/v1/schedules/s", json={"function": "demo.add", "args": [1, 2], "interval": 3600})
    (key,) = fake.keys("jobline:schedule:*")
    for field, value in fake.hgetall(key).items():
        fake.hset(key, field, value.replace(b"demo.add", b"webhooks.deliver"))
    assert client.post("/api/v1/schedules/s/trigger").status_code in (404, 409, 422)
    assert not [job for job in fake.keys("rq:job:*") if not job.startswith(b"rq:job:schedule-")]


@pytest.mark.parametrize("names", ["deliver", "jobs.webhooks.deliver", "webhooks.deliver ", "webhooks._disable"])
def test_by_no_other_name_either(client: FlaskClient, names: str) -> None:
    assert client.post("/api/v1/jobs", json={**FORGED, "function": names}).status_code == 422


@pytest.mark.parametrize("secret", [" ", ",", " , ", "\t"])
def test_a_blank_secret_is_none(client: FlaskClient, secret: str) -> None:
    answer = client.post("/api/v1/jobs", json={**FORGED, "function": "demo.add", "args": [1, 2],
                                                "webhook": {"url": URL, "secret": secret}})  # fmt: skip
    assert (answer.status_code, answer.get_json()["errors"][0]["pointer"]) == (422, "#/webhook/secret")


def test_what_marks_a_delivery_is_no_field_of_another_job(client: FlaskClient, fake: redis.Redis) -> None:
    """A webhook of a caller's own secret is kept with the job: it must not make a delivery of it."""
    body = {"function": "demo.add", "args": [1, 2], "webhook": {"url": URL, "secret": OTHER_SECRET}}
    job_id = client.post("/api/v1/jobs", json=body).get_json()["id"]
    assert fake.hget(f"rq:job:{job_id}", webhook_delivery.SECRET) == OTHER_SECRET.encode()
    assert not fake.hexists(f"rq:job:{job_id}", webhook_delivery.DELIVERY_SECRET)
    actions.delete(fake, job_id)


def test_it_is_not_among_the_functions_and_workers_find_it(client: FlaskClient) -> None:
    names = [function["name"] for function in client.get("/api/v1/functions").get_json()["functions"]]
    assert "demo.add" in names
    assert "webhooks.deliver" not in names
    assert client.get("/api/v1/functions/webhooks.deliver").status_code == 404
    assert "/api/v1/functions/webhooks.deliver/jobs" not in client.get("/openapi.json").get_json()["paths"]
    assert Catalog().by_path(webhook_delivery.DELIVER).name == "webhooks.deliver"
