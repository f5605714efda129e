"""The OpenAPI document."""

import fakeredis
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from app.access import api_keys
from app.api.application import create_app
from app.settings import Settings


def test_the_document_is_valid_and_types_every_function(fake: fakeredis.FakeRedis) -> None:
    client = create_app(Settings(), fake).test_client()
    spec = client.get("/openapi.json").get_json()
    assert spec["openapi"].startswith("3.1")
    assert list(OpenAPIV31SpecValidator(spec).iter_errors()) == []
    body = spec["paths"]["/api/v1/functions/demo.add/jobs"]["post"]["requestBody"]["content"]["application/json"][
        "schema"
    ]
    assert body["required"] == ["a", "b"]
    assert body["properties"]["a"]["type"] == "integer"
    assert body["additionalProperties"] is False
    requeue = spec["paths"]["/api/v1/jobs/{job_id}/requeue"]["post"]
    assert requeue["requestBody"]["required"] is False


def test_the_document_names_its_license_and_its_server(fake: fakeredis.FakeRedis) -> None:
    spec = create_app(Settings(), fake).test_client().get("/openapi.json").get_json()
    assert spec["info"]["license"] == {"name": "MIT", "identifier": "MIT"}
    assert [server["url"] for server in spec["servers"]] == ["/"]


def test_two_applications_of_one_process_have_the_same_document(fake: fakeredis.FakeRedis) -> None:
    clients = [create_app(Settings(), fake).test_client() for _ in range(2)]
    documents = [client.get("/openapi.json").get_json() for client in clients]
    later = create_app(Settings(), fake).test_client().get("/openapi.json").get_json()
    assert documents[0] == documents[1] == later
    assert len(later["paths"]) > 30


def test_every_operation_has_a_name_of_its_own_for_generated_clients(fake: fakeredis.FakeRedis) -> None:
    spec = create_app(Settings(), fake).test_client().get("/openapi.json").get_json()
    names = [operation["operationId"] for path in spec["paths"].values() for operation in path.values()]
    assert len(names) == len(set(names))
    assert [name for name in names if name.endswith(("_get", "_post", "_put", "_patch"))] == []


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("post", "/api/v1/jobs"),
        ("get", "/api/v1/jobs/{job_id}"),
        ("post", "/api/v1/functions/{name}/jobs"),
        ("post", "/api/v1/functions/demo.add/jobs"),
    ],
)
def test_headers_that_a_route_heeds_are_named(fake: fakeredis.FakeRedis, method: str, path: str) -> None:
    operation = create_app(Settings(), fake).test_client().get("/openapi.json").get_json()["paths"][path][method]
    headers = [parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "header"]
    assert headers == (["Prefer", "Idempotency-Key"] if method == "post" else ["Prefer"])
    assert "200" in operation["responses"]


def test_a_key_is_asked_for_where_one_is_needed(fake: fakeredis.FakeRedis) -> None:
    key, entry = api_keys.new("one", ["read"])
    for settings, needed in ((Settings(), False), (Settings(api_keys=str(entry)), True)):
        spec = create_app(settings, fake).test_client().get("/openapi.json", auth=("", key)).get_json()
        assert ({} not in spec["security"]) is needed
        assert spec["paths"]["/livez"]["get"]["security"] == []


def test_the_docs_page_loads_nothing_from_elsewhere(fake: fakeredis.FakeRedis) -> None:
    client = create_app(Settings(), fake).test_client()
    page = client.get("/docs", follow_redirects=True)
    assert page.status_code == 200
    assert "https://" not in page.get_data(as_text=True)
    assert client.get("/docs/swagger/js/swagger-ui-bundle.js").status_code == 200


@pytest.mark.parametrize(
    ("schema", "old_name", "name"),
    [("UniqueBody", "while", "during"), ("UniqueBody", "for", "ttl"), ("Backoff", "max", "max_delay")],
)
def test_old_names_are_marked(fake: fakeredis.FakeRedis, schema: str, old_name: str, name: str) -> None:
    spec = create_app(Settings(), fake).test_client().get("/openapi.json").get_json()
    fields = spec["components"]["schemas"][schema]["properties"]
    assert (fields[old_name]["deprecated"], fields[old_name]["description"]) == (True, f"Use `{name}`")
    assert "deprecated" not in fields[name]
