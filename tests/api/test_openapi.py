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


def test_every_operation_has_a_summary_and_every_schema_is_used(fake: fakeredis.FakeRedis) -> None:
    document = create_app(Settings(), fake).test_client().get("/openapi.json")
    spec, text = document.get_json(), document.get_data(as_text=True)
    operations = [operation for path in spec["paths"].values() for operation in path.values()]
    assert [operation["operationId"] for operation in operations if not operation.get("summary")] == []
    assert [name for name in spec["components"]["schemas"] if f'"#/components/schemas/{name}"' not in text] == []


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


def test_every_operation_has_a_short_summary(fake: fakeredis.FakeRedis) -> None:
    spec = create_app(Settings(), fake).test_client().get("/openapi.json").get_json()
    own = {path: operations for path, operations in spec["paths"].items() if not path.startswith("/api/v1/functions/")}
    summaries = [operation["summary"] for operations in own.values() for operation in operations.values()]
    assert [text for text in summaries if not text or len(text) > 70 or text.endswith((".", ";", ":"))] == []
    assert spec["paths"]["/api/v1/jobs/cancel"]["post"]["summary"] == "Cancel jobs that match a filter"
    described = spec["paths"]["/api/v1/jobs/{job_id}"]["get"]
    assert (described["summary"], described["description"].partition(" ")[0]) == ("Get a job", "`Prefer:")


def test_an_answer_that_a_key_without_read_gets_shortened_is_described(fake: fakeredis.FakeRedis) -> None:
    spec = create_app(Settings(), fake).test_client().get("/openapi.json").get_json()
    answer = spec["paths"]["/api/v1/jobs/{job_id}/requeue"]["post"]["responses"]["202"]["content"]["application/json"]
    name = answer["schema"]["$ref"].rpartition("/")[2]
    options = [option["$ref"].rpartition("/")[2] for option in spec["components"]["schemas"][name]["anyOf"]]
    assert options == ["JobDetail", "JobReference"]


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
