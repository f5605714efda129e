"""The OpenAPI document."""

import fakeredis
from openapi_spec_validator import OpenAPIV31SpecValidator

from app.settings import Settings
from app.web import create_app


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


def test_the_docs_page_loads_nothing_from_elsewhere(fake: fakeredis.FakeRedis) -> None:
    client = create_app(Settings(), fake).test_client()
    page = client.get("/docs", follow_redirects=True)
    assert page.status_code == 200
    assert "https://" not in page.get_data(as_text=True)
    assert client.get("/docs/swagger/js/swagger-ui-bundle.js").status_code == 200
