"""How long Redis keeps what a request leaves there."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any

import pytest
import redis
from flask.testing import FlaskClient

from app.access import api_keys
from app.api.application import create_app
from app.redis.scripts import Script
from app.settings import Settings
from app.testing import Jobs, run_jobs
from tests.failed import fail

V1 = "/api/v1"
JOBS = f"{V1}/jobs"
DAY = 86_400
FOR_EVER = -1
KEY = {"Idempotency-Key": "k"}
WORKFLOW = {"jobs": [{"name": "a", "function": "demo.add", "args": [1, 2]}]}

Request = tuple[Any, ...]
"""Method, path, body, headers: what is left out is empty."""


def put(**said: Any) -> Request:
    return "POST", JOBS, {"function": "demo.add", "args": [1, 2], "id": "job", **said}


def unnamed(**said: Any) -> Request:
    return "POST", JOBS, {"function": "demo.add", "args": [1, 2], **said}


CANCEL = ("POST", f"{JOBS}/job/cancel")
NOTE = {"jobline:ended:job": 60}
"""Wakes those who wait for the end of a job; they need it no longer than that."""

CASES: dict[str, tuple[list[Request], dict[str, int]]] = {
    "a job": ([put()], {"rq:job:job": FOR_EVER}),
    "a job with a ttl": ([put(ttl=60)], {"rq:job:job": 60}),
    "a job with a ttl, and no id of its own": ([unnamed(ttl="2m")], {"rq:job:*": 120}),
    "a delayed job with a ttl": ([unnamed(ttl=60, delay=5)], {"rq:job:*": 60}),
    "a job that was canceled": ([put(), CANCEL], {"rq:job:job": 30 * DAY, **NOTE}),
    "a delayed job that was canceled": ([put(delay=60), CANCEL], {"rq:job:job": 30 * DAY, **NOTE}),
    "canceled, with a failure_ttl": ([put(failure_ttl=600), CANCEL], {"rq:job:job": 600, **NOTE}),
    "canceled, and kept for ever": ([put(failure_ttl=-1), CANCEL], {"rq:job:job": FOR_EVER, **NOTE}),
    "canceled, whatever its ttl": ([put(ttl=60, failure_ttl=600), CANCEL], {"rq:job:job": 600, **NOTE}),
    "a deferred job that was canceled": (
        [put(id="parent"), put(depends_on=["parent"]), CANCEL],
        {
            "rq:job:parent": FOR_EVER,
            "rq:job:job": 30 * DAY,
            "rq:job:parent:dependents": FOR_EVER,
            "rq:job::job:dependencies": 30 * DAY,
            **NOTE,
        },
    ),
    "many that were canceled": ([put(), ("POST", f"{JOBS}/cancel", {"all": True})], {"rq:job:job": 30 * DAY, **NOTE}),
    "canceled and requeued": ([put(), CANCEL, ("POST", f"{JOBS}/job/requeue")], {"rq:job:job": FOR_EVER}),
    "canceled and requeued, with a ttl": (
        [put(ttl=60), CANCEL, ("POST", f"{JOBS}/job/requeue")],
        {"rq:job:job": 60},
    ),
    "a job that was deleted": ([put(), ("DELETE", f"{JOBS}/job")], NOTE),
    "many that were deleted": ([put(), ("POST", f"{JOBS}/delete", {"all": True})], NOTE),
    "a queue that was emptied": ([put(), ("POST", f"{V1}/queues/default/empty")], NOTE),
    "a job that gave way": (
        [put(unique={"on_conflict": "replace", "for": 60}), put(id="next", unique={"on_conflict": "replace"})],
        {"rq:job:next": FOR_EVER, "jobline:unique:*": 30 * DAY, **NOTE},
    ),
    "a unique job": ([put(unique={})], {"rq:job:job": FOR_EVER, "jobline:unique:*": 30 * DAY}),
    "a unique job, for a time": ([put(unique={"for": "1h"})], {"rq:job:job": FOR_EVER, "jobline:unique:*": 3600}),
    "an answer": ([(*unnamed(), KEY)], {"rq:job:*": FOR_EVER, "jobline:idempotency:*": DAY}),
    "an answer to one who chose the id": ([(*put(), KEY)], {"rq:job:job": FOR_EVER, "jobline:idempotency:*": DAY}),
    "an answer to one who waited": (
        [(*unnamed(), {**KEY, "Prefer": "wait=1"})],
        {"rq:job:*": FOR_EVER, "jobline:idempotency:*": DAY},
    ),
    "an answer that names a job which was there": (
        [put(unique={}), (*unnamed(unique={}), KEY)],
        {"rq:job:job": FOR_EVER, "jobline:unique:*": 30 * DAY, "jobline:idempotency:*": DAY},
    ),
    "an answer of bulk": (
        [("POST", f"{JOBS}/bulk", {"jobs": [put()[2]]}, KEY)],
        {"rq:job:job": FOR_EVER, "jobline:idempotency:*": DAY},
    ),
    "an answer of a function": (
        [("POST", f"{V1}/functions/demo.add/jobs", {"a": 1, "b": 2}, KEY)],
        {"rq:job:*": FOR_EVER, "jobline:idempotency:*": DAY},
    ),
    "an answer that refused": ([(*put(args=["x", 2]), KEY)], {}),
    "an answer that refused what Redis knows": (
        [put(), (*put(), KEY)],
        {"rq:job:job": FOR_EVER},
    ),
    "an answer about a workflow": (
        [("POST", f"{V1}/workflows", WORKFLOW, KEY)],
        {
            "rq:job:*": FOR_EVER,
            "jobline:workflow:*": FOR_EVER,
            "jobline:workflows": FOR_EVER,
            "jobline:workflows:open": FOR_EVER,
            "jobline:idempotency:*": DAY,
        },
    ),
    "a schedule": (
        [("PUT", f"{V1}/schedules/s", {"function": "demo.add", "args": [1, 2], "interval": 60})],
        {"rq:job:schedule-s": FOR_EVER, "jobline:schedule:s": FOR_EVER, "jobline:schedules": FOR_EVER},
    ),
    "a schedule that was deleted": (
        [
            ("PUT", f"{V1}/schedules/s", {"function": "demo.add", "args": [1, 2], "interval": 60}),
            ("DELETE", f"{V1}/schedules/s"),
        ],
        {},
    ),
}  # fmt: skip


@pytest.fixture
def client(valkey: redis.Redis) -> FlaskClient:
    return create_app(Settings(audit="off"), valkey).test_client()


def send(client: FlaskClient, method: str, path: str, body: Any = None, headers: Any = None) -> Any:
    said = {} if body is None else {"json": body}
    return client.open(path, method=method, headers=headers, **said)


def lifetimes(connection: redis.Redis) -> dict[str, int]:
    """The seconds that each key is kept, but for RQ's lists and registries."""
    found = connection.keys("jobline:*") + connection.keys("rq:job:*")
    keys = [key.decode() for key in found if not key.startswith(b"jobline:metrics:")]
    return {key: connection.ttl(key) for key in keys}


@pytest.mark.parametrize("name", CASES)
def test_each_key_is_kept_as_long_as_it_is_of_use(client: FlaskClient, valkey: redis.Redis, name: str) -> None:
    requests, expected = CASES[name]
    for request in requests:
        send(client, *request)
    found = {key: next((one for one in expected if fnmatchcase(key, one)), "") for key in lifetimes(valkey)}
    assert set(found.values()) == set(expected), found
    for key, ttl in lifetimes(valkey).items():
        assert expected[found[key]] - 5 <= ttl <= expected[found[key]], (key, ttl)


@pytest.mark.parametrize(("ttl", "kept"), [(None, FOR_EVER), (60, 60)])
def test_a_failed_job_that_is_requeued_does_not_die_of_its_failure(
    client: FlaskClient, valkey: redis.Redis, ttl: int | None, kept: int
) -> None:
    fail(valkey, "job", failure_ttl=600, ttl=ttl, ago=timedelta(minutes=5))
    assert 590 < valkey.ttl("rq:job:job") <= 600
    assert client.post(f"{JOBS}/job/requeue").status_code == 202
    assert kept - 1 <= valkey.ttl("rq:job:job") <= kept
    assert valkey.zcard("rq:failed:default") == 0


@pytest.mark.parametrize(("limit", "kept"), [("2/m", 60), ("2/10s", 10), ("2/h", 3600)])
def test_counts_of_requests_are_kept_for_their_window(valkey: redis.Redis, limit: str, kept: int) -> None:
    key, entry = api_keys.new("ci", ["read"])
    client = create_app(Settings(api_keys=str(entry), request_limit=limit), valkey).test_client()
    assert client.get(f"{V1}/queues", headers={"Authorization": f"Bearer {key}"}).status_code == 200
    assert valkey.dbsize() == 1
    for name in valkey.keys():
        assert name.startswith(b"jobline:requests:ci:")
        assert kept - 1 <= valkey.ttl(name) <= kept + 1


@pytest.fixture
def jobs() -> Iterator[Jobs]:
    with run_jobs() as found:
        yield found


@pytest.mark.parametrize("passed", [0, 0.5, 3.4, 6.6, 9.5, 9.99])
def test_a_window_of_requests_ends_when_it_is_said_to(passed: float) -> None:
    """`passed`: the seconds of the window that are over."""
    with run_jobs(at=datetime(2027, 1, 1, tzinfo=UTC) + timedelta(seconds=passed)) as jobs:
        client = create_app(Settings(request_limit="2/10s"), jobs.redis).test_client()

        def ask(times: int) -> list[int]:
            return [client.get(f"{V1}/queues").status_code for _ in range(times)]

        assert ask(3) == [200, 200, 429]
        refused = client.get(f"{V1}/queues")
        wait = int(refused.headers["Retry-After"])
        assert refused.headers["RateLimit"] == f'"requests";r=0;t={wait}'
        if wait > 1:
            jobs.advance(seconds=wait - 1)
            assert ask(1) == [429]
            jobs.advance(seconds=1)
        else:
            jobs.advance(seconds=wait)
        assert ask(3) == [200, 200, 429]
        jobs.advance(seconds=21)
        assert jobs.redis.keys("jobline:requests:*") == []


@pytest.mark.parametrize(("path", "body"), [(f"{JOBS}/bulk", {"jobs": [put()[2]]}), (f"{V1}/workflows", WORKFLOW)])
def test_a_request_that_fails_holds_no_idempotency_key(
    client: FlaskClient, valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch, path: str, body: Any
) -> None:
    with monkeypatch.context() as away:
        away.setattr(Script, "__call__", _refuse)
        assert client.post(path, json=body, headers=KEY).status_code == 503
    assert valkey.keys("jobline:idempotency:*") == []
    assert client.post(path, json=body, headers=KEY).status_code == 202


def _refuse(*_: Any, **__: Any) -> None:
    raise redis.ReadOnlyError


def test_an_idempotency_key_is_free_again_after_a_day(jobs: Jobs) -> None:
    body = {"function": "demo.add", "args": [1, 2]}

    def made() -> Any:
        return jobs.client.post(JOBS, json=body, headers=KEY).get_json()["id"]

    first = made()
    jobs.advance(hours=23, minutes=59)
    assert made() == first
    jobs.advance(minutes=2)
    assert made() != first
