"""The contract of /jobs and /functions, on a fake Redis."""

from typing import Any

import fakeredis
import pytest
from flask.testing import FlaskClient

from app.access import api_keys
from app.api.application import create_app
from app.settings import Settings


@pytest.fixture
def client(fake: fakeredis.FakeRedis) -> FlaskClient:
    return create_app(Settings(), fake, has_workers=False).test_client()


def test_a_call_by_arguments_is_accepted(client: FlaskClient) -> None:
    answer = client.post("/api/v1/functions/demo.add/jobs", json={"a": 1, "b": 2})
    job = answer.get_json()
    assert answer.status_code == 202
    assert answer.headers["Location"] == f"/api/v1/jobs/{job['id']}"
    assert (job["function"], job["kwargs"], job["status"], job["queue"]) == (
        "demo.add",
        {"a": 1, "b": 2},
        "queued",
        "default",
    )
    assert client.get(f"/api/v1/jobs/{job['id']}").get_json() == job


@pytest.mark.parametrize(
    ("path", "body", "pointers"),
    [
        ("/api/v1/functions/demo.add/jobs", {"a": "x", "b": 2}, ["#/a"]),
        ("/api/v1/functions/demo.add/jobs", {"a": 1, "c": 2}, ["#/b", "#/c"]),
        ("/api/v1/functions/demo.add/jobs", [1], ["#"]),
        ("/api/v1/jobs", {"function": "demo.add", "args": ["x", 2]}, ["#/args/0"]),
        (
            "/api/v1/functions/email.send_message/jobs",
            {"to": ["a@example.com", "b"], "subject": "s", "text": "t"},
            ["#/to", "#/to/1"],
        ),
        ("/api/v1/jobs", {"function": "demo.add", "unique": {"by": [1]}}, ["#/unique/by/0", "#/unique/by"]),
        ("/api/v1/jobs", {"function": "demo.add", "rate_limit": {}}, ["#/rate_limit", "#/rate_limit/most"]),
        ("/api/v1/jobs", {"function": "demo.add", "a/b": 1}, ["#/a~1b"]),
        ("/api/v1/jobs", {"function": "os.system", "args": ["true"]}, ["#/function"]),
        ("/api/v1/jobs", {"function": "demo.add", "args": [1, 2], "delay": "soon"}, ["#/delay"]),
        ("/api/v1/jobs", {"function": "demo.add", "args": [1, 2], "depends_on": ["gone"]}, ["#/depends_on/0"]),
        (
            "/api/v1/jobs/bulk",
            {"jobs": [{"function": "demo.add", "args": [1, 2]}, {"function": "demo.add", "args": ["x", 2]}]},
            ["#/jobs/1/args/0"],
        ),
    ],
)
def test_bad_input_is_named_by_pointer_and_enqueues_nothing(
    client: FlaskClient, fake: fakeredis.FakeRedis, path: str, body: object, pointers: list[str]
) -> None:
    answer = client.post(path, json=body)
    assert answer.status_code == 422
    assert answer.content_type == "application/problem+json"
    assert [error["pointer"] for error in answer.get_json()["errors"]] == pointers
    assert fake.keys() == []


@pytest.mark.parametrize(
    ("method", "path", "options", "status"),
    [
        ("POST", "/api/v1/jobs", {"data": "{", "content_type": "application/json"}, 400),
        ("POST", "/api/v1/jobs", {"data": "{}", "content_type": "text/plain"}, 415),
        ("POST", "/api/v1/jobs", {"data": b" " * 2_000_000, "content_type": "application/json"}, 413),
        ("POST", "/api/v1/functions/demo.fail/jobs", {"json": {"message": "x" * 70_000}}, 413),
        ("POST", "/api/v1/functions/demo.nothing/jobs", {"json": {}}, 404),
        ("GET", "/api/v1/jobs/unknown", {}, 404),
        ("GET", "/api/v1/queues/unknown", {}, 404),
        ("GET", "/nowhere", {}, 404),
        ("PUT", "/api/v1/jobs", {"json": {}}, 405),
        ("GET", "/api/v1/jobs?cursor=x", {}, 400),
        ("GET", "/api/v1/jobs?cursor=WzAsWzFlNDAsIngiXV0", {}, 400),  # [0,[1e40,"x"]]
        ("POST", "/api/v1/jobs/unknown/cancel", {}, 404),
        ("DELETE", "/api/v1/jobs/unknown", {}, 404),
    ],
)
def test_every_failure_is_a_problem(
    client: FlaskClient, method: str, path: str, options: dict[str, object], status: int
) -> None:
    answer = client.open(path, method=method, **options)
    assert (answer.status_code, answer.content_type) == (status, "application/problem+json")
    assert answer.get_json()["status"] == status


def test_redis_away_is_503_with_retry_after() -> None:
    server = fakeredis.FakeServer()
    client = create_app(Settings(), fakeredis.FakeRedis(server=server)).test_client()
    server.connected = False
    for answer in (client.get("/readyz"), client.post("/api/v1/functions/demo.add/jobs", json={"a": 1, "b": 2})):
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) > 0
    assert client.get("/livez").status_code == 200


def test_bulk_is_all_of_them(client: FlaskClient, fake: fakeredis.FakeRedis) -> None:
    answer = client.post(
        "/api/v1/jobs/bulk", json={"jobs": [{"function": "demo.add", "args": [n, 1]} for n in range(100)]}
    )
    assert answer.status_code == 202
    assert [job_id.decode() for job_id in fake.lrange("rq:queue:default", 0, -1)] == answer.get_json()["ids"]


def test_an_id_is_taken_once(client: FlaskClient) -> None:
    body = {"function": "demo.add", "args": [1, 2], "id": "mine"}
    assert client.post("/api/v1/jobs", json=body).status_code == 202
    assert client.post("/api/v1/jobs", json=body).status_code == 409


def test_pages_follow_each_other_newest_first(client: FlaskClient) -> None:
    ids = [client.post("/api/v1/functions/demo.add/jobs", json={"a": n, "b": 0}).get_json()["id"] for n in range(7)]
    seen, path = [], "/api/v1/jobs?limit=3&status=queued"
    while path:
        answer = client.get(path)
        seen += [job["id"] for job in answer.get_json()["jobs"]]
        path = answer.headers.get("Link", "").partition(">")[0].lstrip("<")
    assert seen == ids[::-1]


def test_lists_are_filtered(client: FlaskClient) -> None:
    client.post("/api/v1/jobs", json={"function": "demo.add", "args": [1, 2], "tags": ["red"]})
    client.post("/api/v1/jobs", json={"function": "demo.fail", "args": ["needle"]})

    def functions(query: str) -> list[str]:
        return [job["function"] for job in client.get(f"/api/v1/jobs?{query}").get_json()["jobs"]]

    assert functions("tag=red") == ["demo.add"]
    assert functions("q=needle") == ["demo.fail"]
    assert functions("function=demo.fail") == ["demo.fail"]
    assert functions("status=finished") == []


def test_cancel_requeue_delete(client: FlaskClient, fake: fakeredis.FakeRedis) -> None:
    path = client.post("/api/v1/functions/demo.add/jobs", json={"a": 1, "b": 2}).headers["Location"]
    assert client.post(f"{path}/requeue").status_code == 409
    assert client.post(f"{path}/cancel").get_json()["status"] == "canceled"
    assert client.post(f"{path}/cancel").status_code == 409
    assert client.post(f"{path}/requeue").get_json()["status"] == "queued"
    assert fake.llen("rq:queue:default") == 1
    assert client.delete(path).status_code == 204
    assert client.get(path).status_code == 404
    assert fake.llen("rq:queue:default") == 0


def test_a_job_that_runs_is_not_deleted(client: FlaskClient, fake: fakeredis.FakeRedis) -> None:
    job = client.post("/api/v1/functions/demo.add/jobs", json={"a": 1, "b": 2}).get_json()
    path = f"/api/v1/jobs/{job['id']}"
    fake.rpop("rq:queue:default")
    fake.hset(f"rq:job:{job['id']}", "status", "started")
    refused = client.delete(path)
    assert (refused.status_code, "cancel it first" in refused.get_json()["detail"]) == (409, True)
    assert client.get(path).get_json()["status"] == "started"


def test_keys_open_what_their_scopes_say(fake: fakeredis.FakeRedis) -> None:
    reader, read = api_keys.new("reader", ["read"])
    _, other = api_keys.new("other", ["admin"])
    client = create_app(Settings(api_keys=f"{other},{read}"), fake).test_client()
    assert client.get("/api/v1/jobs").status_code == 401
    assert client.get("/api/v1/jobs", headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert client.get("/api/v1/jobs", headers={"Authorization": f"Bearer {reader}"}).status_code == 200
    assert client.get("/api/v1/jobs", auth=("anyone", reader)).status_code == 200
    answer = client.post("/api/v1/functions/demo.add/jobs", json={"a": 1, "b": 2}, auth=("", reader))
    assert answer.status_code == 403
    assert reader not in answer.get_data(as_text=True)


def test_without_keys_only_loopback() -> None:
    with pytest.raises(ValueError, match="not loopback"):
        Settings(host="0.0.0.0")


def test_secrets_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "hunter2" not in repr(Settings(redis_url="redis://:hunter2@host/0", smtp_url="smtp://a:hunter2@host"))


@pytest.mark.parametrize(
    ("options", "pointer"),
    [
        ({"retry": {"max": 2, "backoff": {"max": 5, "max_delay": 6}}}, "#/retry/backoff"),
        ({"unique": {"while": "queued", "during": "queued_or_running"}}, "#/unique"),
        ({"unique": {"for": 5, "ttl": "6s"}}, "#/unique"),
        ({"retry": {"max": True}}, "#/retry/max"),
    ],
)
def test_an_old_name_and_the_new_one_may_not_differ(client: FlaskClient, options: dict[str, Any], pointer: str) -> None:
    answer = client.post("/api/v1/jobs", json={"function": "demo.add", "args": [1, 2], **options})
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.get_json()["errors"]] == [pointer]


@pytest.mark.parametrize("backoff", [{"max": 5}, {"max_delay": "5s"}, {"max": 5, "max_delay": 5}])
def test_the_longest_wait_has_an_old_name(
    client: FlaskClient, fake: fakeredis.FakeRedis, backoff: dict[str, Any]
) -> None:
    retry = {"max": 4, "backoff": {"initial": 3, "factor": 2, "jitter": 0, **backoff}}
    job = client.post("/api/v1/jobs", json={"function": "demo.add", "args": [1, 2], "retry": retry}).get_json()
    assert fake.hget(f"rq:job:{job['id']}", "retry_intervals") == b"[3,5,5,5]"
