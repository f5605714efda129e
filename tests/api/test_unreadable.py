"""What another has written into Redis hides nothing: an entry that cannot be read is listed with the reason."""

import time
from typing import Any

import pytest
import redis
from flask.testing import FlaskClient

from app.api.application import create_app
from app.catalog.catalog import Catalog
from app.redis.keys import AUDIT, QUEUES, SCHEDULES, WORKERS, WORKFLOWS, WORKFLOWS_OPEN
from app.schedules.process import Scheduler
from app.schedules.store import DUE_SCHEDULES
from app.settings import Settings

V1 = "/api/v1"
CALL = {"function": "demo.add", "args": [1, 2]}
RULE = b'{"interval": 60, "function": "demo.add"}'


@pytest.fixture
def client(fake: redis.Redis) -> FlaskClient:
    """One good entry of each kind."""
    client = create_app(Settings(), fake).test_client()
    client.post(f"{V1}/jobs", json={**CALL, "id": "good"})
    client.put(f"{V1}/schedules/good", json={**CALL, "interval": 60})
    client.post(f"{V1}/workflows", json={"name": "good", "jobs": [{"name": "one", **CALL}]})
    fake.hset("rq:worker:good", mapping={"queues": "default", "state": "idle", "last_heartbeat": "x"})
    fake.sadd(WORKERS, "rq:worker:good")
    return client


def listed(client: FlaskClient, path: str) -> tuple[list[Any], list[Any]]:
    answer = client.get(f"{V1}/{path}")
    assert answer.status_code == 200, answer.text
    body = answer.get_json()
    return next(iter(body.values())), body.get("unreadable", [])


STATES: dict[str, tuple[bytes, bytes]] = {
    "no-json": (b"{", b"{}"),
    "no-object": (b"[]", b"[]"),
    "no-text": (b"\xff", b"{}"),
    "far-at": (b'{"at": "9999-12-31T23:59:59Z", "timezone": "Asia/Tokyo", "function": "demo.add"}', b"{}"),
    "far-due": (RULE, b'{"due": "9999-12-31T23:59:59Z"}'),
    "far-first": (RULE, b'{"first": "0001-01-01T00:00:00+14:00"}'),
    "far-run": (RULE, b'{"last_runs": [["x", 1e300, ""]]}'),
    "no-number": (RULE, b'{"last_runs": [["x", NaN, ""]]}'),
    "many-runs": (RULE, b'{"runs": 1e30}'),
    "deep": (b'{"interval": 60, "function": "demo.add", "args": ' + b"[" * 99 + b"]" * 99 + b"}", b"{}"),
    "large": (b'{"interval": 60, "function": "demo.add", "max_runs": 99999999999999999999}', b"{}"),
}


def test_schedules(client: FlaskClient, fake: redis.Redis) -> None:
    for name, (rule, state) in STATES.items():
        fake.hset(f"jobline:schedule:{name}", mapping={"rule": rule, "state": state})
    fake.set("jobline:schedule:text", "text")
    odd = {"a b": "a b", "é": "Ã©"}
    fake.zadd(SCHEDULES, dict.fromkeys((*STATES, "text", *odd), 0))
    fake.hset("jobline:schedules:quarantined", b"\xff", b"{")
    fake.set("jobline:schedules:rejected", "[5]")
    schedules, bad = listed(client, "schedules")
    assert [schedule["name"] for schedule in schedules] == ["good"]
    assert {entry["name"] for entry in bad} == {*STATES, "text", *odd.values()}
    assert all(entry["reason"] for entry in bad)
    seen, cursor = list[str](), ""
    while cursor is not None:
        page = client.get(f"{V1}/schedules", query_string={"limit": 3, "cursor": cursor}).get_json()
        seen += [entry["name"] for entry in (*page["schedules"], *page.get("unreadable", ()))]
        cursor = page["next_cursor"]
    assert sorted(seen) == sorted(["good", *STATES, "text", *odd.values()])
    for name in ("no-json", "far-at", "text"):
        assert client.get(f"{V1}/schedules/{name}").status_code == 409
        assert client.delete(f"{V1}/schedules/{name}").status_code == 204


def test_jobs(client: FlaskClient, fake: redis.Redis) -> None:
    call = b'["jobs.demo.add", null, [], {}]'
    hashes: dict[str, dict[str, bytes]] = {
        "garbage": {"data": b"\xff", "meta": b"\x80", "status": b"\xff", "attempts": b"9" * 30, "created_at": b"x"},
        "numbers": {"data": b'["x", null, [NaN, 99999999999999999999999], {}]', "timeout": b"9" * 40},
        "meta": {"data": call, "meta": b'{"tags": {}, "progress": 5, "schedule": [], "scheduled_for": 1}'},
        "webhook": {"data": call, "webhook": b"[1]", "dependency_ids": b"5", "ended_at": b"0001-01-01T00:00:00+14:00"},
        "due": {"data": call, "status": b"scheduled", "origin": b"default"},
    }
    for job_id, fields in hashes.items():
        fake.hset(f"rq:job:{job_id}", mapping=fields)
    fake.set("rq:job:text", "text")
    fake.rpush("rq:queue:default", *hashes, "text", b"\xff", "")
    fake.zadd("rq:scheduled:default", {"due": 1e300, b"\xff": float("inf"), "text": -1e300})
    fake.hset("rq:job:ended", mapping={"data": call, "status": "failed", "origin": "default"})
    fake.zadd("rq:failed:default", {"ended": float("inf")})
    fake.xadd("rq:results:ended", {"exc_string": "!", "execution_ended_at": "1e300", "execution_started_at": "nan"})
    shown = {job["id"]: job for job in listed(client, "jobs")[0]}
    assert {"good", "ended", "text", *hashes} <= shown.keys()
    assert shown["good"]["error"] is None
    assert {shown[name]["error"]["type"] for name in ("garbage", "numbers", "text")} == {"UnreadableJob"}
    assert (shown["meta"]["tags"], shown["meta"]["progress"], shown["webhook"]["webhook"]) == ([], None, None)
    for job_id in shown:
        assert client.get(f"{V1}/jobs/{job_id}").status_code == 200
    for query in ("status=queued", "status=scheduled", "status=failed", "since=2026-01-01T00:00:00Z", "q=x", "tag=x"):
        assert client.get(f"{V1}/jobs?{query}").status_code == 200
    assert client.get(f"{V1}/failures").status_code == 200
    for method, path in (("POST", "/cancel"), ("POST", "/requeue"), ("PATCH", ""), ("DELETE", "")):
        body = {"tags": []} if method == "PATCH" else {}
        assert client.open(f"{V1}/jobs/text{path}", method=method, json=body).status_code == 409


def test_queues(client: FlaskClient, fake: redis.Redis) -> None:
    fake.sadd(QUEUES, "rq:queue:list", "rq:queue:registry", "nonsense", b"rq:queue:\xff")
    fake.set("rq:queue:list", "text")
    fake.set("rq:failed:registry", "text")
    queues, bad = listed(client, "queues")
    assert {"default", "nonsense", "\ufffd"} == {queue["name"] for queue in queues}
    assert {entry["name"] for entry in bad} == {"list", "registry"}
    assert client.get(f"{V1}/queues/list").status_code == 409
    assert [job["id"] for job in listed(client, "jobs?status=queued")[0]][-1] == "good"
    assert client.get(f"{V1}/failures").status_code == 200
    for action in ("requeue", "cancel", "delete"):
        body = {"dry_run": True} | ({} if action == "requeue" else {"all": True})
        assert client.post(f"{V1}/jobs/{action}", json=body).status_code == 200


def test_workers(client: FlaskClient, fake: redis.Redis) -> None:
    fake.sadd(WORKERS, "rq:worker:text", "rq:worker:odd", b"rq:worker:\xff", "rq:worker:gone")
    fake.set("rq:worker:text", "text")
    odd = {
        "pid": "x",
        "successful_job_count": "9" * 40,
        "total_working_time": "nan",
        "state": b"\xff",
        b"\xff": b"\xff",
    }
    fake.hset("rq:worker:odd", mapping=odd)
    workers, bad = listed(client, "workers")
    assert {worker["name"]: worker["state"] for worker in workers} == {"good": "idle", "odd": "?"}
    assert [entry["name"] for entry in bad] == ["text"]
    assert client.get(f"{V1}/workers/text").status_code == 409
    assert client.post(f"{V1}/jobs", json={**CALL, "queue": "x"}).get_json()["warnings"]
    assert client.get("/dashboard/0/data/workers.json").status_code == 200


def test_workflows(client: FlaskClient, fake: redis.Redis) -> None:
    good = {"name": "", "status": "running", "created_at": "x", "total": "1", "graph": "[]", "nodes": '["a"]'}
    hashes: dict[str, dict[str, Any]] = {
        "half": {"name": "x"}, "bytes": {**good, "name": b"\xff"}, "large": {**good, "total": "9" * 30},
        "total": {**good, "total": "x"}, "webhook": {**good, "webhook": "{"},
    }  # fmt: skip
    for workflow, fields in {**hashes, "graph": {**good, "graph": "5"}}.items():
        fake.hset(f"jobline:workflow:{workflow}", mapping=fields)
    fake.set("jobline:workflow:text", "text")
    fake.zadd(WORKFLOWS, dict.fromkeys((*hashes, "graph", "text", "gone", b"\xff"), 1))
    fake.sadd(WORKFLOWS_OPEN, *hashes, "text", b"\xff")
    workflows, bad = listed(client, "workflows")
    assert {workflow["name"] or workflow["id"] for workflow in workflows} == {"good", "graph"}
    assert {entry["id"] for entry in bad} == {*hashes, "text"}
    for workflow in (*hashes, "graph", "text"):
        assert client.get(f"{V1}/workflows/{workflow}").status_code == 409


def test_entries_of_the_audit_log(client: FlaskClient, fake: redis.Redis) -> None:
    entry = {
        "actor": "a",
        "action": "b",
        "method": "POST",
        "route": "r",
        "target": "t",
        "status": "200",
        "address": "1",
    }
    for odd in (
        {"x": "y"},
        {**entry, "details": "{"},
        {**entry, "status": "9" * 40, "details": "{}"},
        {b"\xff": b"\xff"},
    ):
        fake.xadd(AUDIT, odd)
    fake.xadd(AUDIT, {**entry, "details": "{}", "target": b"\xff"})
    fake.xadd(AUDIT, {**entry, "details": "{}"}, id="18446744073709551614-1")  # in a year that there is not
    entries, bad = listed(client, "audit")
    assert [one["action"] for one in entries] == ["b", "workflows.submit", "schedules.put_schedule"]
    assert len(bad) == 5


def test_webhooks(client: FlaskClient, fake: redis.Redis) -> None:
    fake.zadd("jobline:webhooks:disabled", {b"\xff": time.time(), "http://far": 1e300, "http://never": float("inf")})
    assert len(listed(client, "webhooks/disabled")[0]) == 3


def test_the_scheduler_goes_on(client: FlaskClient, fake: redis.Redis) -> None:
    for fill in (test_schedules, test_jobs, test_queues, test_workers, test_workflows):
        fill(client, fake)
    fake.set("rq:scheduled:registry", "text")
    fake.zadd(DUE_SCHEDULES, {b"schedule-\xff": 1, "schedule-": 1, b"\xff": 1, "schedule-no-number": 1})
    fake.set("text", "text")
    fake.sadd("jobline:schedulers", "text")
    client.post(f"{V1}/jobs", json={**CALL, "id": "later", "delay": 60})
    scheduler = Scheduler(fake, Settings(), Catalog(), clock=lambda: time.time() + 90)
    for _ in range(12):
        scheduler._next_maintenance_at = scheduler.unserved._next_check_at = scheduler.leftovers._rest_until = 0.0
        scheduler.step()
    assert client.get(f"{V1}/jobs/later").get_json()["status"] == "queued"
    assert client.get(f"{V1}/schedules/good").get_json()["counts"]["runs"] == 1
    assert client.get("/readyz").status_code == 200
