"""One key holds a share of the places that last, event streams and waiting clients, and never all beside other keys."""

import threading
from collections.abc import Callable, Iterator

import pytest
import redis
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from app.access import api_keys
from app.api.application import create_app
from app.events import stream
from app.settings import Settings
from app.views import waiting
from tests.conftest import until

KEYS = {name: api_keys.new(name, ["read", "enqueue"]) for name in ("first", "second", "third")}
ADD = {"function": "demo.add", "args": [1, 2]}
Open = Callable[..., TestResponse]


def client_of(valkey: redis.Redis, *names: str) -> FlaskClient:
    keys = ",".join(str(KEYS[name][1]) for name in names)
    return create_app(Settings(api_keys=keys, event_streams=4), valkey, has_workers=False).test_client()


def bearer(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {KEYS[name][0]}"}


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """Opens event streams, and closes them in the end."""
    monkeypatch.setattr(stream, "READ_BLOCK_SECONDS", 0.02)
    answers: list[TestResponse] = []

    def open_one(client: FlaskClient, name: str = "", path: str = "/events") -> TestResponse:
        answer = client.get(f"/api/v1{path}", headers=bearer(name) if name else {})
        if answer.status_code == 200:
            next(iter(answer.response))
            answers.append(answer)
        return answer

    yield open_one
    for answer in answers:
        answer.close()
    until(lambda: not [one for one in threading.enumerate() if "_read" in one.name], 5)


def test_a_key_opens_half_of_the_event_streams_beside_others(valkey: redis.Redis, opened: Open) -> None:
    client = client_of(valkey, "first", "second", "third")
    job = client.post("/api/v1/jobs", json=ADD, headers=bearer("first")).get_json()["id"]
    paths = ("/events", f"/jobs/{job}/events")
    first = [opened(client, "first", path) for path in paths]
    assert [answer.status_code for answer in first] == [200, 200]
    for path in paths:
        refused = opened(client, "first", path)
        assert (refused.status_code, refused.content_type) == (429, "application/problem+json")
        assert refused.get_json()["detail"] == "The key 'first' has 2 event streams open already, its share of 4"
        assert int(refused.headers["Retry-After"]) > 0
    assert [opened(client, "second").status_code for _ in range(3)] == [200, 200, 429]
    assert opened(client, "third").status_code == 503  # all are taken
    first[0].close()
    assert opened(client, "third").status_code == 200


@pytest.mark.parametrize("names", [(), ("first",)])
def test_who_is_alone_may_open_them_all(valkey: redis.Redis, opened: Open, names: tuple[str, ...]) -> None:
    client = client_of(valkey, *names)
    statuses = [opened(client, *names).status_code for _ in range(5)]
    assert statuses == [200, 200, 200, 200, 503]


def test_a_key_has_half_of_the_clients_that_wait_and_more_are_answered_at_once(
    valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "MAX_WAITERS", 4)
    client = client_of(valkey, "first", "second")
    path = client.post("/api/v1/jobs", json=ADD, headers=bearer("first")).headers["Location"]

    def wait(name: str) -> None:
        client.application.test_client().get(path, headers={**bearer(name), "Prefer": "wait=30"})

    crowd = [threading.Thread(target=wait, args=("first",)) for _ in range(5)]
    for one in crowd:
        one.start()
    until(lambda: sum(one.is_alive() for one in crowd) == 2)
    assert waiting._waiting == {"first": 2}
    other = threading.Thread(target=wait, args=("second",))
    other.start()
    until(lambda: waiting._waiting == {"first": 2, "second": 1})
    client.post(f"{path}/cancel", headers=bearer("first"))
    for one in (*crowd, other):
        one.join(10)
    assert not waiting._waiting


def test_the_share_of_a_key() -> None:
    entries = [entry for _, entry in KEYS.values()]
    assert api_keys.share(500, []) == api_keys.share(500, entries[:1]) == 500
    assert api_keys.share(500, entries) == api_keys.share(501, entries[:2]) == 250
    assert api_keys.share(1, entries) == 1
    assert api_keys.share(500, [entries[0], entries[0]]) == 500  # a key that is being replaced
