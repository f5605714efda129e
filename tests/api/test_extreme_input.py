"""Extreme numbers, moments, cursors and headers: each is taken or refused, none is an error of ours."""

import base64
import zlib
from typing import Any
from urllib.parse import quote

import orjson
import pytest
import redis
from flask.testing import FlaskClient

from app.api.application import create_app
from app.author.options import Retry, parse_rate
from app.settings import Settings
from tests.contents import contents

V1 = "/api/v1"
CALL = {"function": "demo.add", "args": [1, 2]}
LISTS = [f"{V1}/{name}" for name in ("jobs", "audit", "schedules", "workflows")]
BULK = [(f"{V1}/jobs/{action}", {} if action == "requeue" else {"all": True}) for action in ("requeue", "cancel")]


@pytest.fixture
def client(fake: redis.Redis) -> FlaskClient:
    client = create_app(Settings(), fake).test_client()
    for job_id in "abc":
        client.post(f"{V1}/jobs", json={**CALL, "id": job_id})
    return client


def encoded(value: Any, pack: bool = False) -> str:
    plain = orjson.dumps(value)
    return base64.urlsafe_b64encode(zlib.compress(plain) if pack else plain).decode().rstrip("=")


PLACES: list[Any] = [
    ["1", 5], [1, "a"], ["1"], ["1", "a", "b"], ["nan", "a"], ["1e999", "a"], ["9" * 5000, "a"], ["1", None],
    [None, None], [["1"], "a"], ["1", "\u1234"], ["x", "a"], ["-1", "a"], {}, 5, "x",
]  # fmt: skip
SOURCES = [[registry, "default"] for registry in ("queued", "failed")] + [[None, 1], [["queued"], {}], []]
BROKEN = [encoded([*source, place]) for source in SOURCES for place in PLACES]
PACKED = [encoded([[*source, place]], pack=True) for source in SOURCES for place in PLACES]
WORDS = [
    "é", "%", "A", "=", "\0", "9" * 5000, "-1", "9" * 19 + "-" + "9" * 19, "18446744073709551616-0", "\u0663-\u0663",
    "²", "[", "(", "\u2028", encoded("[" * 1000), encoded([], pack=True), "MTIz",
    base64.urlsafe_b64encode(zlib.compress(b"[" * 100_000)).decode(),
]  # fmt: skip


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize("cursor", WORDS, ids=range(len(WORDS)))
def test_a_cursor_that_is_none(client: FlaskClient, path: str, cursor: str) -> None:
    assert client.get(f"{path}?cursor={quote(cursor)}").status_code in (200, 400)


def test_a_cursor_of_the_wrong_shape(client: FlaskClient) -> None:
    for cursor in [*BROKEN, *PACKED]:
        for status in ("", "&status=queued"):
            assert client.get(f"{V1}/jobs?cursor={cursor}{status}").status_code in (200, 400), cursor
        for path, body in BULK:
            answer = client.post(path, json={"dry_run": True, **body, "cursor": cursor})
            assert answer.status_code in (200, 400), cursor
    wrong = encoded(["queued", "default", ["1", 5]])
    assert client.post(BULK[1][0], json={"all": True, "cursor": wrong}).status_code == 400


@pytest.mark.parametrize(
    "last", ["9" * 30 + "-0", "1--1", "1", "x-y", "\u0663-\u0663".encode().decode("latin-1"), "1_0-0"]
)
def test_a_last_event_id_that_is_none(client: FlaskClient, last: str) -> None:
    for path in (f"{V1}/events", f"{V1}/jobs/a/events"):
        answer = client.get(path, headers={"Last-Event-ID": last})
        assert (answer.status_code, answer.get_json()["detail"]) == (400, "The Last-Event-ID is not a valid event id")


@pytest.mark.parametrize("seconds", ["0", "0" * 5000, "-1", "x", "\u00b2", ""])
def test_a_preference_to_wait_no_time(client: FlaskClient, seconds: str) -> None:
    assert client.get(f"{V1}/jobs/a", headers={"Prefer": f"wait={seconds}"}).status_code == 200


def test_a_preference_to_wait_very_long_is_that_for_the_longest_time(client: FlaskClient) -> None:
    client.post(f"{V1}/jobs/b/cancel")  # what has ended is answered at once
    for digits in (10, 5000):
        assert client.get(f"{V1}/jobs/b", headers={"Prefer": "wait=" + "9" * digits}).status_code == 200


TOO_FAR = [
    "0001-01-01T00:00:00+14:00", "0001-01-01T00:00:00Z", "1969-12-31T23:59:59Z", "1970-01-01T00:00:00+00:01",
    "2200-01-01T00:00:00-00:01", "2200-01-01T00:00:01Z", "9999-12-31T23:59:59Z", "9999-12-31T23:59:59-14:00",
]  # fmt: skip
ZONES = ["UTC", "Asia/Tokyo", "Pacific/Kiritimati", "America/Los_Angeles", "Etc/GMT+12"]


@pytest.mark.parametrize("at", TOO_FAR)
def test_moments_are_from_1970_to_2200_and_a_request_that_fails_stores_nothing(
    client: FlaskClient, fake: redis.Redis, at: str
) -> None:
    before, shown = contents(fake), quote(at)
    answers = [
        client.get(f"{V1}/{path}={shown}") for path in ("jobs?since", "jobs?until", "audit?since", "failures?since")
    ]
    answers += [client.post(f"{V1}/jobs", json={**CALL, "at": at}), client.patch(f"{V1}/jobs/a", json={"at": at})]
    answers += [client.post(path, json={**body, "since": at}) for path, body in BULK]
    for rule in ({"at": at}, {"cron": "@daily", "start": at}, {"interval": 60, "end": at}):
        answers.append(client.put(f"{V1}/schedules/s", json={**CALL, **rule, "timezone": "Asia/Tokyo"}))
        answers.append(client.post(f"{V1}/schedules/preview", json=rule))
    for answer in answers:
        assert answer.status_code == 422
        assert "1970 to 2200" in answer.get_json()["errors"][0]["detail"]
    assert contents(fake) == before


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("edge", ["1970-01-01T00:00:00Z", "1970-01-01T14:00:00+14:00", "2200-01-01T00:00:00Z"])
def test_the_first_and_the_last_moment_work_in_every_zone(client: FlaskClient, zone: str, edge: str) -> None:
    rules: list[dict[str, Any]] = [
        {"at": edge}, {"cron": "@daily", "start": edge}, {"cron": "0 0 29 2 *", "start": edge, "jitter": 86_400},
        {"interval": "3650d", "start": edge}, {"interval": 0.1, "start": edge}, {"interval": 60, "end": edge},
        {"cron": "59 59 23 31 12 *", "end": edge},
    ]  # fmt: skip
    for rule in rules:
        answer = client.put(f"{V1}/schedules/s", json={**CALL, **rule, "timezone": zone, "catch_up_window": "3650d"})
        assert answer.status_code in (200, 201)
        assert client.get(f"{V1}/schedules").get_json()["schedules"][0]["timezone"] == zone
        for due in answer.get_json()["next_runs"]:
            assert due["utc"] <= "2200-01-01T00:00:00Z"
        for verb in ("pause", "resume", "trigger"):
            assert client.post(f"{V1}/schedules/s/{verb}").status_code < 300


NUMBERS = [
    "1e308", "-1e308", "1e-9", "5e-324", "0", "-0.0", "-1", "315360000", "315360000.5", "315360001",
    "9223372036854775808", "18446744073709551615", "1e400", "18446744073709551616", "NaN", "Infinity", "1" * 5000,
    '"NaN"', '"1e3"', '"' + "9" * 4000 + 'd"', '"999999999999d"', '"3651d"', '"\\u0663d"', '"\\u0000"', '"\\ud800"',
]  # fmt: skip
PLAIN = [
    *("delay", "timeout", "ttl", "result_ttl", "failure_ttl", "concurrency", "rate_limit", "at", "queue", "id", "tags"),
    *("description", "depends_on", "at_front", "unique", "retry", "webhook"),
]
WITHIN = [
    '"unique": {{"for": {}}}', '"unique": {{"ttl": {}}}', '"unique": {{"by": {}}}',
    '"retry": {{"max": 1000, "backoff": {{"factor": {}}}}}', '"retry": {{"max": {}}}',
    '"retry": {{"max": 1000, "backoff": {{"factor": 100, "max": {}}}}}',
    '"retry": {{"max": 1000, "backoff": {{"factor": 100, "initial": {}}}}}',
    '"retry": {{"max": 3, "intervals": [{}]}}', '"concurrency": {{"most": {}}}',
    '"rate_limit": {{"most": "1/s", "key": {}}}',
]  # fmt: skip
OF_A_RULE = [
    *(
        "interval",
        "jitter",
        "catch_up_window",
        "pause_on_failure",
        "max_runs",
        "start",
        "end",
        "at",
        "cron",
        "timezone",
    ),
    *("overlap", "paused"),
]


def sent(client: FlaskClient, method: str, path: str, body: str) -> int:
    answer = client.open(f"{V1}/{path}", method=method, data=body, content_type="application/json")
    return answer.status_code


@pytest.mark.parametrize("number", NUMBERS, ids=lambda text: text[:20])
def test_extreme_values(client: FlaskClient, number: str) -> None:
    for option in (f'"{name}": {number}' for name in PLAIN):
        assert sent(client, "POST", "jobs", f'{{"function": "demo.add", "args": [1, 2], {option}}}') < 500, option
        assert sent(client, "PATCH", "jobs/a", f"{{{option}}}") < 500, option
    for form in WITHIN:
        option = form.format(number)
        assert sent(client, "POST", "jobs", f'{{"function": "demo.add", "args": [1, 2], {option}}}') < 500, option
    for name in OF_A_RULE:
        rest = '"function": "demo.add", "args": [1, 2]' + (
            "" if name in ("interval", "cron", "at") else ', "interval": 60'
        )
        assert sent(client, "PUT", "schedules/s", f'{{{rest}, "{name}": {number}}}') < 500, name
        assert client.get(f"{V1}/schedules").status_code == 200
    for path in ("functions/demo.add/jobs", "jobs/bulk", "workflows", "jobs/delete"):
        assert sent(client, "POST", path, number) < 500
    text = quote(number.strip('"'))
    for name in ("limit", "cursor", "since", "queue", "status"):
        for path in LISTS:
            assert client.get(f"{path}?{name}={text}").status_code < 500, (path, name)


@pytest.mark.parametrize("segment", ["%00", "%ff", "%ED%A0%80", "a" * 10_000, "%0A", "%1b", "%E2%80%AE", "a%2Fb", "%"])
def test_odd_paths(client: FlaskClient, segment: str) -> None:
    for path in ("jobs", "workflows", "queues", "workers", "schedules", "functions"):
        for method, rest in (("GET", ""), ("POST", "/cancel"), ("POST", "/pause"), ("POST", "/jobs"), ("DELETE", "")):
            assert client.open(f"{V1}/{path}/{segment}{rest}", method=method, json={}).status_code < 500


@pytest.mark.parametrize(
    "retry",
    [Retry(1000, factor=100), Retry(1000, initial=0, factor=100), Retry(1000, initial=1e-300, factor=100)],
)
def test_waits_that_grow_beyond_all_numbers(retry: Retry) -> None:
    waits = retry.waits()
    assert (len(waits), max(waits) <= 3600) == (1000, True)


@pytest.mark.parametrize("text", ["1/0s", "1/00m", "0/s", "1/\u0663s", "\u0663/s"])
def test_no_rate(client: FlaskClient, text: str) -> None:
    with pytest.raises(ValueError, match="is no rate"):
        parse_rate(text)
    assert client.post(f"{V1}/jobs", json={**CALL, "rate_limit": text}).status_code == 422


def test_a_time_for_which_a_job_is_unique_is_a_millisecond_at_least(client: FlaskClient) -> None:
    for ttl, status in ((1e-9, 422), (0.0009, 422), (0.001, 202)):
        assert client.post(f"{V1}/jobs", json={**CALL, "unique": {"for": ttl}}).status_code == status
