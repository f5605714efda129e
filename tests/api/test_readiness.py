"""/readyz tells the truth: Redis takes writes, a scheduler moves, and which queues no worker serves."""

import contextlib
import socket
import time

import pytest
import redis
from flask.testing import FlaskClient

from app.api.application import create_app
from app.redis.keys import SCHEDULERS
from app.settings import Settings
from app.views import health
from tests.conftest import Server

SCHEDULER = "rq:scheduler:one"


def client_of(connection: redis.Redis) -> FlaskClient:
    return create_app(Settings(), connection).test_client()


@pytest.fixture
def client(fake: redis.Redis) -> FlaskClient:
    return client_of(fake)


@pytest.fixture
def _long_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "START_GRACE_SECONDS", 0.0)


def beats(connection: redis.Redis, ago: float = 0, leads: int = 1) -> None:
    connection.sadd(SCHEDULERS, SCHEDULER)
    connection.hset(SCHEDULER, mapping={"last_heartbeat": time.time() - ago, "leads": leads})


def works(connection: redis.Redis, *queues: str) -> None:
    connection.sadd("rq:workers", "rq:worker:w")
    connection.hset("rq:worker:w", mapping={"queues": ",".join(queues), "last_heartbeat": "x"})


@pytest.mark.usefixtures("_long_started")
def test_a_service_that_works_is_ready(
    client: FlaskClient,
    fake: redis.Redis,
) -> None:
    beats(fake)
    works(fake, "high", "default", "low", "webhooks")
    ready = client.get("/readyz")
    assert (ready.status_code, ready.get_json()["status"], ready.get_json()["warnings"]) == (200, "ok", [])
    assert 0 <= ready.get_json()["scheduler"] < 5


@pytest.mark.usefixtures("_long_started")
def test_not_ready_without_a_scheduler(client: FlaskClient) -> None:
    ready = client.get("/readyz")
    assert (ready.status_code, ready.headers["Retry-After"]) == (503, "2")
    assert "No scheduler leads" in ready.get_json()["detail"]


@pytest.mark.usefixtures("_long_started")
def test_a_scheduler_that_stands_by_does_not_count(
    client: FlaskClient,
    fake: redis.Redis,
) -> None:
    beats(fake, leads=0)
    assert client.get("/readyz").status_code == 503


@pytest.mark.usefixtures("_long_started")
def test_a_scheduler_that_has_left_does_not_count(client: FlaskClient, fake: redis.Redis) -> None:
    beats(fake)
    fake.hset(SCHEDULER, "death", "2027-01-01T00:00:00Z")
    assert client.get("/readyz").status_code == 503


@pytest.mark.parametrize(("ago", "status"), [(14, 200), (16, 503), (-3600, 503)])
@pytest.mark.usefixtures("_long_started")
def test_not_ready_when_the_scheduler_has_not_moved(
    client: FlaskClient, fake: redis.Redis, ago: float, status: int
) -> None:
    beats(fake, ago)
    assert client.get("/readyz").status_code == status


def test_a_scheduler_may_be_starting_when_the_api_does(client: FlaskClient) -> None:
    ready = client.get("/readyz")
    assert (ready.status_code, ready.get_json()["scheduler"]) == (200, None)


def test_a_queue_that_no_worker_serves_is_a_warning(client: FlaskClient, fake: redis.Redis) -> None:
    works(fake, "default", "high", "other")
    ready = client.get("/readyz")
    assert ready.status_code == 200
    assert ready.get_json()["warnings"] == [f'no worker takes jobs from queue "{name}"' for name in ("low", "webhooks")]


def test_not_ready_while_redis_takes_no_writes(server: Server) -> None:
    server.start()
    client = client_of(server.connection)
    assert client.get("/readyz").status_code == 200
    server.connection.config_set("maxmemory", "1")
    ready = client.get("/readyz")
    assert (ready.status_code, ready.headers["Retry-After"]) == (503, "2")
    assert client.get("/livez").status_code == 200
    server.connection.config_set("maxmemory", "0")
    assert client.get("/readyz").status_code == 200


def test_what_the_probe_writes_expires(client: FlaskClient, fake: redis.Redis) -> None:
    client.get("/readyz")
    assert [key for key in fake.keys() if fake.ttl(key) < 0] == []


@pytest.mark.parametrize(
    ("ours", "leader", "why"),
    [
        (0.0, 0.0, None),
        (40.0, 0.0, "the scheduler has not moved"),
        (0.0, 40.0, "no scheduler leads"),
        (0.0, None, "no scheduler leads"),
        (None, 0.0, "no scheduler of this host"),
    ],
)
def test_the_probe_of_a_scheduler(fake: redis.Redis, ours: float | None, leader: float | None, why: str | None) -> None:
    """`ours` stands by on this host, `leader` leads on another; seconds since each has moved, None: there is none."""
    for host, leads, ago in ((socket.gethostname(), 0, ours), ("another", 1, leader)):
        if ago is not None:
            said = {"hostname": host, "leads": leads, "last_heartbeat": time.time() - ago}
            fake.hset(f"rq:scheduler:{host}", mapping=said)
            fake.sadd(SCHEDULERS, f"rq:scheduler:{host}")
    with pytest.raises(health.Unhealthy, match=why) if why else contextlib.nullcontext():
        health.check_scheduler(fake)
