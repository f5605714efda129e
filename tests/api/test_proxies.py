"""The address of a client behind a proxy, as the audit log and REQUEST_LIMIT see it: nobody can forge it."""

import pytest
import redis
from flask import request
from flask.testing import FlaskClient
from pydantic import ValidationError

from app.api.application import create_app
from app.settings import Settings

PROXY, CLIENT, FORGED = "10.0.0.2", "203.0.113.7", "198.51.100.1"


def client(connection: redis.Redis, **settings: str) -> FlaskClient:
    return create_app(Settings(**settings), connection).test_client()


def recorded(ours: FlaskClient, peer: str, *forwarded_for: str) -> str:
    """The audit log's address of a request that comes from `peer`."""
    headers = [("X-Forwarded-For", value) for value in forwarded_for]
    answer = ours.post("/api/v1/queues/default/pause", headers=headers, environ_overrides={"REMOTE_ADDR": peer})
    assert answer.status_code == 200
    return str(ours.get("/api/v1/audit").get_json()["entries"][0]["address"])


@pytest.mark.parametrize("peer", [CLIENT, "127.0.0.1", PROXY])
def test_without_a_trusted_proxy_no_header_is_believed(fake: redis.Redis, peer: str) -> None:
    assert recorded(client(fake), peer, FORGED) == peer


@pytest.mark.parametrize(
    ("trusted", "peer", "forwarded_for", "address"),
    [
        (PROXY, PROXY, CLIENT, CLIENT),
        (PROXY, PROXY, "2001:db8::7", "2001:db8::7"),
        (PROXY, "::ffff:10.0.0.2", CLIENT, CLIENT),
        ("10.0.0.0/24, 192.0.2.1", PROXY, f"{CLIENT}, 192.0.2.1", CLIENT),
        ("fd00::/8", "fd00::2", CLIENT, CLIENT),
    ],
)
def test_a_trusted_proxy_names_its_client(
    fake: redis.Redis, trusted: str, peer: str, forwarded_for: str, address: str
) -> None:
    assert recorded(client(fake, trusted_proxies=trusted), peer, forwarded_for) == address


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "address"),
    [
        (CLIENT, [FORGED], CLIENT),  # past the proxy
        (CLIENT, [PROXY], CLIENT),
        (PROXY, [f"{FORGED}, {CLIENT}"], CLIENT),  # the proxy has appended to what its client sent
        (PROXY, [FORGED, CLIENT], CLIENT),
        (PROXY, [f"{FORGED}, {PROXY}, {CLIENT}"], CLIENT),
        (PROXY, [f"{FORGED}, unknown"], PROXY),
        (PROXY, [f"{FORGED}, "], PROXY),
        (PROXY, [], PROXY),
        ("", [FORGED], ""),
    ],
)
def test_a_client_cannot_forge_its_address(
    fake: redis.Redis, peer: str, forwarded_for: list[str], address: str
) -> None:
    assert recorded(client(fake, trusted_proxies=PROXY), peer, *forwarded_for) == address


def test_request_limit_counts_each_client_behind_the_proxy(fake: redis.Redis) -> None:
    ours = client(fake, trusted_proxies=PROXY, request_limit="2/d")

    def status(address: str, peer: str = PROXY) -> int:
        headers = {"X-Forwarded-For": address}
        return ours.get("/api/v1/queues", headers=headers, environ_overrides={"REMOTE_ADDR": peer}).status_code

    assert [status(CLIENT), status(CLIENT), status(CLIENT), status("203.0.113.8")] == [200, 200, 429, 200]
    assert [status(f"192.0.2.{number}", peer="192.0.2.99") for number in range(3)] == [200, 200, 429]


@pytest.mark.parametrize(
    ("peer", "proto", "scheme"), [(PROXY, "https", "https"), (PROXY, "gopher", "http"), (CLIENT, "https", "http")]
)
def test_the_scheme_is_the_trusted_proxys(fake: redis.Redis, peer: str, proto: str, scheme: str) -> None:
    with client(fake, trusted_proxies=PROXY) as ours:
        ours.get("/livez", headers={"X-Forwarded-Proto": proto}, environ_overrides={"REMOTE_ADDR": peer})
        assert request.scheme == scheme


@pytest.mark.parametrize("wrong", ["proxy", "10.0.0.1/24", "10.0.0.2 10.0.0.3"])
def test_what_is_no_address_is_refused_at_the_start(wrong: str) -> None:
    with pytest.raises(ValidationError, match="trusted_proxies"):
        Settings(trusted_proxies=wrong)
