"""Many jobs in one request: each is there once, in its place, in the order of the request."""

from typing import Any

import pytest
import redis
from flask.testing import FlaskClient

from app.api.application import create_app
from app.catalog.catalog import Catalog
from app.enqueue import new_job, write
from app.enqueue.idempotency import Receipt
from app.enqueue.new_job import NewJob
from app.events import stream
from app.settings import Settings
from tests.contract.test_worker import everything

JOBS = "/api/v1/jobs"
MOST = 10_000
KINDS: list[dict[str, Any]] = [
    {},
    {"queue": "low"},
    {"delay": "2h"},
    {"ttl": 900},
    {"queue": "low", "ttl": 600, "delay": "1h"},
]
"""Of jobs in one request, in turns."""


@pytest.fixture
def client(valkey: redis.Redis) -> FlaskClient:
    return create_app(Settings(audit="off"), valkey).test_client()


def body(number: int, **said: Any) -> dict[str, Any]:
    return {"function": "demo.add", "args": [number, 1], **said}


def members(connection: redis.Redis, key: str) -> list[str]:
    found = connection.lrange(key, 0, -1) if key.startswith("rq:queue:") else connection.zrange(key, 0, -1)
    return [job_id.decode() for job_id in found]


@pytest.mark.parametrize(
    ("count", "checked"), [(1, False), (2500, False), (2501, False), (MOST, False), (1, True), (MOST, True)]
)
def test_each_job_is_in_its_place_once(client: FlaskClient, valkey: redis.Redis, count: int, checked: bool) -> None:
    """`checked`: one of the jobs has an id of its caller's choice, for which Redis is asked before all are written."""
    jobs = [body(number, **KINDS[number % len(KINDS)]) for number in range(count)]
    if checked:
        jobs[-1]["id"] = "mine"
    ids = client.post(f"{JOBS}/bulk", json={"jobs": jobs}).get_json()["ids"]
    assert len(ids) == len(set(ids)) == count
    assert (ids[-1] == "mine") is checked
    place = ["rq:queue:default", "rq:queue:low", "rq:scheduled:default", "rq:queue:default", "rq:scheduled:low"]
    expected: dict[str, list[str]] = {}
    for number, job_id in enumerate(ids):
        expected.setdefault(place[number % len(KINDS)], []).append(job_id)
    for key, there in expected.items():
        if key.startswith("rq:queue:"):
            assert members(valkey, key) == there
        else:
            assert sorted(members(valkey, key)) == sorted(there)
    with valkey.pipeline(transaction=False) as pipeline:
        for job_id in ids:
            pipeline.hmget(f"rq:job:{job_id}", "status", "origin", "description")
            pipeline.ttl(f"rq:job:{job_id}")
        answers = pipeline.execute()
    for number, (fields, ttl) in enumerate(zip(answers[::2], answers[1::2], strict=True)):
        kind = KINDS[number % len(KINDS)]
        state = b"scheduled" if "delay" in kind else b"queued"
        described = f"jobs.demo.add({number}, 1)".encode()
        assert fields == [state, kind.get("queue", "default").encode(), described]
        assert kind.get("ttl", -1) - 30 <= ttl <= kind.get("ttl", -1)
    queues = {key.rpartition(":")[2] for key in expected}
    assert valkey.smembers("rq:queues") == {f"rq:queue:{name}".encode() for name in queues}
    assert len(list(valkey.scan_iter("rq:job:*", count=5000))) == count


def test_one_job_too_many_and_none_is_made(client: FlaskClient, valkey: redis.Redis) -> None:
    for count in (0, MOST + 1):
        answer = client.post(f"{JOBS}/bulk", json={"jobs": [body(number) for number in range(count)]})
        assert (answer.status_code, answer.get_json()["errors"][0]["pointer"]) == (422, "#/jobs")
    assert valkey.keys() == []


@pytest.mark.parametrize("checked", [False, True])
def test_who_listens_hears_of_each(client: FlaskClient, valkey: redis.Redis, checked: bool) -> None:
    valkey.xadd("jobline:events", {"ids": ""})
    jobs = [body(number, **KINDS[number % len(KINDS)]) for number in range(501)]
    if checked:
        jobs[0]["id"] = "mine"
    ids = client.post(f"{JOBS}/bulk", json={"jobs": jobs}).get_json()["ids"]
    told = [event for place, raw in valkey.xrange("jobline:events") for event in stream._events(place, raw)]
    heard = {event.job_id: (event.queue, event.status) for event in told}
    assert len(told) == len(heard) == len(ids)
    assert heard == {
        job_id: (kind.get("queue", "default"), "scheduled" if "delay" in kind else "queued")
        for job_id, kind in zip(ids, KINDS * 101, strict=False)
    }


@pytest.mark.parametrize("checked", [False, True])
def test_at_front_is_the_head_of_the_queue(client: FlaskClient, valkey: redis.Redis, checked: bool) -> None:
    jobs = [body(0), body(1, at_front=True), body(2), body(3, at_front=True)]
    if checked:
        jobs[0]["id"] = "mine"
    client.post(JOBS, json=body(9, id="first"))
    ids = client.post(f"{JOBS}/bulk", json={"jobs": jobs}).get_json()["ids"]
    assert members(valkey, "rq:queue:default") == [ids[3], ids[1], "first", ids[0], ids[2]]


def new_jobs(*, named: bool = False) -> list[NewJob]:
    function, settings = Catalog().get("demo.add"), Settings()
    jobs = [new_job.prepare(function, settings, [number, 1], {}) for number in range(3)]
    jobs[0].named = named
    return jobs


@pytest.mark.parametrize("idempotent", [False, True])
@pytest.mark.parametrize("named", [False, True])
def test_what_is_sent_again_because_its_answer_was_lost_is_done_once(
    valkey: redis.Redis, idempotent: bool, named: bool
) -> None:
    """As the line to Redis does: the same command, a second time."""
    receipt = Receipt.of("open", "key", b"request") if idempotent else None
    jobs = new_jobs(named=named)
    made = write.enqueue(valkey, jobs, receipt)
    before = everything(valkey)
    assert write.enqueue(valkey, jobs, receipt) == made
    assert made.ids == [job.id for job in jobs] == members(valkey, "rq:queue:default")
    assert everything(valkey) == before


def test_two_processes_at_once_do_a_request_once(valkey: redis.Redis) -> None:
    """The second one finds the answer of the first, and writes nothing."""
    receipts = [Receipt.of("open", "key", b"request") for _ in range(2)]
    ids = write.enqueue(valkey, new_jobs(), receipts[0]).ids
    second = write.enqueue(valkey, new_jobs(), receipts[1])
    assert second.replayed == {"ids": ids}
    assert members(valkey, "rq:queue:default") == ids
    assert len(valkey.keys("rq:job:*")) == 3


def test_a_job_waits_for_every_job_that_it_depends_on(client: FlaskClient, valkey: redis.Redis) -> None:
    for job_id in ("done", "also-done", "open"):
        client.post(JOBS, json=body(1, id=job_id))
    for job_id in ("done", "also-done"):
        valkey.lrem("rq:queue:default", 1, job_id)
        valkey.hset(f"rq:job:{job_id}", "status", "finished")
    for parents, status in [
        (["done"], "queued"),
        (["done", "also-done"], "queued"),
        (["done", "open"], "deferred"),
        (["open", "done"], "deferred"),
        (["open"], "deferred"),
    ]:
        job = client.post(JOBS, json=body(2, depends_on=parents)).get_json()
        assert (job["status"], job["depends_on"]) == (status, parents)
        there = members(valkey, "rq:queue:default"), members(valkey, "rq:deferred:default")
        assert [job["id"] in place for place in there] == [status == "queued", status == "deferred"]
    waiting = {job_id.decode() for job_id in valkey.smembers("rq:job:open:dependents")}
    assert waiting == set(members(valkey, "rq:deferred:default"))


@pytest.mark.parametrize("state", ["failed", "stopped", "canceled", None])
def test_nothing_waits_for_what_cannot_finish(client: FlaskClient, valkey: redis.Redis, state: str | None) -> None:
    client.post(JOBS, json=body(1, id="good"))
    if state:
        client.post(JOBS, json=body(1, id="bad"))
        valkey.hset("rq:job:bad", "status", state)
    before = everything(valkey)
    bulk = [body(1), body(1, depends_on=["good", "bad"])]
    for path, sent, pointer in (
        (JOBS, bulk[1], "#/depends_on/1"),
        (f"{JOBS}/bulk", {"jobs": bulk[1:]}, "#/jobs/0/depends_on/1"),
        (f"{JOBS}/bulk", {"jobs": bulk}, "#/jobs/1/depends_on/1"),
    ):
        answer = client.post(path, json=sent)
        assert (answer.status_code, answer.get_json()["errors"][0]["pointer"]) == (422, pointer)
    assert everything(valkey) == before
