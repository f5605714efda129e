"""A listener that comes back: it hears all that it has missed, once, or is told that this is no longer known."""

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from flask.testing import FlaskClient

from app.api.application import create_app
from app.events import stream
from app.redis.keys import EVENTS
from app.settings import Settings
from tests.conftest import until

RESET = {"reason": "the events since the Last-Event-ID are no longer stored"}


@pytest.fixture
def client(valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> Iterator[FlaskClient]:
    monkeypatch.setattr(stream, "READ_BLOCK_SECONDS", 0.02)
    yield create_app(Settings(event_streams=2), valkey).test_client()
    until(lambda: not [one for one in threading.enumerate() if "_read" in one.name], 5)


def messages(client: FlaskClient, path: str, last: str | None, count: int) -> list[tuple[str, str, Any]]:
    """Kind, place and data of the first so many."""
    headers = {"Last-Event-ID": last} if last else {}
    answer = client.get(f"/api/v1{path}", headers=headers)
    assert (answer.status_code, answer.content_type) == (200, "text/event-stream")
    found: list[tuple[str, str, Any]] = []
    texts, end = iter(answer.response), time.monotonic() + 20
    while len(found) < count:
        text = next(texts)
        assert time.monotonic() < end, found
        lines = dict(line.split(": ", 1) for line in str(text, "utf-8").splitlines() if line.partition(": ")[1])
        if "event" in lines:
            found.append((lines["event"], lines["id"], json.loads(lines["data"])))
    answer.close()
    return found


def happen(valkey: redis.Redis, *job_ids: str) -> list[str]:
    """The place of each event."""
    said = {"queue": "default", "status": "queued"}
    return [valkey.xadd(EVENTS, {"ids": job_id, **said}).decode() for job_id in job_ids]


def test_what_was_missed_is_told_in_its_order_once(client: FlaskClient, valkey: redis.Redis) -> None:
    places = happen(valkey, "a", "b c", "d")
    found = messages(client, "/events", places[0], 3)
    assert [(kind, place, data["id"]) for kind, place, data in found] == [
        ("job", places[1], "b"), ("job", places[1], "c"), ("job", places[2], "d"),
    ]  # fmt: skip


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_a_stream_that_was_trimmed_beyond_the_place_is_told_as_a_gap(
    client: FlaskClient, valkey: redis.Redis, kept: int
) -> None:
    places = happen(valkey, "a", "b", "c", "d")
    valkey.xtrim(EVENTS, maxlen=kept, approximate=False)
    [(kind, place, data)] = messages(client, "/events", places[0], 1)
    assert (kind, data) == ("reset", RESET)
    assert stream.parse_event_id(place) >= stream.parse_event_id(places[-1]) or not kept
    assert valkey.ttl(EVENTS) > 0


def test_a_stream_that_has_run_out_is_told_as_a_gap(client: FlaskClient, valkey: redis.Redis) -> None:
    places = happen(valkey, "a", "b")
    valkey.delete(EVENTS)
    assert messages(client, "/events", places[0], 1)[0][0] == "reset"


def test_a_stream_that_begins_with_the_place_has_no_gap(client: FlaskClient, valkey: redis.Redis) -> None:
    places = happen(valkey, "a", "b", "c")
    valkey.xtrim(EVENTS, maxlen=2, approximate=False)
    assert messages(client, "/events", places[1], 1)[0][:2] == ("job", places[2])


def test_after_a_gap_a_job_is_told_as_it_is(client: FlaskClient, valkey: redis.Redis) -> None:
    [place] = happen(valkey, "another")
    job = client.post("/api/v1/jobs", json={"function": "demo.add", "args": [1, 2]}).get_json()
    valkey.xtrim(EVENTS, maxlen=1, approximate=False)
    first, second = messages(client, f"/jobs/{job['id']}/events", place, 2)
    assert first[0] == "reset"
    assert (second[0], second[2]["id"], second[2]["status"]) == ("status", job["id"], "queued")


def test_places_are_ordered_as_numbers_and_not_as_texts(client: FlaskClient, valkey: redis.Redis) -> None:
    said = {"queue": "default", "status": "queued"}
    for number in (9, 10, 11):
        valkey.xadd(EVENTS, {"ids": f"job-{number}", **said}, id=f"5-{number}")
    found = messages(client, "/events", "5-9", 2)
    assert [data["id"] for _, _, data in found] == ["job-10", "job-11"]
    assert messages(client, "/events", "5-8", 1)[0][0] == "reset"


@pytest.mark.parametrize("place", ["x", "5-x", "-1-"])
def test_a_place_that_is_none_is_refused(client: FlaskClient, valkey: redis.Redis, place: str) -> None:
    assert client.get("/api/v1/events", headers={"Last-Event-ID": place}).status_code == 400


def test_who_listens_goes_on_when_the_stream_was_deleted(client: FlaskClient, valkey: redis.Redis) -> None:
    answer = client.get("/api/v1/events")
    texts = iter(answer.response)
    next(texts)
    valkey.delete(EVENTS)
    until(lambda: valkey.exists(EVENTS))
    assert valkey.ttl(EVENTS) > 0
    job = client.post("/api/v1/jobs", json={"function": "demo.add", "args": [1, 2]}).get_json()["id"]
    assert job in str(next(texts), "utf-8")
    answer.close()


def test_an_answer_that_nothing_is_to_come_takes_no_place(client: FlaskClient, valkey: redis.Redis) -> None:
    job = client.post("/api/v1/jobs", json={"function": "demo.add", "args": [1, 2]}).get_json()["id"]
    client.post(f"/api/v1/jobs/{job}/cancel")
    [place] = happen(valkey, "another")
    for _ in range(3):  # there are places for two
        answer = client.get(f"/api/v1/jobs/{job}/events", headers={"Last-Event-ID": place})
        assert (answer.status_code, answer.data) == (204, b"")


def test_a_stream_that_is_closed_makes_room_for_another(client: FlaskClient) -> None:
    first, second = (client.get("/api/v1/events") for _ in range(2))
    for one in (first, second):
        next(iter(one.response))
    assert client.get("/api/v1/events").status_code == 503
    first.close()
    third = client.get("/api/v1/events")
    assert third.status_code == 200
    next(iter(third.response))
    for one in (second, third):
        one.close()
