"""What is outside /api/v1 tells callers without the scope `read` no name, no schema and no error of anybody's code."""

from collections.abc import Callable

import pytest
import redis
from flask.testing import FlaskClient

from app.access import api_keys
from app.api.application import create_app
from app.settings import Settings

KEYS = {scope: api_keys.new(scope, [scope]) for scope in api_keys.SCOPES}
DETAILS = ("broken", "rejected_functions", "rejected_schedules")


@pytest.fixture
def secured(fake: redis.Redis, write_module: Callable[[str, str], None]) -> FlaskClient:
    write_module("confidential", "import nowhere_to_be_found")
    return create_app(Settings(api_keys=",".join(str(entry) for _, entry in KEYS.values())), fake).test_client()


def bearer(scope: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {KEYS[scope][0]}"}


@pytest.mark.parametrize(
    "headers", [{}, {"Authorization": "Bearer wrong"}, bearer("enqueue")], ids=["", "wrong", "enqueue"]
)
def test_a_probe_without_the_scope_read_sees_parts_and_states(secured: FlaskClient, headers: dict[str, str]) -> None:
    ready = secured.get("/readyz", headers=headers)
    assert (ready.status_code, ready.get_json()["status"], ready.get_json()["redis"]) == (200, "degraded", "ok")
    assert not any(isinstance(state, dict | list) for state in ready.get_json().values())
    assert "nowhere_to_be_found" not in ready.text
    assert "confidential" not in ready.text


@pytest.mark.parametrize("scope", ["read", "admin"])
def test_who_may_read_sees_what_is_wrong(secured: FlaskClient, scope: str) -> None:
    ready = secured.get("/readyz", headers=bearer(scope)).get_json()
    assert "nowhere_to_be_found" in ready["broken"]["confidential"]
    assert set(DETAILS) <= set(ready)


def test_without_keys_everyone_sees_it(fake: redis.Redis, write_module: Callable[[str, str], None]) -> None:
    write_module("confidential", "import nowhere_to_be_found")
    client = create_app(Settings(), fake).test_client()
    assert "confidential" in client.get("/readyz").get_json()["broken"]
    assert client.get("/openapi.json").status_code == 200
    assert client.get("/docs", follow_redirects=True).status_code == 200


@pytest.mark.parametrize("path", ["/openapi.json", "/docs", "/docs/swagger"])
def test_the_document_and_its_page_ask_for_a_key(secured: FlaskClient, path: str) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}):
        answer = secured.get(path, headers=headers)
        assert (answer.status_code, "demo.add" in answer.text) == (401, False)
        assert answer.headers["WWW-Authenticate"].startswith("Basic")
    assert secured.get(path, headers=bearer("enqueue")).status_code == 403
    assert secured.get(path, auth=("", KEYS["read"][0]), follow_redirects=True).status_code == 200


@pytest.mark.parametrize("path", ["/", "/livez", "/docs/oauth2-redirect.html", "/nowhere"])
def test_other_pages_name_nothing(secured: FlaskClient, path: str) -> None:
    text = secured.get(path).text
    assert "confidential" not in text
    assert "email.send_message" not in text
