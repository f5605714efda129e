"""Traces across API, worker and webhook, as a collector of OpenTelemetry receives them."""

import importlib.metadata
import re
import subprocess
import threading
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import redis
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from app import tracing
from app.api.application import create_app
from app.settings import Settings
from tests.conftest import ROOT, RQ_WORKER, Project, until
from tests.receiver import SECRET, Receiver

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"
KINDS = {4: "producer", 5: "consumer"}
SOURCE = """
import logging

async def soon() -> str:
    return "done"

def fails() -> None:
    logging.getLogger("shop").warning("about to fail")
    raise KeyError("no")
"""


class Collector:
    """Receives spans over HTTP, as OTLP has it."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.services = set[str]()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:  # noqa: N802, RUF100
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.take(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def take(self, request: ExportTraceServiceRequest) -> None:
        for resource in request.resource_spans:
            names = {item.key: item.value.string_value for item in resource.resource.attributes}
            self.services.add(names["service.name"])
            for scope in resource.scope_spans:
                self.spans.extend(scope.spans)

    def named(self, name: str) -> list[Any]:
        return [span for span in self.spans if span.name == name]


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    found = Collector()
    threading.Thread(target=found.server.serve_forever, daemon=True).start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", found.url)
    yield found
    tracing.stop()
    found.server.shutdown()
    found.server.server_close()


def attributes(span: Any) -> dict[str, Any]:
    return {item.key: item.value.string_value or item.value.int_value for item in span.attributes}


@pytest.mark.parametrize("concurrency", ["1", "20"])
def test_a_trace_goes_from_the_request_to_the_job_and_its_webhook(
    project: Project,
    valkey: redis.Redis,
    receiver: Receiver,
    collector: Collector,
    started: list[subprocess.Popen[bytes]],
    monkeypatch: pytest.MonkeyPatch,
    concurrency: str,
) -> None:
    project.write("traced", SOURCE)
    project.write("webhooks", (ROOT / "jobs" / "webhooks.py").read_text())
    for name, value in {"WEBHOOK_SECRET": SECRET, "WEBHOOK_ALLOW_HOSTS": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    tracing.start("jobline-api")
    client = create_app(Settings(), valkey).test_client()
    webhook = {"url": f"{receiver.base}/hook", "events": ["job.finished"]}
    body = {"function": "demo.add", "args": [1, 2], "webhook": webhook}
    job = client.post("/api/v1/jobs", json=body, headers={"traceparent": TRACEPARENT}).get_json()
    tracing.stop()
    started.append(project.start(*RQ_WORKER, "default", "webhooks", CONCURRENCY=concurrency))
    until(lambda: receiver.at("/hook"))
    started[0].terminate()
    until(lambda: len(collector.spans) >= 3)
    [send], [process], [deliver] = map(collector.named, ("send default", "process default", "process webhooks"))
    assert collector.services == {"jobline-api", "jobline-worker"}
    assert {span.trace_id.hex() for span in (send, process, deliver)} == {TRACE}
    assert (send.parent_span_id.hex(), KINDS[send.kind]) == (PARENT, "producer")
    assert (process.parent_span_id, KINDS[process.kind]) == (send.span_id, "consumer")
    assert [link.span_id for link in process.links] == [send.span_id]
    assert attributes(process) == {
        "messaging.system": "jobline",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "default",
        "messaging.message.id": job["id"],
        "jobline.function": "demo.add",
        "jobline.attempt": 1,
    }
    assert receiver.at("/hook")[0].headers["traceparent"] == f"00-{TRACE}-{deliver.span_id.hex()}-01"


def test_a_retry_begins_a_trace_of_its_own_and_links_to_the_request(
    project: Project, valkey: redis.Redis, collector: Collector
) -> None:
    project.write("traced", SOURCE)
    tracing.start("jobline-api")
    client = create_app(Settings(), valkey).test_client()
    body = {"function": "demo.add", "args": [1, 2], "retry": {"max": 1, "intervals": [0]}}
    job = client.post("/api/v1/jobs", json=body).get_json()
    from app.enqueue import new_job

    valkey.hset(f"rq:job:{job['id']}", "data", new_job.encode_call("jobs.traced.fails", [], {}))
    tracing.stop()
    project.work("default")
    until(lambda: len(collector.named("process default")) == 2)
    [send] = collector.named("send default")
    first, second = sorted(collector.named("process default"), key=lambda span: attributes(span)["jobline.attempt"])
    assert first.trace_id == send.trace_id != second.trace_id
    assert second.parent_span_id == b""
    assert [link.trace_id for link in second.links] == [send.trace_id]
    assert attributes(second)["error.type"] == "KeyError"
    assert second.status.code == 2
    lines = client.get(f"/api/v1/jobs/{job['id']}/logs").get_json()["lines"]
    assert [line["trace_id"] for line in lines] == [first.trace_id.hex(), second.trace_id.hex()]


def test_a_coroutine_and_a_job_without_a_request_are_traced(
    project: Project, valkey: redis.Redis, collector: Collector
) -> None:
    from tests.scripts.hand import put

    project.write("traced", SOURCE)
    put(valkey, "job")
    from app.enqueue import new_job

    valkey.hset("rq:job:job", "data", new_job.encode_call("jobs.traced.soon", [], {}))
    project.work("default", CONCURRENCY="20")
    until(lambda: collector.named("process default"))
    [process] = collector.named("process default")
    assert (process.parent_span_id, list(process.links)) == (b"", [])


def test_nothing_is_kept_or_imported_where_traces_are_off(project: Project, valkey: redis.Redis) -> None:
    client = create_app(Settings(), valkey).test_client()
    headers, body = {"traceparent": TRACEPARENT}, {"function": "demo.add", "args": [1, 2]}
    job = client.post("/api/v1/jobs", json=body, headers=headers).get_json()
    assert not valkey.hexists(f"rq:job:{job['id']}", "traceparent")
    ours = ("opentelemetry.sdk.trace", "opentelemetry.exporter")  # redis imports other parts, if they are there
    look = f"import app.worker, app.api.application, sys; print([name for name in {ours} if name in sys.modules])"
    output, _ = project.start("-c", look).communicate(timeout=20)
    assert output.decode().splitlines()[-1] == "[]"


def test_the_lock_of_the_extra_has_what_is_tested_here() -> None:
    lock = (ROOT / "requirements-otel.lock").read_text()
    pins = dict(re.findall(r"^([\w-]+)==(\S+) ", lock, re.MULTILINE))
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["otel"]
    assert {name: pins[name] for name in extra} == {name: importlib.metadata.version(name) for name in extra}
    assert lock.count("--hash=sha256:") > len(pins)
