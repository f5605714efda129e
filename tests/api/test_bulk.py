"""The filter of GET /jobs, and what is done to all jobs that it means: requeue, cancel, delete."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from flask.testing import FlaskClient

from app.access import api_keys
from app.api.application import create_app
from app.lifecycle import bulk
from app.settings import Settings
from tests.failed import fail

JOBS = "/api/v1/jobs"


@pytest.fixture
def client(valkey: redis.Redis) -> FlaskClient:
    return create_app(Settings(), valkey).test_client()


@pytest.fixture
def dead(valkey: redis.Redis) -> redis.Redis:
    """Four failed jobs, and one that waits."""
    fail(valkey, "old", ago=timedelta(days=2), tags=["red"])
    fail(valkey, "mail", function="demo.sleep", args=(7,), error="smtplib.SMTPServerDisconnected: gone", queue="low")
    fail(valkey, "needle", args=("find me",))
    fail(valkey, "other", error="app.worker.horse.ResultTooLarge: 2 MB")
    return valkey


def ids(client: FlaskClient, path: str) -> set[str]:
    """Of all pages."""
    found: list[str] = []
    while path:
        answer = client.get(path)
        assert answer.status_code == 200, answer.get_json()
        found += [job["id"] for job in answer.get_json()["jobs"]]
        path = answer.headers.get("Link", "").partition(">")[0].lstrip("<")
        assert len(found) == len(set(found))
    return set(found)


def day(ago: float) -> str:
    return (datetime.now(UTC) - timedelta(days=ago)).strftime("%Y-%m-%dT%H:%M:%SZ")


FILTERS = [
    ({"function": "demo.sleep"}, {"mail"}),
    ({"queue": "low"}, {"mail"}),
    ({"error": "ValueError"}, {"old", "needle"}),
    ({"error": "smtplib.SMTPServerDisconnected"}, {"mail"}),
    ({"error": "ResultTooLarge"}, {"other"}),
    ({"tag": "red"}, {"old"}),
    ({"q": "FIND"}, {"needle"}),
    ({"since": day(1)}, {"mail", "needle", "other"}),
    ({"until": day(1)}, {"old"}),
    ({"since": day(3), "until": day(1), "error": "ValueError"}, {"old"}),
    ({"since": day(-1)}, set()),
    ({"error": "KeyError"}, set()),
]


@pytest.mark.parametrize(("given", "meant"), FILTERS)
def test_a_filter_means_the_same_in_the_list_and_in_bulk(
    client: FlaskClient, dead: redis.Redis, given: dict[str, str], meant: set[str]
) -> None:
    client.post(JOBS, json={"function": "demo.add", "args": [1, 2], "id": "waiting"})
    query = "&".join(f"{name}={value}" for name, value in given.items())
    assert ids(client, f"{JOBS}?status=failed&{query}") == meant
    trial = client.post(f"{JOBS}/requeue", json={**given, "dry_run": True}).get_json()
    assert trial == {"matched": len(meant), "requeued": 0, "skipped": 0, "next_cursor": None}
    done = client.post(f"{JOBS}/requeue", json=given).get_json()
    assert done == {"matched": len(meant), "requeued": len(meant), "skipped": 0, "next_cursor": None}
    assert ids(client, f"{JOBS}?status=queued") == meant | {"waiting"}
    assert ids(client, f"{JOBS}?status=failed") == {"old", "mail", "needle", "other"} - meant


@pytest.mark.parametrize("path", ["requeue", "cancel", "delete"])
@pytest.mark.parametrize(
    ("body", "pointer"),
    [({"since": "yesterday"}, "#/since"), ({"colour": "red"}, "#/colour"), ({"queue": "x", "limit": 0}, "#/limit")],
)
def test_a_wrong_filter_is_named_by_pointer(
    client: FlaskClient, dead: redis.Redis, path: str, body: dict[str, Any], pointer: str
) -> None:
    answer = client.post(f"{JOBS}/{path}", json=body)
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.get_json()["errors"]] == [pointer]
    assert client.post(f"{JOBS}/{path}", json={"queue": "x", "cursor": "wrong"}).status_code == 400


@pytest.mark.parametrize("body", [{}, {"q": ""}, {"queue": ""}, {"all": False}, {"dry_run": True}])
@pytest.mark.parametrize("path", ["cancel", "delete"])
def test_what_means_every_job_must_say_so(
    client: FlaskClient, dead: redis.Redis, path: str, body: dict[str, Any]
) -> None:
    client.post(JOBS, json={"function": "demo.add", "args": [1, 2], "id": "waiting"})
    assert client.post(f"{JOBS}/{path}", json=body).status_code == 422
    assert len(ids(client, JOBS)) == 5
    answer = client.post(f"{JOBS}/{path}", json={"all": True}).get_json()
    assert answer["matched"] == (1 if path == "cancel" else 5)


def test_delete_leaves_nothing(client: FlaskClient, dead: redis.Redis) -> None:
    assert client.post(f"{JOBS}/delete", json={"status": "failed"}).get_json()["deleted"] == 4
    left = {key for key in dead.keys() if not key.startswith((b"jobline:", b"rq:queues"))}
    assert left == set()


def test_cancel_takes_what_has_not_ended(client: FlaskClient, dead: redis.Redis) -> None:
    for number in range(300):
        body = {"function": "demo.add", "args": [number, 2], "tags": ["even" if number % 2 == 0 else "odd"]}
        client.post(JOBS, json={**body, **({"delay": 60} if number % 3 == 0 else {})})
    answer = client.post(f"{JOBS}/cancel", json={"tag": "even"}).get_json()
    assert answer == {"matched": 150, "canceled": 150, "skipped": 0, "next_cursor": None}
    assert len(ids(client, f"{JOBS}?status=canceled&tag=even")) == 150
    assert len(ids(client, f"{JOBS}?status=queued")) + len(ids(client, f"{JOBS}?status=scheduled")) == 150
    assert len(ids(client, f"{JOBS}?status=failed")) == 4


@pytest.mark.parametrize(
    ("path", "body"), [("requeue", {}), ("delete", {"status": "failed"}), ("cancel", {"function": "demo.add"})]
)
@pytest.mark.parametrize("by", ["limit", "time"])
def test_a_cursor_goes_on_until_all_are_done(
    client: FlaskClient,
    valkey: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    body: dict[str, Any],
    by: str,
) -> None:
    """However many there are of one second, and although others come meanwhile."""
    if path == "cancel":
        jobs = [{"function": "demo.add", "args": [n, 1], "queue": "ab"[n % 2]} for n in range(450)]
        client.post(f"{JOBS}/bulk", json={"jobs": jobs})
    else:
        fail(valkey, *(f"job-{n}" for n in range(230)), queue="a")
        fail(valkey, *(f"job-{n}" for n in range(230, 450)), queue="b")
    if by == "limit":
        body = {**body, "limit": 70}
    else:
        monkeypatch.setattr(bulk, "MAX_SECONDS", 0)
    requests, matched, changed, cursor = 0, 0, 0, None
    while requests == 0 or cursor:
        assert client.post(JOBS, json={"function": "demo.fail", "args": ["new"], "queue": "a"}).status_code == 202
        answer = client.post(f"{JOBS}/{path}", json={**body, "cursor": cursor}).get_json()
        cursor, requests = answer["next_cursor"], requests + 1
        matched, changed = matched + answer["matched"], changed + answer[{"cancel": "canceled"}.get(path, f"{path}d")]
    assert (matched, changed) == (450, 450)
    assert requests >= 5


def test_a_dry_run_goes_on_by_its_cursor_too(client: FlaskClient, valkey: redis.Redis) -> None:
    fail(valkey, *(f"job-{n}" for n in range(25)))
    matched, cursor = [], None
    while not matched or cursor:
        answer = client.post(f"{JOBS}/requeue", json={"dry_run": True, "limit": 10, "cursor": cursor}).get_json()
        matched, cursor = [*matched, answer["matched"]], answer["next_cursor"]
    assert matched == [10, 10, 5]
    assert valkey.zcard("rq:failed:default") == 25


@pytest.mark.parametrize("ttl", [-1, 60])
def test_pages_hold_many_of_one_score(client: FlaskClient, valkey: redis.Redis, ttl: int) -> None:
    fail(valkey, *(f"job-{n}" for n in range(333)), failure_ttl=ttl)
    for job_id, _ in list(valkey.zscan_iter("rq:failed:default")):
        valkey.zadd("rq:failed:default", {job_id: -1 if ttl < 0 else 2_000_000_000})
    assert len(ids(client, f"{JOBS}?status=failed&limit=10")) == 333


def test_pages_of_results_that_are_kept_for_ever(client: FlaskClient, valkey: redis.Redis) -> None:
    fail(valkey, *(f"job-{n}" for n in range(30)))
    for job_id, _ in list(valkey.zscan_iter("rq:failed:default")):
        valkey.zadd("rq:finished:default", {job_id: "+inf"})
        valkey.hset(f"rq:job:{job_id.decode()}", "status", "finished")
    assert len(ids(client, f"{JOBS}?status=finished&limit=7")) == 30


def test_a_page_goes_on_although_its_last_job_is_gone(client: FlaskClient, valkey: redis.Redis) -> None:
    fail(valkey, *(f"job-{n:02}" for n in range(30)))
    first = client.get(f"{JOBS}?status=failed&limit=10").get_json()
    for job in first["jobs"][5:]:
        client.delete(f"{JOBS}/{job['id']}")
    rest = ids(client, f"{JOBS}?status=failed&limit=10&cursor={first['next_cursor']}")
    assert rest == {f"job-{n:02}" for n in range(30)} - {job["id"] for job in first["jobs"]}


def test_a_rare_job_is_found_by_pages_that_read_so_much_and_no_more(
    client: FlaskClient, valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.views.merge.MAX_JOBS_READ", 100)
    monkeypatch.setattr("app.views.merge.MAX_BATCH_SIZE", 50)
    fail(valkey, "rare", args=("needle",), ago=timedelta(hours=1))
    fail(valkey, *(f"job-{n}" for n in range(300)))
    first = client.get(f"{JOBS}?status=failed&q=needle&limit=1").get_json()
    assert first["jobs"] == []
    assert first["next_cursor"]
    assert ids(client, f"{JOBS}?status=failed&q=needle&limit=1") == {"rare"}


def test_who_may(valkey: redis.Redis) -> None:
    key, entry = api_keys.new("ci", ["enqueue", "read"])
    client = create_app(Settings(api_keys=str(entry)), valkey).test_client()
    headers = {"Authorization": f"Bearer {key}"}
    for path, status in (("requeue", 200), ("cancel", 200), ("delete", 403)):
        assert client.post(f"{JOBS}/{path}", json={"queue": "low"}, headers=headers).status_code == status
        assert client.post(f"{JOBS}/{path}", json={"queue": "low"}).status_code == 401
