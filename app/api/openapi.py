"""The OpenAPI 3.1 document: all routes as flask-openapi3 collects them, and a typed operation for each function."""

import copy
import inspect
import re
import threading
from collections.abc import Callable
from typing import Any

from flask_openapi3 import APIBlueprint, OpenAPI, Tag
from flask_openapi3.types import ParametersTuple
from flask_openapi3.utils import parse_parameters

from app.api.schemas.system import Problem
from app.catalog.catalog import Catalog, Function

TAGS = {
    "workflows": Tag(name="workflows", description="Graphs of jobs"),
    "events": Tag(name="events", description="Event streams of jobs and workflows"),
    "jobs": Tag(name="jobs", description="Calls of functions"),
    "functions": Tag(name="functions", description="Functions that can be called"),
    "schedules": Tag(name="schedules", description="Rules that enqueue jobs at set times"),
    "queues": Tag(name="queues", description="Queues, and the workers that serve them"),
    "stats": Tag(name="stats", description="Counts, run times and wait times"),
    "webhooks": Tag(name="webhooks", description="Webhook URLs that are disabled"),
    "system": Tag(name="system", description="Health and the audit log"),
}
SECURITY = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "basic": {"type": "http", "scheme": "basic", "description": "The API key is the password; any user name"},
}
EVENT_STREAM = {
    "description": "Server-sent events",
    "content": {"text/event-stream": {"schema": {"type": "string"}}},
}
STATUSES = {
    400: "The request is malformed",
    401: "The API key is missing or wrong",
    403: "The API key lacks the scope, or the request comes from a page of another origin",
    404: "Not found",
    409: "The current state does not allow this",
    413: "The body is too large",
    415: "The body is not JSON",
    422: "The request is invalid: `errors` points to each wrong value",
    429: "Too many requests or event streams: try again after Retry-After seconds",
    503: "Redis is unavailable, or there are too many event streams: try again after Retry-After seconds",
}
PROBLEMS: dict[int | str, Any] = {
    status: {
        "description": description,
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    for status, description in STATUSES.items()
}
HEADER_PARAMETERS = "x-headers"
"""Extension under which a route names its headers: flask-openapi3 replaces `parameters` by those in the path."""
_PREFER = {
    "name": "Prefer",
    "in": "header",
    "description": "`wait=N`: wait up to N seconds, at most 60, for the end of the job (RFC 7240)",
    "schema": {"type": "string"},
}
_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "Repeats of a request return its first response (draft-ietf-httpapi-idempotency-key-header)",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
}
PREFER = {HEADER_PARAMETERS: [_PREFER]}
IDEMPOTENCY_KEY = {HEADER_PARAMETERS: [_IDEMPOTENCY_KEY]}
PREFER_AND_IDEMPOTENCY_KEY = {HEADER_PARAMETERS: [_PREFER, _IDEMPOTENCY_KEY]}
REF = "#/components/schemas/"


class Blueprint(APIBlueprint):
    """A blueprint whose schemas are made when the document is first requested: they take a third of a start."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._undescribed: list[tuple[str, Callable[..., Any], dict[str, Any]]] = []
        self._lock = threading.Lock()

    def _collect_openapi_info(self, rule: str, func: Callable[..., Any], **options: Any) -> ParametersTuple:
        """Called by flask-openapi3 4.3 for each route. Serving needs only the types of its parameters."""
        self._undescribed.append((rule, func, options))
        return parse_parameters(func, doc_ui=False)

    def describe(self, app: OpenAPI) -> None:
        """Add the routes to the document of `app`, as `register_api` does."""
        with self._lock:
            for rule, func, options in self._undescribed:
                summary, _, description = (inspect.getdoc(func) or "").partition("\n")
                texts = {"summary": summary, "description": description.strip()} if description else {}
                super()._collect_openapi_info(rule, func, **{**options, **texts})
            self._undescribed.clear()
        app.paths.update(self.paths)
        app.components_schemas.update(self.components_schemas)
        app.tags.extend(tag for tag in self.tags if tag not in app.tags)


def blueprint(name: str, tag: str, url_prefix: str) -> Blueprint:
    """The blueprint of one resource."""
    return Blueprint(
        name,
        __name__,
        url_prefix=url_prefix or None,
        abp_tags=[TAGS[tag]],
        abp_responses=PROBLEMS if url_prefix else None,
        operation_id_callback=_operation_id,
    )


def _operation_id(*, bp_name: str, name: str, **_: str) -> str:
    """Such as `jobs_list_jobs`: generated clients name their functions by it."""
    return f"{bp_name}_{name}"


def document(app: OpenAPI, catalog: Catalog, requires_key: bool) -> dict[str, Any]:
    """The document with the current functions of the catalogue."""
    if not app.spec_json:
        for blueprint_routes in app.blueprints.values():
            if isinstance(blueprint_routes, Blueprint):
                blueprint_routes.describe(app)
    spec: dict[str, Any] = copy.deepcopy(app.api_doc)
    components = spec.setdefault("components", {}).setdefault("schemas", {})
    components.pop("ValidationErrorModel", None)  # flask-openapi3's own, which no answer of ours has
    components["Problem"] = _hoist_definitions(Problem.model_json_schema(ref_template=REF + "{model}"), components)
    spec["security"] = [{"bearer": []}, {"basic": []}] if requires_key else [{}, {"bearer": []}, {"basic": []}]
    for path, operations in spec["paths"].items():
        for operation in operations.values():
            operation["summary"] = operation.get("summary", "").rstrip(".")
            if isinstance(operation, dict) and "422" in operation.get("responses", {}):
                operation["responses"]["422"] = PROBLEMS[422]
            if headers := operation.pop(HEADER_PARAMETERS, []):
                operation["parameters"] = [*operation.get("parameters", []), *headers]
            if not path.startswith("/api/"):
                operation["security"] = []
    spec["paths"]["/api/v1/jobs/{job_id}/requeue"]["post"]["requestBody"]["required"] = False
    template = spec["paths"]["/api/v1/functions/{name}/jobs"]["post"]
    template["requestBody"] = {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}}
    for name, function in sorted(catalog.offered.items()):
        spec["paths"][f"/api/v1/functions/{name}/jobs"] = {"post": _operation(function, template, components)}
    return spec


def _operation(function: Function, template: dict[str, Any], components: dict[str, Any]) -> dict[str, Any]:
    ascii_name = re.sub(r"[^A-Za-z0-9._-]", lambda match: f"{ord(match[0]):x}", function.name)
    schema = _hoist_definitions(function.schema, components, f"{ascii_name}.")
    summary, _, description = function.description.partition("\n")
    operation = {
        **template,
        "operationId": f"call_{ascii_name.replace('.', '_')}",
        "summary": summary or function.name,
        "description": description.strip(),
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
    }
    operation["parameters"] = [p for p in template.get("parameters", []) if p["in"] != "path"]
    return operation


def _hoist_definitions(schema: dict[str, Any], components: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """A JSON Schema whose $defs are moved to `components`, with `prefix` before their names."""
    schema_copy = _rewrite_references(schema, prefix)
    for name, definition in schema_copy.pop("$defs", {}).items():
        components[prefix + name] = definition
    return schema_copy


def _rewrite_references(value: Any, prefix: str) -> Any:
    """A copy in which all references to $defs (also in discriminator mappings) point to the components."""
    if isinstance(value, dict):
        return {key: _rewrite_references(item, prefix) for key, item in value.items()}
    if isinstance(value, list):
        return [_rewrite_references(item, prefix) for item in value]
    if isinstance(value, str) and value.startswith("#/$defs/"):
        return REF + prefix + value.removeprefix("#/$defs/")
    return value
