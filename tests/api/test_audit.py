"""The contract of /audit: who changed what; no arguments, no keys, and no request fails for it."""

from typing import Any

import fakeredis
import pytest
import redis
from flask.testing import FlaskClient

from app.access import api_keys
from app.api.application import create_app
from app.audit import audit_log
from app.settings import Settings
from tests.conftest import until
from tests.failed import fail

JOBS = "/api/v1/jobs"
KEYS = {name: api_keys.new(name, scopes) for name, scopes in (("ops", ["admin"]), ("ci", ["enqueue", "read"]))}
OPS, CI = ({"Authorization": f"Bearer {KEYS[name][0]}"} for name in KEYS)


def app_with_keys(connection: redis.Redis, **settings: Any) -> FlaskClient:
    keys = ",".join(str(entry) for _, entry in KEYS.values())
    return create_app(Settings(api_keys=keys, **settings), connection).test_client()


@pytest.fixture
def client(valkey: redis.Redis) -> FlaskClient:
    return app_with_keys(valkey)


def entries(client: FlaskClient, query: str = "") -> list[dict[str, Any]]:
    answer = client.get(f"/api/v1/audit?{query}", headers=OPS)
    assert answer.status_code == 200, answer.get_json()
    return list(answer.get_json()["entries"])


def test_it_says_who_did_what(client: FlaskClient, valkey: redis.Redis) -> None:
    fail(valkey, "job", "other", args=("a secret argument",), queue="low")
    client.post(f"{JOBS}/job/requeue", json={"args": ["another secret"]}, headers=CI)
    client.post(f"{JOBS}/requeue", json={"queue": "low", "q": "a secret"}, headers=CI)
    client.delete(f"{JOBS}/job", headers=CI)
    rule = {"function": "demo.fail", "args": ["a secret"], "interval": 60}
    client.put("/api/v1/schedules/nightly", json=rule, headers=OPS)
    found = entries(client)
    names = ("actor", "action", "method", "route", "target", "status", "details")
    bulk = {"matched": 1, "requeued": 1, "skipped": 0, "status": "failed", "queue": "low", "dry_run": False}
    assert [tuple(entry[name] for name in names) for entry in found] == [
        ("ops", "schedules.put_schedule", "PUT", "/api/v1/schedules/{name}", "nightly", 201, {}),
        ("ci", "jobs.delete", "DELETE", "/api/v1/jobs/{job_id}", "job", 403, {}),
        ("ci", "jobs.requeue_many", "POST", "/api/v1/jobs/requeue", "", 200, bulk),
        ("ci", "jobs.requeue", "POST", "/api/v1/jobs/{job_id}/requeue", "job", 202, {}),
    ]
    assert {entry["address"] for entry in found} == {"127.0.0.1"}
    assert found[0]["at"] >= found[-1]["at"]
    assert "secret" not in str(valkey.xrange("jobline:audit"))
    assert not any(key in str(valkey.xrange("jobline:audit")) for key, _ in KEYS.values())


@pytest.mark.parametrize(
    ("setting", "actions"),
    [
        ("all", ["jobs.enqueue_bulk", "functions.call", "jobs.enqueue"]),
        ("changes", ["jobs.enqueue_bulk"]),
        ("off", []),
    ],
)
def test_enqueues_of_one_job_are_written_down_if_wanted(valkey: redis.Redis, setting: str, actions: list[str]) -> None:
    client = app_with_keys(valkey, audit=setting)
    job = {"function": "demo.add", "args": [1, 2]}
    made = client.post(JOBS, json=job, headers=CI).get_json()
    client.post("/api/v1/functions/demo.add/jobs", json={"a": 1, "b": 2}, headers=CI)
    client.post(f"{JOBS}/bulk", json={"jobs": [job, job]}, headers=CI)
    found = entries(client)
    assert [entry["action"] for entry in found] == actions
    if setting == "all":
        assert found[-1]["target"] == made["id"]
    if actions:
        assert found[0]["details"] == {"jobs": 2}


def test_what_changes_nothing_is_not_written_down(client: FlaskClient, valkey: redis.Redis) -> None:
    client.get(JOBS, headers=OPS)
    assert client.head("/api/v1/audit", headers=OPS).status_code == 200
    client.post("/api/v1/schedules/preview", json={"interval": 60}, headers=OPS)
    client.post(f"{JOBS}/unknown/cancel", headers=OPS)
    client.post(f"{JOBS}/delete", json={}, headers=OPS)
    client.post(f"{JOBS}/cancel", json={"queue": "low"})
    client.post(f"{JOBS}/cancel", json={"queue": "low"}, headers={"Authorization": "Bearer wrong"})
    assert entries(client) == []


def test_without_keys_the_actor_is_open_and_the_dashboard_is_written_down_too(valkey: redis.Redis) -> None:
    fail(valkey, "job")
    client = create_app(Settings(), valkey).test_client()
    answer = client.post("/dashboard/job/job/requeue", headers={"Origin": "http://localhost"})
    assert answer.status_code == 200
    (entry,) = entries(client)
    assert (entry["actor"], entry["action"], entry["target"]) == ("open", "rq_dashboard.requeue_job_view", "job")


def test_it_is_filtered_and_paged(client: FlaskClient, valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_log, "BATCH_SIZE", 4)
    for number in range(12):
        headers = (OPS, CI)[number % 2]
        client.post(f"{JOBS}/{('cancel', 'requeue')[number // 2 % 2]}", json={"queue": f"q{number}"}, headers=headers)
    assert len(entries(client, "actor=ci")) == 6
    assert len(entries(client, "action=jobs.cancel_many")) == 6
    assert len(entries(client, "action=jobs.cancel_many&actor=ops")) == 3
    middle = entries(client)[5]["at"].replace("+", "%2B")
    assert len(entries(client, f"since={middle}")) in range(6, 12)
    seen, cursor = [], ""
    while cursor is not None:
        answer = client.get(f"/api/v1/audit?actor=ci&limit=4{cursor and f'&cursor={cursor}'}", headers=OPS).get_json()
        seen += [entry["details"]["queue"] for entry in answer["entries"]]
        cursor = answer["next_cursor"]
    assert seen == ["q11", "q9", "q7", "q5", "q3", "q1"]


def test_a_page_for_which_many_were_looked_at_in_vain_has_a_next_one(
    client: FlaskClient, valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_log, "BATCH_SIZE", 2)
    monkeypatch.setattr(audit_log, "MAX_ENTRIES_READ", 4)
    for headers in (CI, *(OPS for _ in range(9))):
        client.post(f"{JOBS}/cancel", json={"queue": "low"}, headers=headers)
    found, pages, cursor = [], 0, ""
    while cursor is not None:
        answer = client.get(f"/api/v1/audit?actor=ci{cursor and f'&cursor={cursor}'}", headers=OPS).get_json()
        found, pages, cursor = found + answer["entries"], pages + 1, answer["next_cursor"]
    assert [entry["actor"] for entry in found] == ["ci"]
    assert pages == 3


def test_it_is_for_admins_and_its_cursor_its_own(client: FlaskClient) -> None:
    assert client.get("/api/v1/audit", headers=CI).status_code == 403
    assert client.get("/api/v1/audit").status_code == 401
    assert client.get("/api/v1/audit?cursor=x", headers=OPS).status_code == 400
    assert client.get("/api/v1/audit?since=x", headers=OPS).status_code == 422


def test_it_is_capped(valkey: redis.Redis) -> None:
    client = create_app(Settings(audit_limit=100), valkey).test_client()
    for _ in range(400):
        client.post(f"{JOBS}/cancel", json={"queue": "low"})
    assert valkey.xlen("jobline:audit") <= 200  # Redis removes whole nodes of a hundred


def test_a_log_that_cannot_be_written_fails_nothing(client: FlaskClient, valkey: redis.Redis) -> None:
    valkey.set("jobline:audit", "no stream")
    assert client.post(f"{JOBS}/cancel", json={"queue": "low"}, headers=OPS).status_code == 200


def test_what_redis_does_not_take_is_written_once_it_does(
    client: FlaskClient, valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_log, "RETRY_SECONDS", 0.01)
    valkey.config_set("maxmemory", "1")
    try:
        for queue in ("a", "b", "c"):
            assert client.post(f"{JOBS}/cancel", json={"queue": queue}, headers=OPS).status_code == 200
        assert valkey.xlen("jobline:audit") == 0
    finally:
        valkey.config_set("maxmemory", "0")
    client.post(f"{JOBS}/cancel", json={"queue": "d"}, headers=OPS)
    until(lambda: valkey.xlen("jobline:audit") == 4)
    found = entries(client)
    assert [entry["details"]["queue"] for entry in found] == ["d", "c", "b", "a"]
    assert sorted(entry["at"] for entry in found) == [entry["at"] for entry in reversed(found)]


def test_redis_away_is_still_the_answer() -> None:
    server = fakeredis.FakeServer()
    client = app_with_keys(fakeredis.FakeRedis(server=server))
    server.connected = False
    assert client.post(f"{JOBS}/cancel", json={"queue": "low"}, headers=OPS).status_code == 503
