"""A request whose body was cut off on its way does nothing, on the server as it runs, with no proxy before it."""

import socket
from collections.abc import Iterator

import pytest
import redis

from tests.conftest import Project, status
from tests.e2e.test_events import Server
from tests.failed import fail

REQUEUE = "POST /api/v1/jobs/job/requeue"
JSON = "Content-Type: application/json"
CHUNKED = "Transfer-Encoding: chunked"


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory, valkey_url: str) -> Iterator[Server]:
    server = Server(Project(tmp_path_factory.mktemp("cut") / "project", valkey_url))
    yield server
    server.process.terminate()
    server.process.communicate(timeout=20)


def send(port: int, request_line: str, header: str, body: bytes, cut_off: bool = True) -> bytes:
    """The response to this request; `cut_off`: after it the client closes its side of the connection."""
    head = [f"{request_line} HTTP/1.1", "Host: localhost", "Connection: close", JSON, header]
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall("\r\n".join([*head, "", ""]).encode() + body)
        if cut_off:
            client.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: client.recv(65536), b""))


@pytest.mark.parametrize(
    ("header", "body"),
    [
        ("Content-Length: 50", b""),
        ("Content-Length: 50", b"{}"),
        (CHUNKED, b""),
        (CHUNKED, b"1"),
        (CHUNKED, b'5\r\n{"arg'),
        (CHUNKED, b'5\r\n{"arg\r\nzz\r\n'),
    ],
    ids=["nothing", "less", "no chunk", "no whole size", "a part", "no size"],
)
def test_a_job_is_not_requeued(api: Server, valkey: redis.Redis, header: str, body: bytes) -> None:
    fail(valkey, "job", "no")
    answer = send(api.port, REQUEUE, header, body)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"application/problem+json" in answer
    assert status(valkey, "job") == "failed"


@pytest.mark.parametrize(
    "request_line",
    [
        "POST /api/v1/queues/default/empty",
        "PATCH /api/v1/jobs/job",
        "DELETE /api/v1/jobs/job",
        "PUT /api/v1/schedules/s",
    ],
)
def test_no_route_takes_a_part_for_the_whole(api: Server, valkey: redis.Redis, request_line: str) -> None:
    answer = send(api.port, request_line, "Content-Length: 3", b"{}")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"The connection ended before the whole body arrived" in answer


@pytest.mark.parametrize(
    ("header", "body"),
    [("Content-Length: 0", b""), ("Content-Length: 2", b"{}"), (CHUNKED, b"2\r\n{}\r\n0\r\n\r\n"), ("Accept: *", b"")],
    ids=["empty", "whole", "chunked", "none"],
)
def test_a_whole_body_is_taken(api: Server, valkey: redis.Redis, header: str, body: bytes) -> None:
    fail(valkey, "job", "no")
    assert send(api.port, REQUEUE, header, body, cut_off=False).startswith(b"HTTP/1.1 202 ")
    assert status(valkey, "job") == "queued"
