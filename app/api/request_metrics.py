"""Metrics of one API process: how many HTTP requests it answered, and how long they took."""

import time
from functools import cache
from typing import Any

from flask import Response, g
from prometheus_client import CollectorRegistry, Histogram, disable_created_metrics
from prometheus_client.process_collector import ProcessCollector

from app.api.context import current_request

BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)  # seconds
disable_created_metrics()
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


class RequestMetrics:
    """The metrics of one application, in a registry of prometheus_client."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        seconds = Histogram(
            "jobline_http_request_seconds",
            "From a request to its response, or to the begin of one that streams",
            ["method", "route", "status"],
            registry=self.registry,
            buckets=BOUNDS,
        )
        self._of: Any = cache(seconds.labels)

    def begin(self) -> None:
        g.began_at = time.perf_counter()

    def end(self, response: Response) -> None:
        request = current_request()
        route = request.url_rule.rule if request.url_rule else "none"
        method = request.method if request.method in METHODS else "other"
        self._of(method, route, str(response.status_code)).observe(time.perf_counter() - g.began_at)
