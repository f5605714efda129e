"""Refusals cost and say little: no body is read before its sender is known, no answer echoes what came in."""

import io
import statistics
import time
from typing import Any

import fakeredis
import orjson
import pytest
import redis
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import EnvironBuilder

from app.access import api_keys
from app.api.application import create_app
from app.api.errors import MAX_LISTED_SIZE, MAX_TEXT
from app.errors import MAX_LISTED_ERRORS
from app.settings import Settings
from tests.api.test_scopes import SCOPE_OF, path_of

KEY, ENTRY = api_keys.new("ci", ["enqueue"])
READER, READER_ENTRY = api_keys.new("reader", ["read"])
LARGEST_ANSWER = MAX_LISTED_SIZE + 10_000  # bytes
NAMES = {str(number): 1 for number in range(50_000)}
LONG = 500_000 * "x"
CONTROL = 5000 * "\x01"
ADD = {"function": "demo.add", "args": [1, 2]}


@pytest.fixture
def client(fake: redis.Redis) -> FlaskClient:
    return create_app(Settings(bulk_body_limit=2**21), fake, has_workers=False).test_client()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/jobs", NAMES),
        ("/jobs", {"function": "demo.add", "args": ["x"] * 100_000}),
        ("/jobs", {**ADD, LONG: 1}),
        ("/jobs", {"function": LONG}),
        ("/jobs", {**ADD, "delay": LONG}),
        ("/jobs", {**ADD, "queue": LONG}),
        ("/jobs", {**ADD, "unique": {"by": [LONG]}}),
        ("/jobs", {**ADD, "webhook": {"url": "https://" + LONG}}),
        ("/jobs", {**ADD, "depends_on": [128 * "x"] * 1000}),
        ("/jobs", {**ADD, **{f"{CONTROL}{number}": 1 for number in range(100)}}),
        ("/functions/demo.add/jobs", NAMES),
        ("/functions/demo.add/jobs", {LONG: 1}),
        ("/functions/email.send_message/jobs", {"to": ["x"] * 20_000, "subject": "s", "text": "t"}),
        ("/jobs/bulk", {"jobs": [{}] * 10_000}),
        ("/jobs/bulk", {"jobs": [{"function": "demo.add", "args": ["x"] * 100}] * 1000}),
        ("/workflows", {"jobs": [{}] * 10_000}),
        ("/workflows", {"jobs": [{"name": f"n{n}", "function": "demo.add", "args": ["x", "y"]} for n in range(9000)]}),
        ("/workflows", {"jobs": [{"name": "a", **ADD, "after": ["b" * 60] * 10_000}]}),
        ("/jobs/cancel", {"error": LONG, "cursor": LONG, LONG: 1}),
        ("/schedules/preview", {"cron": LONG}),
        ("/schedules/preview", {"interval": 5, "timezone": LONG}),
    ],
)
def test_an_answer_stays_small_whatever_came_in(
    client: FlaskClient, fake: redis.Redis, path: str, body: dict[str, Any]
) -> None:
    answer = client.post(f"/api/v1{path}", data=orjson.dumps(body), content_type="application/json")
    assert answer.status_code in (400, 413, 422)
    assert len(answer.data) < LARGEST_ANSWER
    told = answer.get_json()
    errors = told.get("errors", [])
    assert len(errors) <= MAX_LISTED_ERRORS
    texts = [told["detail"], *(text for error in errors for text in error.values())]
    assert max(map(len, texts)) < MAX_TEXT + 100
    assert not fake.keys("rq:job:*")


def test_the_answer_says_that_there_are_more_errors(client: FlaskClient) -> None:
    answer = client.post("/api/v1/jobs/bulk", json={"jobs": [{}] * 2000}).get_json()
    assert len(answer["errors"]) == MAX_LISTED_ERRORS
    assert answer["detail"].endswith(f"the first {MAX_LISTED_ERRORS} errors are listed")
    assert answer["errors"][99]["pointer"] == "#/jobs/99/function"
    few = client.post("/api/v1/jobs/bulk", json={"jobs": [{}] * 3}).get_json()
    assert (len(few["errors"]), "listed" in few["detail"]) == (3, False)


@pytest.mark.parametrize(
    "path", ["/jobs", "/jobs/bulk", "/workflows", "/functions/demo.add/jobs", "/schedules/preview"]
)
def test_a_text_with_a_document_in_it_is_no_document(client: FlaskClient, fake: redis.Redis, path: str) -> None:
    """It would be read by other rules: for depth, for names that come twice, for large numbers."""
    answer = client.post(f"/api/v1{path}", json=orjson.dumps({**ADD, "jobs": [ADD], "interval": 5}).decode())
    assert (answer.status_code, answer.get_json()["errors"][0]["pointer"]) == (422, "#")
    assert not fake.keys("rq:job:*")


def test_a_path_and_a_query_are_not_echoed_at_length(client: FlaskClient) -> None:
    for path in (
        f"/jobs/{LONG}",
        f"/schedules/{LONG}",
        f"/jobs?cursor={LONG}",
        f"/jobs?limit={LONG}",
        f"/jobs?{LONG}=1",
    ):
        answer = client.get(f"/api/v1{path}")
        assert answer.status_code >= 400 or "?" in path
        assert len(answer.data) < LARGEST_ANSWER, path


class Unread(io.RawIOBase):
    """A body that must not be read."""

    was_read = False

    def readable(self) -> bool:
        return True

    def readinto(self, _: Any) -> int:
        self.was_read = True
        return 0


def refused(app: Flask, route: str, **headers: str) -> tuple[int, bool]:
    """The status, and whether the body was read; the response's own beginning is all that is looked at."""
    method, _, rule = route.partition(" ")
    body = Unread()
    environ = EnvironBuilder(path=path_of(rule), method=method, headers=headers).get_environ()
    environ |= {"wsgi.input": body, "CONTENT_LENGTH": "1000000", "CONTENT_TYPE": "application/json"}
    statuses = list[str]()
    app.wsgi_app(environ, lambda status, *_: statuses.append(status))  # type: ignore[arg-type, return-value]
    return int(statuses[0][:3]), body.was_read


@pytest.mark.parametrize("route", [route for route in SCOPE_OF if not route.startswith("GET")])
def test_no_body_is_read_before_its_sender_may_send_it(route: str) -> None:
    server = fakeredis.FakeServer()
    settings = Settings(api_keys=f"{ENTRY},{READER_ENTRY}", request_limit="2/d")
    app = create_app(settings, fakeredis.FakeRedis(server=server))
    bearer = {"Authorization": f"Bearer {READER}", "Origin": "http://localhost"}
    assert refused(app, route, Host="evil.example") == (421, False)
    assert refused(app, route, **{**bearer, "Origin": "https://evil.example"}) == (403, False)
    own = {"Origin": "http://localhost"}
    assert refused(app, route, **own) == (401, False)
    assert refused(app, route, **own, Authorization="Bearer wrong") == (401, False)
    if SCOPE_OF[route] != "read":
        assert refused(app, route, **bearer) == (403, False)
    refused(app, route, **bearer)
    refused(app, route, **bearer)
    assert refused(app, route, **bearer) == (429, False)


@pytest.mark.parametrize(
    ("route", "status"),
    [
        ("POST /api/v1/nowhere", 404),
        ("POST /api/v1/nowhere/jobs/bulk", 404),
        ("POST /api/v1/jobs/", 404),
        ("PUT /api/v1/jobs", 405),
        ("POST /api/v1/queues", 405),
        ("DELETE /api/v1/workflows", 405),
        ("POST /livez", 405),
        ("POST /docs", 405),
        ("POST /nowhere", 404),
    ],
)
def test_no_body_is_read_where_there_is_nothing_to_send_it_to(fake: redis.Redis, route: str, status: int) -> None:
    for settings in (Settings(), Settings(api_keys=str(ENTRY))):
        assert refused(create_app(settings, fake), route) == (status, False)


def test_a_refusal_takes_less_than_a_millisecond(valkey: redis.Redis) -> None:
    """401 asks nobody; 429 asks Redis once. A body of a megabyte makes no difference."""
    settings = Settings(api_keys=str(ENTRY), request_limit="1/d")
    app = create_app(settings, valkey)

    def median(**headers: str) -> tuple[int, float]:
        taken, status = list[float](), 0
        for _ in range(101):
            environ = EnvironBuilder(
                path="/api/v1/jobs", method="POST", data=bytes(2**20), content_type="application/json", headers=headers
            ).get_environ()
            statuses = list[str]()
            began = time.perf_counter()
            list(app.wsgi_app(environ, lambda said, *_: statuses.append(said)))  # type: ignore[arg-type, return-value] # noqa: B023
            taken.append(time.perf_counter() - began)
            status = int(statuses[0][:3])
        return status, statistics.median(taken)

    for headers, expected in (
        ({}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": f"Bearer {KEY}"}, 429),
    ):
        status, seconds = median(**headers)
        assert (status, seconds < 0.001) == (expected, True), seconds


@pytest.mark.parametrize("path", ["jobs/requeue", "jobs/cancel", "jobs/delete", "jobs"])
def test_a_chunked_body_that_never_came_is_not_taken_for_an_empty_one(client: FlaskClient, path: str) -> None:
    """An empty one means all jobs."""
    answer = client.post(f"/api/v1/{path}", headers={"Transfer-Encoding": "chunked"})
    assert (answer.status_code, "before the whole body came" in answer.get_json()["detail"]) == (400, True)
