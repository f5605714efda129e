"""Which key may call which route: 401 and 403 come before anything else that a request could be told."""

import re
from base64 import b64encode

import fakeredis
import pytest
from flask import Flask
from werkzeug.test import TestResponse

from app.access import api_keys
from app.api.application import create_app
from app.api.console import page as console
from app.settings import Settings

PUBLIC = [
    *(f"GET {path}" for path in console.PATHS),
    "GET /console/<string:digest>/<path:name>",
    "GET /livez",
    "GET /readyz",
    "GET /docs/swagger/<path:filename>",
    "GET /docs/oauth2-redirect.html",
]
PAGES = {
    "GET /docs": "read",
    "GET /docs/swagger": "read",
    "GET /openapi.json": "read",
    "GET /metrics": "metrics",
    "GET /metrics/process": "metrics",
}
API = {
    "GET /audit": "admin",
    "GET /events": "read",
    "GET /failures": "read",
    "GET /functions": "read",
    "GET /functions/<string:name>": "read",
    "POST /functions/<string:name>/jobs": "enqueue",
    "GET /jobs": "read",
    "GET /key": "any",
    "POST /jobs": "enqueue",
    "POST /jobs/bulk": "enqueue",
    "POST /jobs/cancel": "enqueue+read",
    "POST /jobs/delete": "admin",
    "POST /jobs/requeue": "enqueue+read",
    "GET /jobs/<string:job_id>": "read",
    "PATCH /jobs/<string:job_id>": "enqueue",
    "DELETE /jobs/<string:job_id>": "admin",
    "POST /jobs/<string:job_id>/cancel": "enqueue",
    "GET /jobs/<string:job_id>/events": "read",
    "GET /jobs/<string:job_id>/logs": "read",
    "POST /jobs/<string:job_id>/requeue": "enqueue",
    "GET /queues": "read",
    "GET /queues/<string:name>": "read",
    "POST /queues/<string:name>/empty": "admin",
    "POST /queues/<string:name>/pause": "admin",
    "POST /queues/<string:name>/resume": "admin",
    "GET /schedules": "read",
    "GET /schedules/<string:name>": "read",
    "PUT /schedules/<string:name>": "admin",
    "DELETE /schedules/<string:name>": "admin",
    "POST /schedules/<string:name>/pause": "admin",
    "POST /schedules/<string:name>/resume": "admin",
    "POST /schedules/<string:name>/trigger": "enqueue",
    "POST /schedules/preview": "read",
    "GET /stats": "read",
    "GET /stats/functions": "read",
    "GET /webhooks/disabled": "read",
    "DELETE /webhooks/disabled": "admin",
    "GET /workers": "read",
    "GET /workers/<string:name>": "read",
    "GET /workflows": "read",
    "POST /workflows": "enqueue",
    "GET /workflows/<string:workflow_id>": "read",
    "POST /workflows/<string:workflow_id>/cancel": "enqueue",
    "GET /workflows/<string:workflow_id>/events": "read",
}
LIST = "<queue_name>/<registry_name>"
DASHBOARD = {
    "GET /": "read",
    "GET /<int:instance_number>/": "read",
    "GET /<int:instance_number>/data/job/<job_id>.json": "read",
    f"GET /<int:instance_number>/data/jobs/{LIST}/<per_page>/<order>/<page>.json": "read",
    "GET /<int:instance_number>/data/queues.json": "read",
    "GET /<int:instance_number>/data/workers.json": "read",
    "GET /<int:instance_number>/view": "read",
    "GET /<int:instance_number>/view/job/<job_id>": "read",
    "GET /<int:instance_number>/view/jobs": "read",
    f"GET /<int:instance_number>/view/jobs/{LIST}/<int:per_page>/<order>/<int:page>": "read",
    "GET /<int:instance_number>/view/queues": "read",
    "GET /<int:instance_number>/view/workers": "read",
    "GET /favicon.ico": "read",
    "GET /static/<path:filename>": "read",
    "POST /job/<job_id>/delete": "admin",
    "POST /job/<job_id>/requeue": "admin",
    f"POST /queue/{LIST}/empty": "admin",
    "POST /queue/<queue_name>/compact": "admin",
    "GET /requeue/<queue_name>": "read",  # 405: it changes state by POST alone
    "POST /requeue/<queue_name>": "admin",
}
SCOPE_OF = {
    **PAGES,
    **{route.replace(" ", " /api/v1", 1): scope for route, scope in API.items()},
    **{route.replace(" ", " /dashboard", 1): scope for route, scope in DASHBOARD.items()},
}
"""Of each route all the scopes that it needs."""
KEYS = {scope: api_keys.new(scope, scope.split("+")) for scope in (*api_keys.SCOPES, "enqueue+read")}


@pytest.fixture(scope="module")
def app() -> Flask:
    """With a key of each scope, on a Redis that is away: what does not ask Redis is answered all the same."""
    settings = Settings(api_keys=",".join(str(entry) for _, entry in KEYS.values()))
    server = fakeredis.FakeServer()
    server.connected = False
    app = create_app(settings, fakeredis.FakeRedis(server=server))
    app.config["PROPAGATE_EXCEPTIONS"] = False
    return app


def path_of(rule: str) -> str:
    """A path of the route, on names that do not exist."""
    path = re.sub(r"<int:\w+>", "1", rule)
    return re.sub(r"<(?:\w+:)?\w+>", "unknown", path)


def call(app: Flask, route: str, key: str | None, method: str = "") -> TestResponse:
    """Call a route on names that do not exist, with a body that is not JSON and parameters that nothing accepts."""
    of_route, _, rule = route.partition(" ")
    path = path_of(rule)
    headers = {"Origin": "http://localhost", **({"Authorization": key} if key is not None else {})}
    method = method or of_route
    body = {"data": b"{", "content_type": "application/json"} if method in ("POST", "PUT", "PATCH") else {}
    response = app.test_client().open(f"{path}?limit=none&colour=red", method=method, headers=headers, **body)
    response.close()
    return response


def bearer(scope: str) -> str:
    return f"Bearer {KEYS[scope][0]}"


def test_every_route_is_in_the_table(app: Flask) -> None:
    routes = {f"{method} {rule.rule}" for rule in app.url_map.iter_rules() for method in rule.methods or ()}
    assert {route for route in routes if not route.startswith(("HEAD", "OPTIONS"))} == {*PUBLIC, *SCOPE_OF}


@pytest.mark.parametrize("route", PUBLIC)
def test_a_public_route_needs_no_key(app: Flask, route: str) -> None:
    for key in (None, "Bearer wrong", bearer("read")):
        assert call(app, route, key).status_code not in (401, 403)


@pytest.mark.parametrize("route", SCOPE_OF)
def test_a_route_is_for_keys_with_its_scope(app: Flask, route: str) -> None:
    basic = b64encode(b":wrong").decode()
    digest = KEYS["admin"][1].digest
    for key in (None, "", "Bearer", "Bearer ", "Bearer wrong", f"Bearer {digest}", f"Basic {basic}", "Digest x"):
        refused = call(app, route, key)
        assert (refused.status_code, refused.content_type) == (401, "application/problem+json"), key
        assert refused.headers["WWW-Authenticate"].startswith("Basic")
    needed = set(SCOPE_OF[route].split("+"))
    for scopes in KEYS:
        held = {*scopes.split("+"), "any"}
        may = scopes == "admin" or needed <= (held | {"metrics"} if "read" in held else held)
        status = call(app, route, bearer(scopes)).status_code
        assert (status in (401, 403), status == 403) == (not may, not may), (scopes, status)


@pytest.mark.parametrize("route", [route for route in SCOPE_OF if route.startswith("GET") and SCOPE_OF[route] != "any"])
def test_head_needs_the_scope_of_get(app: Flask, route: str) -> None:
    assert call(app, route, None, "HEAD").status_code == 401
    wrong = "read" if SCOPE_OF[route] == "admin" else "enqueue"
    assert call(app, route, bearer(wrong), "HEAD").status_code == 403


def test_the_password_of_basic_is_a_key(app: Flask) -> None:
    for scope, status in (("read", 503), ("enqueue", 403)):  # 503: Redis is away
        basic = b64encode(f"anyone:{KEYS[scope][0]}".encode()).decode()
        assert call(app, "GET /api/v1/queues", f"Basic {basic}").status_code == status


def test_options_tells_the_methods_to_everyone(app: Flask) -> None:
    answer = call(app, "POST /api/v1/jobs", None, "OPTIONS")
    assert (answer.status_code, {"GET", "POST"} <= set(answer.allow)) == (200, True)


def test_a_key_s_hash_may_be_written_in_upper_case() -> None:
    key, entry = api_keys.new("ci", ["read"])
    keys = api_keys.parse(f"ci:read:{entry.digest.upper()}")
    assert api_keys.find(keys, key) == entry
    assert api_keys.find(keys, key.upper()) is None


def test_of_several_keys_each_is_known(app: Flask) -> None:
    entries = [entry for _, entry in KEYS.values()]
    for separator in (",", " ", ", ", "\n"):
        keys = api_keys.parse(separator.join(map(str, entries)))
        assert [api_keys.find(keys, key) for key, _ in KEYS.values()] == entries


@pytest.mark.parametrize(
    "entry",
    ["ci:read", "ci:read:abc", f":read:{64 * 'a'}", f"ci:write:{64 * 'a'}", f"ci::{64 * 'a'}", f"ci:read:{65 * 'a'}"],
)
def test_an_entry_that_is_none_is_named_by_its_place(entry: str) -> None:
    good = f"ci:read+admin:{64 * 'a'}"
    with pytest.raises(ValueError, match=r"^entry 2 is not name:scope") as refused:
        api_keys.parse(f"{good},{entry}")
    assert "aaa" not in str(refused.value)


def test_a_key_is_told_what_it_may_do(app: Flask) -> None:
    expected = {
        "read": ["read", "metrics"],
        "metrics": ["metrics"],
        "enqueue": ["enqueue"],
        "admin": list(api_keys.SCOPES),
    }
    for scope, scopes in expected.items():
        answer = app.test_client().get("/api/v1/key", headers={"Authorization": bearer(scope)})
        assert answer.get_json() == {"name": scope, "scopes": scopes}


def test_without_keys_everybody_may_do_all() -> None:
    client = create_app(Settings(), fakeredis.FakeRedis()).test_client()
    assert client.get("/api/v1/key").get_json() == {"name": None, "scopes": list(api_keys.SCOPES)}
