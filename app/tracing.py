"""Traces by OpenTelemetry: who enqueued a job, and its attempts. Off unless OTEL_EXPORTER_OTLP_ENDPOINT is set.

Spans follow the messaging conventions: `send QUEUE` (producer) and `process QUEUE` (consumer). The trace context of a
`send` is in the field `traceparent` of the job's hash (W3C Trace Context). The first attempt is a child of it; later
ones, perhaps days later, begin traces of their own. All link to it. The packages are in requirements-otel.lock.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer

    from app.enqueue.new_job import NewJob

TRACEPARENT = "traceparent"

log = structlog.get_logger("jobline")

_tracer: Tracer | None = None


def is_enabled() -> bool:
    """Whether this process makes spans."""
    return _tracer is not None


def start(service: str) -> None:
    """Make spans from now on, if the environment asks for it. Call it in the process that makes them, after a fork.

    `service` is the default of OTEL_SERVICE_NAME. The exporter reads all other variables of OpenTelemetry.
    """
    global _tracer
    _tracer = None
    if not (os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")):
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        log.error("OTEL_EXPORTER_OTLP_ENDPOINT is set, and OpenTelemetry is not installed", error=str(error))  # noqa: TRY400
        return
    name = os.environ.get("OTEL_SERVICE_NAME", service)
    provider = TracerProvider(resource=Resource.create({SERVICE_NAME: name}), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    _tracer = provider.get_tracer("jobline")
    _providers.append(provider)


_providers: list[Any] = []


def stop() -> None:
    """Export the spans that are not exported yet, for some seconds at most."""
    global _tracer
    _tracer = None
    while _providers:
        with contextlib.suppress(Exception):
            _providers.pop().shutdown()


@contextlib.contextmanager
def sending(jobs: Sequence[NewJob], traceparent: str | None = None) -> Iterator[None]:
    """A span around the enqueueing of jobs, which keep its context. `traceparent`: of the request that asks for it."""
    if _tracer is None or not jobs:
        yield
        return
    from opentelemetry.trace import SpanKind
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    propagator = TraceContextTextMapPropagator()
    parent = propagator.extract({TRACEPARENT: traceparent}) if traceparent else None
    attributes: dict[str, Any] = {
        "messaging.system": "jobline",
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "messaging.destination.name": jobs[0].queue,
    }
    if len(jobs) == 1:
        attributes["messaging.message.id"] = jobs[0].id
    else:
        attributes["messaging.batch.message_count"] = len(jobs)
    with _tracer.start_as_current_span(f"send {jobs[0].queue}", parent, SpanKind.PRODUCER, attributes):
        carrier = dict[str, str]()
        propagator.inject(carrier)
        for job in jobs:
            job.extra_fields.setdefault(TRACEPARENT, carrier[TRACEPARENT])
        yield


@contextlib.contextmanager
def processing(
    queue: str, job_id: str, function: str, attempt: int, traceparent: bytes | None
) -> Iterator[Span | None]:
    """A span around an attempt at a job. An exception is recorded, and ends it with an error."""
    if _tracer is None:
        yield None
        return
    from opentelemetry.context import Context
    from opentelemetry.trace import Link, SpanKind, get_current_span
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    sent = Context()
    if traceparent:
        sent = TraceContextTextMapPropagator().extract({TRACEPARENT: traceparent.decode(errors="replace")}, sent)
    origin = get_current_span(sent).get_span_context()
    attributes: dict[str, Any] = {
        "messaging.system": "jobline",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": queue,
        "messaging.message.id": job_id,
        "jobline.function": function,
        "jobline.attempt": attempt,
    }
    with _tracer.start_as_current_span(
        f"process {queue}",
        sent if attempt == 1 else Context(),
        SpanKind.CONSUMER,
        attributes,
        [Link(origin)] if origin.is_valid else [],
    ) as span:
        try:
            yield span
        except BaseException as error:
            span.set_attribute("error.type", type(error).__qualname__)
            raise


def trace_id(span: Span) -> str:
    """The id of its trace, as logs have it: 32 hexadecimal digits."""
    return f"{span.get_span_context().trace_id:032x}"


def outgoing_headers() -> dict[str, str]:
    """The trace context of this moment as headers of a request; {} if there is none."""
    if _tracer is None:
        return {}
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier = dict[str, str]()
    TraceContextTextMapPropagator().inject(carrier)
    return carrier
