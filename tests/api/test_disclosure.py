"""What a key with the scope `enqueue` alone learns of jobs that others have made: nothing but ids, by no way."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
import redis
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from app.access import api_keys
from app.api.application import create_app
from app.enqueue.idempotency import Receipt
from app.settings import Settings
from tests.api.test_scopes import SCOPE_OF

KEYS = {name: api_keys.new(name, name.split("-")) for name in ("enqueue", "enqueue-read", "admin")}
MARK = "confidential"
STATES = ("queued", "scheduled", "deferred", "started", "finished", "failed", "stopped", "canceled")
ENQUEUE = [route for route, scope in SCOPE_OF.items() if scope == "enqueue"]
UNIQUE = {"function": "demo.fail", "args": ["mine"], "unique": {"by": []}}
ADD = {"function": "demo.add", "args": [1, 2]}


def id_of(state: str) -> str:
    return f"job{STATES.index(state)}"


@pytest.fixture
def client(valkey: redis.Redis) -> FlaskClient:
    settings = Settings(api_keys=",".join(str(entry) for _, entry in KEYS.values()))
    return create_app(settings, valkey, has_workers=False).test_client()


Call = Callable[..., TestResponse]


@pytest.fixture
def call(client: FlaskClient) -> Call:
    def call(route: str, body: Any = None, key: str = "enqueue", **headers: str) -> TestResponse:
        method, _, path = route.partition(" ")
        headers["Authorization"] = f"Bearer {KEYS[key][0]}"
        return client.open(f"/api/v1{path}", method=method, json=body, headers=headers)

    return call


@pytest.fixture
def secret_job(call: Call, valkey: redis.Redis) -> Callable[[str], str]:
    """Makes a job of somebody else, in a state, with MARK wherever a job has text."""

    def make(state: str) -> str:
        if locks := valkey.keys("jobline:unique:*"):
            valkey.delete(*locks)  # it is made although there is one like it
        body = {
            "function": "demo.fail", "args": [MARK], "queue": "default", "tags": [MARK], "description": MARK,
            "unique": {"by": ["message"]}, "id": id_of(state),
        }  # fmt: skip
        if state == "deferred":
            body["depends_on"] = [call("POST /jobs", ADD, "admin").get_json()["id"]]
        if state == "scheduled":
            body["delay"] = 3600
        job_id = str(call("POST /jobs", body, "admin").get_json()["id"])
        valkey.hset(f"rq:job:{job_id}", mapping={"status": state, "worker_name": MARK, "exc_info": MARK})
        if state not in ("queued", "scheduled", "deferred"):
            valkey.lrem("rq:queue:default", 0, job_id)
            valkey.xadd(f"rq:results:{job_id}", {"type": 2, "exc_string": MARK, "worker_name": MARK})
        return job_id

    return make


def told(answer: TestResponse, job_id: str) -> tuple[int, str]:
    """The status, and the text without the job's own id."""
    return answer.status_code, answer.text.replace(job_id, "ID")


CHANGES: dict[str, list[Any]] = {
    "POST /jobs/{}/cancel": [None],
    "PATCH /jobs/{}": [
        {"tags": ["x"]}, {"description": "x"}, {"queue": "low"}, {"timeout": 5}, {"at_front": True}, {"delay": 9},
    ],
    "POST /jobs/{}/requeue": [
        None, {}, {"args": []}, {"args": [1, 2, 3]}, {"kwargs": {"unknown": 1}}, {"args": ["x"]}, {"queue": "low"},
        {"args": [70_000 * "x"]},
    ],
}  # fmt: skip


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize(("route", "body"), [(route, body) for route in CHANGES for body in CHANGES[route]], ids=str)
def test_a_change_tells_whether_it_was_accepted_and_nothing_else(
    call: Call, secret_job: Callable[[str], str], route: str, body: Any, state: str
) -> None:
    job_id = secret_job(state)
    answer = call(route.format(job_id), body)
    assert answer.status_code in (202, 200, 409, 422)
    if answer.status_code < 300:
        assert answer.status_code == (200 if route.startswith("PATCH") else 202)
        assert set(answer.get_json()) == {"id", "links"}
    else:
        words = set(re.findall(r"[a-z]+", answer.get_json()["detail"].partition(": ")[0].replace(job_id, "")))
        assert not words & {*STATES, "demo", "fail"}
        assert "demo" not in answer.text
        assert "message" not in json.dumps(answer.get_json().get("errors", []))
    assert MARK not in answer.text


def test_a_refusal_is_the_same_whatever_state_forbids_it(call: Call, secret_job: Callable[[str], str]) -> None:
    for route, states in (
        ("POST /jobs/{}/cancel", ("finished", "failed", "stopped", "canceled")),
        ("PATCH /jobs/{}", ("started", "finished", "failed")),
        ("POST /jobs/{}/requeue", ("queued", "scheduled", "deferred", "finished")),
    ):
        body = {"tags": ["x"]} if route.startswith("PATCH") else None
        answers = set()
        for state in states:
            job_id = id_of(state)
            if call(f"GET /jobs/{job_id}", key="enqueue-read").status_code == 404:
                secret_job(state)
            answers.add(told(call(route.format(job_id), body), job_id))
        assert len(answers) == 1, answers
        assert answers.pop()[0] == 409


def test_a_key_that_may_read_is_told(call: Call, secret_job: Callable[[str], str]) -> None:
    job_id = secret_job("finished")
    assert "is finished" in call(f"POST /jobs/{job_id}/cancel", key="enqueue-read").get_json()["detail"]
    job_id = secret_job("queued")
    answer = call(f"PATCH /jobs/{job_id}", {"description": "x"}, "enqueue-read").get_json()
    assert (answer["args"], answer["status"]) == ([MARK], "queued")
    answer = call(f"POST /jobs/{job_id}/cancel", key="enqueue-read")
    assert (answer.status_code, answer.get_json()["status"]) == (200, "canceled")
    wrong = call(f"POST /jobs/{job_id}/requeue", {"args": []}, "enqueue-read").get_json()
    assert "demo.fail" in wrong["detail"]


@pytest.mark.parametrize("headers", [{}, {"Prefer": "wait=1"}, {"Idempotency-Key": "a"}], ids=str)
@pytest.mark.parametrize("state", ["queued", "scheduled", "started"])
def test_a_unique_job_of_somebody_else_is_an_id(
    call: Call, secret_job: Callable[[str], str], state: str, headers: dict[str, str]
) -> None:
    job_id = secret_job(state)
    body = {"function": "demo.fail", "args": [MARK], "unique": {"by": ["message"]}}
    for _ in range(2):  # the second is a replay, with an Idempotency-Key
        answer = call("POST /jobs", body, **headers)
        assert (answer.status_code, set(answer.get_json()), answer.get_json()["id"]) == (200, {"id", "links"}, job_id)
    rejected = call("POST /jobs", {**body, "unique": {"by": ["message"], "on_conflict": "reject"}})
    assert (rejected.status_code, MARK in rejected.text) == (409, False)
    assert not any(word in rejected.get_json()["detail"].split() for word in STATES)
    if state == "started":
        replaced = call("POST /jobs", {**body, "unique": {"by": ["message"], "on_conflict": "replace"}})
        assert (replaced.status_code, "started" in replaced.get_json()["detail"]) == (409, False)
    assert call("POST /jobs", body, "enqueue-read").get_json()["args"] == [MARK]


def test_a_replay_whose_answer_was_lost_shows_nothing_of_somebody_elses_job(
    call: Call, secret_job: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Receipt, "store_answer", lambda *_: None)  # the process dies before it
    job_id = secret_job("queued")
    body = {"function": "demo.fail", "args": [MARK], "unique": {"by": ["message"]}}
    call("POST /jobs", body, **{"Idempotency-Key": "a"})
    replay = call("POST /jobs", body, **{"Idempotency-Key": "a"})
    assert replay.headers["Idempotent-Replayed"] == "true"
    assert (set(replay.get_json()), replay.get_json()["id"]) == ({"id", "links"}, job_id)


def test_what_cannot_be_waited_for_does_not_say_why(call: Call, secret_job: Callable[[str], str]) -> None:
    answers = set()
    for state in ("failed", "stopped", "canceled"):
        answers.add(told(call("POST /jobs", {**ADD, "depends_on": [secret_job(state)]}), id_of(state)))
        call(f"DELETE /jobs/{id_of(state)}", key="admin")
    answers.add(told(call("POST /jobs", {**ADD, "depends_on": ["unknown-job"]}), "unknown-job"))
    assert len(answers) == 1
    assert answers.pop()[0] == 422


def test_the_run_of_a_schedule_and_a_workflow_are_ids(call: Call, secret_job: Callable[[str], str]) -> None:
    call("PUT /schedules/s", {"function": "demo.fail", "args": [MARK], "interval": 3600}, "admin")
    triggered = call("POST /schedules/s/trigger")
    assert (triggered.status_code, set(triggered.get_json())) == (202, {"id", "links"})
    flow = call(
        "POST /workflows", {"name": MARK, "jobs": [{"name": "a", "function": "demo.fail", "args": [MARK]}]}, "admin"
    )
    canceled = call(f"POST /workflows/{flow.get_json()['id']}/cancel")
    assert (canceled.status_code, set(canceled.get_json())) == (202, {"id", "links"})
    assert MARK not in triggered.text + canceled.text


def test_no_filter_tells_what_jobs_there_are(call: Call, secret_job: Callable[[str], str], valkey: redis.Redis) -> None:
    """Counts of a filter, by text in arguments for example, are answers to questions about them."""
    secret_job("failed")
    for action in ("requeue", "cancel", "delete"):
        for body in ({"q": MARK, "dry_run": True}, {"function": "demo.fail"}, {"q": "nothing"}):
            assert call(f"POST /jobs/{action}", body).status_code == 403
    assert valkey.hget(f"rq:job:{id_of('failed')}", "status") == b"failed"


def test_a_job_that_the_request_has_made_is_shown_whole(call: Call) -> None:
    for headers in ({}, {"Idempotency-Key": "b"}, {"Idempotency-Key": "b"}):
        answer = call("POST /jobs", ADD, **headers)
        assert (answer.status_code, answer.get_json()["args"]) == (202, [1, 2])
    assert call("POST /functions/demo.add/jobs", {"a": 1, "b": 2}).get_json()["kwargs"] == {"a": 1, "b": 2}
    assert call("POST /workflows", {"jobs": [{"name": "a", **ADD}]}).get_json()["status"] == "running"


def test_idempotency_keys_of_others_are_not_known(call: Call) -> None:
    first = call("POST /jobs", ADD, "admin", **{"Idempotency-Key": "shared"}).get_json()
    second = call("POST /jobs", ADD, **{"Idempotency-Key": "shared"})
    assert second.get_json()["id"] != first["id"]
    assert "Idempotent-Replayed" not in second.headers


def test_every_route_of_the_scope_is_looked_at_here() -> None:
    assert {route.replace(" /api/v1", " ") for route in ENQUEUE} == {
        "POST /jobs", "POST /jobs/bulk", "POST /functions/<string:name>/jobs", "POST /workflows",
        "PATCH /jobs/<string:job_id>", "POST /jobs/<string:job_id>/cancel", "POST /jobs/<string:job_id>/requeue",
        "POST /schedules/<string:name>/trigger", "POST /workflows/<string:workflow_id>/cancel",
    }  # fmt: skip


def test_an_unknown_job_is_told_from_one_that_is_there_by_its_id_alone(call: Call) -> None:
    for route in CHANGES:
        answer = call(route.format("unknown"), {"tags": []} if route.startswith("PATCH") else None)
        assert (answer.status_code, answer.get_json()["detail"]) == (404, "No job 'unknown'")


def test_a_schedule_is_no_job_though_tools_of_rq_scheduler_see_one(client: FlaskClient, valkey: redis.Redis) -> None:
    admin = {"Authorization": f"Bearer {KEYS['admin'][0]}"}
    schedule = {"function": "demo.add", "args": [1, 2], "interval": 3600}
    assert client.put("/api/v1/schedules/nightly", json=schedule, headers=admin).status_code == 201
    path, before = "/api/v1/jobs/schedule-nightly", valkey.hgetall("rq:job:schedule-nightly")
    assert before[b"status"] == b"scheduled"
    answers = [
        client.get(path, headers=admin),
        client.get(f"{path}/events", headers=admin),
        client.patch(path, json={"delay": 5}, headers=admin),
        client.post(f"{path}/cancel", headers=admin),
        client.post(f"{path}/requeue", headers=admin),
        client.delete(path, headers=admin),
    ]
    assert [answer.status_code for answer in answers] == [404] * len(answers)
    child = client.post("/api/v1/jobs", json={**ADD, "depends_on": ["schedule-nightly"]}, headers=admin)
    assert (child.status_code, child.get_json()["errors"][0]["pointer"]) == (422, "#/depends_on/0")
    assert valkey.hgetall("rq:job:schedule-nightly") == before
