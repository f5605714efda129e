"""What the OpenAPI document says is so, whatever schemathesis sends: with a key, without one, and with none needed.

Always the same requests: each operation on things that there are, and on things that there are not.
"""

from collections.abc import Iterator
from itertools import cycle

import fakeredis
import pytest
import redis
import rq
import schemathesis
from flask import Flask
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks

from app.access import api_keys
from app.api.application import create_app
from app.rq_adapter.rq_parts import Job, Queue
from app.serializer import JSON
from app.settings import Settings
from tests.extremes import Extremes

KEYS = {scope: api_keys.new(scope, [scope]) for scope in api_keys.SCOPES}
SECURED = Settings(api_keys=",".join(str(entry) for _, entry in KEYS.values()))
SOME = settings(max_examples=4, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.missing_required_header,
    checks.ignored_auth,
]
STRICT = [*CHECKS, checks.negative_data_rejection]
"""Arguments of functions are coerced: 1 is true, and a number a moment. Elsewhere what does not fit is refused."""


def document(on: Settings, every_corner: bool) -> schemathesis.BaseSchema:
    """`every_corner`: besides examples at random, each limit and each kind of misfit of each value."""
    config = schemathesis.Config.from_dict({"phases": {"coverage": {"enabled": every_corner}}})
    app = create_app(on, fakeredis.FakeRedis())
    key = {"Authorization": f"Bearer {KEYS['read'][0]}"}
    everything = schemathesis.openapi.from_wsgi("/openapi.json", app, config=config, headers=key)
    return everything.exclude(path_regex="/events$")  # streams, which end when the server does


def fill(app: Flask) -> dict[str, list[str]]:
    """A job in each state, a schedule, and a workflow; what there is, by the name of the parameter that asks for it."""
    client, headers = app.test_client(), {"Authorization": f"Bearer {KEYS['admin'][0]}"}
    bodies: list[dict[str, object]] = [
        {"id": "finished", "function": "demo.add", "args": [1, 2]},
        {"id": "failed", "function": "demo.fail", "args": ["no"]},
        {"id": "queued", "function": "demo.add", "args": [1, 2], "queue": "low", "tags": ["a"]},
        {"id": "deferred", "function": "demo.add", "args": [1, 2], "depends_on": ["queued"]},
        {"id": "scheduled", "function": "demo.add", "args": [1, 2], "delay": "1h"},
        {"id": "canceled", "function": "demo.add", "args": [1, 2], "delay": "1h"},
    ]
    for body in bodies:
        assert client.post("/api/v1/jobs", json=body, headers=headers).status_code == 202
    client.post("/api/v1/jobs/canceled/cancel", headers=headers)
    rule = {"function": "demo.add", "args": [1, 2], "cron": "@daily"}
    assert client.put("/api/v1/schedules/nightly", json=rule, headers=headers).status_code == 201
    connection = app.extensions["jobline"].redis
    rq.SimpleWorker(["default"], connection=connection, serializer=JSON, job_class=Job, queue_class=Queue).work(True)
    node = {"name": "one", "function": "demo.add", "args": [1, 2], "queue": "low"}
    workflow = client.post("/api/v1/workflows", json={"jobs": [node]}, headers=headers).get_json()["id"]
    return {
        "workflow_id": [workflow],
        "job_id": [str(body["id"]) for body in bodies],
        "name": ["nightly", "low", "demo.add"],
    }


class Service:
    """The application, with a new place for each example to be tried on."""

    def __init__(self, app: Flask) -> None:
        self.app, self.there_is = app, fill(app)
        self.places: dict[str, Iterator[str | None]] = {
            name: cycle([*values, None]) for name, values in self.there_is.items()
        }

    def one_of_each(self, path: str) -> dict[str, str]:
        """The parameters of a path, each naming something that there is."""
        name = "demo.add" if "/functions/" in path else "nightly"
        return {"job_id": "finished", "workflow_id": self.there_is["workflow_id"][0], "name": name}

    def aim(self, case: schemathesis.Case) -> None:
        """At something that there is, most times."""
        for name in case.path_parameters or {}:
            if name in self.places and (there_is := next(self.places[name])):
                case.path_parameters[name] = there_is


DOCUMENT = document(Settings(), every_corner=False)
EXTREMES = Extremes(DOCUMENT.raw_schema)
OPERATIONS = [
    (path, method) for path, operations in DOCUMENT.items() for method in operations if path != "/api/v1/events"
]
LISTS = ["jobs", "failures", "workflows", "schedules", "queues", "workers", "audit", "webhooks/disabled"]


@pytest.fixture
def open_service(valkey: redis.Redis) -> Service:
    return Service(create_app(Settings(), valkey))


@pytest.fixture
def secured(valkey: redis.Redis) -> Service:
    return Service(create_app(SECURED, valkey))


@document(Settings(), every_corner=True).parametrize()
@SOME
def test_open(case: schemathesis.Case, open_service: Service) -> None:
    open_service.aim(case)
    case.call_and_validate(app=open_service.app, checks=CHECKS if "/functions/" in case.path else STRICT)


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_extremes(path: str, method: str, open_service: Service) -> None:
    """Each value by itself at its limits and beyond; and whatever was stored, each list can be read."""
    operation = DOCUMENT[path][method]
    for said in EXTREMES.of(DOCUMENT.raw_schema["paths"][path][method]):
        case = operation.Case(path_parameters=open_service.one_of_each(path), **said)
        case.call_and_validate(app=open_service.app, checks=CHECKS[:3])
    headers = {"Authorization": f"Bearer {KEYS['admin'][0]}"}
    for name in LISTS:
        assert open_service.app.test_client().get(f"/api/v1/{name}", headers=headers).status_code == 200


@document(SECURED, every_corner=False).parametrize()
@SOME
def test_secured(case: schemathesis.Case, secured: Service) -> None:
    secured.aim(case)
    for key in (*(key for key, _ in KEYS.values()), "wrong"):
        case.call_and_validate(app=secured.app, headers={"Authorization": f"Bearer {key}"}, checks=CHECKS)
    case.call_and_validate(app=secured.app, checks=CHECKS)
