"""/metrics, for Prometheus: the service's from Redis, and those of this API process."""

from flask import Blueprint, Response, request
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from app.api.auth import requires
from app.api.context import SECURITY_HEADERS, context
from app.metrics.exposition import Exposition

pages = Blueprint("metrics", __name__)


@pages.get("/metrics")
@requires("metrics")
def metrics() -> Response:
    """Metrics of the whole service: scrape one target, since each API process answers alike."""
    registry = CollectorRegistry()
    registry.register(Exposition(context().redis, context().catalog.refresh(), context().settings.rq_exporter_metrics))
    return _exposed(registry)


@pages.get("/metrics/process")
@requires("metrics")
def process_metrics() -> Response:
    """Metrics of the API process that answers: HTTP requests, memory and CPU time."""
    return _exposed(context().request_metrics.registry)


def _exposed(registry: CollectorRegistry) -> Response:
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    return Response(encode(registry), headers=[*SECURITY_HEADERS], content_type=content_type)
