"""The web application: creates the Flask app and wires its parts together."""

from typing import Any

import redis
from flask import Flask, Request, Response, redirect
from flask.json.provider import JSONProvider
from flask_openapi3 import Info, License, OpenAPI, Server
from flask_openapi3_swagger.plugins import RegisterPlugin as SwaggerUI

from app import request_json
from app.access import api_keys, proxies
from app.access.origin import OriginCheck
from app.api import dashboard, errors, throttle
from app.api.auth import authorize, check_scope, requires
from app.api.console.page import pages as console
from app.api.context import SECURITY_HEADERS, Context, JsonResponse, context, current_request
from app.api.openapi import SECURITY
from app.api.request_metrics import RequestMetrics
from app.api.routes import (
    audit,
    failures,
    functions,
    jobs,
    metrics,
    queues,
    schedules,
    stats,
    streams,
    system,
    webhooks,
    workflows,
)
from app.audit.audit_log import Log
from app.catalog.catalog import Catalog
from app.errors import BadRequest
from app.events.stream import Hub
from app.redis.client import Client, connect_api, connect_blocking, connect_probe
from app.serializer import JSON
from app.settings import Settings, get_settings
from app.views import health, waiting
from app.views.served import ServedQueues


class _Json(JSONProvider):
    def dumps(self, obj: Any, **_: Any) -> str:
        return JSON.dumps(obj).decode()

    def loads(self, s: str | bytes, **_: Any) -> Any:
        return request_json.loads(s.encode() if isinstance(s, str) else s)


class _Application(OpenAPI):
    def ensure_sync(self, func: Any) -> Any:
        """The function itself: none of ours is a coroutine. Flask would look at each of them in each request."""
        return func


def create_app(
    settings: Settings | None = None,
    connection: redis.Redis | None = None,
    catalog: Catalog | None = None,
    has_workers: bool = True,
) -> Flask:
    """Create the application. `connection` and `catalog` replace the default ones in tests.

    `has_workers=False`: the caller runs all jobs itself, so there are no warnings about queues without workers.
    """
    settings = settings or get_settings()
    app = _Application(
        "app",
        info=Info(
            title="Jobline",
            version="1",
            description="Python functions, run as jobs over HTTP.",
            license=License(name="MIT", identifier="MIT"),
        ),
        servers=[Server(url="/", description="The server that this document comes from")],
        security_schemes=SECURITY,  # type: ignore[arg-type]
        validation_error_callback=errors.render_validation_error,
        doc_ui=False,
        static_folder=None,
    )
    app.json = _Json(app)
    keys = api_keys.parse(settings.api_keys.get_secret_value())
    request_metrics = RequestMetrics()
    client, blocking, probe = (connection,) * 3 if connection else _connections(settings)
    app.extensions["jobline"] = Context(
        settings,
        client,
        blocking,
        health.Readiness(probe, settings.queue_names, has_workers),
        catalog or Catalog(reload=settings.reload),
        keys,
        Hub(blocking, settings.event_streams),
        ServedQueues(client, enabled=has_workers),
        Log(client, settings.audit_limit),
        request_metrics,
    )
    app.before_request(request_metrics.begin)
    check = OriginCheck(settings).check
    app.before_request(lambda: check(current_request().method, current_request().path, current_request().headers))
    app.before_request(_check_circuit)
    app.before_request(check_scope)
    app.before_request(_check_body)
    errors.install(app)
    for module in (jobs, failures, workflows, streams, functions, schedules, queues, stats, webhooks, audit, system):
        app.register_api(module.api)
    app.register_blueprint(system.pages)
    app.register_blueprint(metrics.pages)
    app.register_blueprint(console)
    app.register_blueprint(SwaggerUI.register(doc_url="/openapi.json"), url_prefix="/docs")
    app.add_url_rule("/docs", "docs", lambda: redirect("/docs/swagger"))
    for page in ("docs", "swagger.swagger"):  # the browser asks for the key here; its scripts then send it
        requires("read")(app.view_functions[page])
    dashboard.mount(app, app.extensions["jobline"].redis, authorize)
    app.after_request(_finish_response)
    if trusted := proxies.parse(settings.trusted_proxies):
        app.wsgi_app = proxies.ForwardedClient(app.wsgi_app, trusted)  # type: ignore[method-assign]
    return app


def _connections(settings: Settings) -> tuple[redis.Redis, redis.Redis, redis.Redis]:
    """Connections for short commands, for blocking reads, and for the readiness probe."""
    return connect_api(settings), connect_blocking(settings, waiting.READ_BLOCK_SECONDS), connect_probe(settings)


def _check_circuit() -> None:
    """Refuse requests that need Redis while the circuit breaker of its connection is open. Raises Unavailable."""
    client = context().redis
    if isinstance(client, Client) and client.circuit and current_request().path.startswith(("/api/", "/dashboard/")):
        client.circuit.check()


def _check_body() -> None:
    """Refuse bodies that are incomplete (400), too large (413) or not JSON (400, 415)."""
    request = current_request()
    if request.endpoint and request.method in ("POST", "PUT", "PATCH", "DELETE") and request.path.startswith("/api/"):
        settings: Settings = context().settings
        bulk = request.path.endswith(("/jobs/bulk", "/workflows"))
        request.max_content_length = settings.bulk_body_limit if bulk else settings.body_limit
        body = request.get_data(cache=True)
        if _is_truncated(request, body):
            raise BadRequest("The connection ended before the whole body arrived. Nothing was done")
        if body and request.method != "DELETE" and isinstance(request.get_json(), str):
            # flask-openapi3 would parse the string as a JSON document, without the checks of request_json
            raise errors.not_an_object()


def _is_truncated(request: Request, body: bytes) -> bool:
    """Whether the connection ended before the whole body arrived.

    For a chunked body the server reports no error and passes on the part that arrived. Truncated JSON does not parse,
    so only an empty part could be mistaken for a request without a body.
    """
    if request.content_length is not None:
        return len(body) < request.content_length
    return not body and request.headers.get("Transfer-Encoding", "").lower() == "chunked"


def _finish_response(response: Response) -> Response:
    audit.record_request(response)
    if not isinstance(response, JsonResponse):
        for name, value in SECURITY_HEADERS:
            response.headers.setdefault(name, value)
    throttle.add_rate_limit_headers(response)
    context().request_metrics.end(response)
    return response
