"""Server-sent events from the real server: in order, without a gap, to a thousand listeners, closed cleanly."""

import json
import socket
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis
import urllib3

from tests.conftest import RQ_WORKER, Project, free_port, until

SOURCE = """
import time
from app import progress


def steps(count: int) -> int:
    for number in progress.track(range(count)):
        time.sleep(0.01)
    return count


def fail() -> None:
    raise ValueError("no")
"""


class Server:
    """The API as it is served."""

    def __init__(self, project: Project, **environment: str) -> None:
        self.port = free_port()
        self.process = project.start("-m", "app.api.server", PORT=str(self.port), LOG_LEVEL="ERROR", **environment)
        self.http = urllib3.PoolManager(num_pools=4, maxsize=50)
        until(self._answers)

    def _answers(self) -> bool:
        try:
            return self.call("GET", "/livez").status == 200
        except urllib3.exceptions.HTTPError:
            return False

    def call(self, method: str, path: str, **said: Any) -> urllib3.BaseHTTPResponse:
        return self.http.request(method, f"http://127.0.0.1:{self.port}{path}", retries=False, **said)

    def post(self, path: str, body: Any) -> Any:
        return self.call("POST", f"/api/v1{path}", json=body).json()

    def events(self, path: str, **headers: str) -> Iterator[dict[str, Any]]:
        """Each as {event, id, data}, from now on; ends with the stream, or fails after 30 s."""
        answer = self.call(
            "GET", f"/api/v1{path}", headers=headers, preload_content=False, timeout=urllib3.Timeout(read=20)
        )
        assert answer.headers["Content-Type"] == "text/event-stream"
        return self._parsed(answer)

    @staticmethod
    def _parsed(answer: urllib3.BaseHTTPResponse) -> Iterator[dict[str, Any]]:
        text, end = "", time.monotonic() + 30
        for part in answer.stream(1, decode_content=True):
            assert time.monotonic() < end
            text += part.decode()
            while "\n\n" in text:
                one, _, text = text.partition("\n\n")
                found = dict(line.split(": ", 1) for line in one.split("\n") if not line.startswith(":"))
                if "event" in found:
                    yield {**found, "data": json.loads(found["data"])}


@pytest.fixture
def server(project: Project) -> Iterator[Server]:
    project.write("work", SOURCE)
    found = Server(project, EVENT_STREAMS="1010")
    yield found
    found.process.terminate()
    found.process.communicate(timeout=15)


@pytest.fixture
def worker(project: Project, server: Server, valkey: redis.Redis) -> Iterator[subprocess.Popen[bytes]]:
    process = project.start(*RQ_WORKER, LOG_LEVEL="ERROR")
    until(lambda: valkey.scard("rq:workers"))  # `rq worker` does not start while RQ is suspended
    yield process
    process.terminate()
    process.communicate(timeout=10)


def enqueue(server: Server, function: str = "work.steps", **kwargs: Any) -> str:
    return str(server.post("/jobs", {"function": function, "kwargs": kwargs})["id"])


def test_a_job_is_followed_to_its_end(server: Server, worker: object, valkey: redis.Redis) -> None:
    valkey.set("rq:suspended", 1)
    job_id = enqueue(server, count=50)
    stream = server.events(f"/jobs/{job_id}/events")
    first = next(stream)
    assert (first["event"], first["data"]["status"]) == ("status", "queued")
    valkey.delete("rq:suspended")
    rest = list(stream)
    assert rest[0]["data"]["status"] == "started"
    assert [one["event"] for one in rest[1:-1]] == ["progress"] * (len(rest) - 2)
    assert len(rest) > 3
    assert (rest[-1]["event"], rest[-1]["data"]["result"]) == ("end", 50)


def test_a_job_that_has_ended_is_told_at_once(server: Server, worker: object) -> None:
    job_id = enqueue(server, "work.fail")
    server.call("GET", f"/api/v1/jobs/{job_id}", headers={"Prefer": "wait=10"})
    [only] = server.events(f"/jobs/{job_id}/events")
    assert (only["event"], only["data"]["error"]["message"]) == ("end", "no")
    again = server.call("GET", f"/api/v1/jobs/{job_id}/events", headers={"Last-Event-ID": only["id"]})
    assert again.status == 204
    assert server.call("GET", "/api/v1/jobs/none/events").status == 404
    assert server.call("GET", f"/api/v1/jobs/{job_id}/events", headers={"Last-Event-ID": "x"}).status == 400


def test_a_listener_that_comes_back_has_missed_nothing(server: Server, project: Project, valkey: redis.Redis) -> None:
    job_id = enqueue(server, count=30)
    first = next(server.events(f"/jobs/{job_id}/events"))
    project.work()
    told = list(server.events(f"/jobs/{job_id}/events", **{"Last-Event-ID": first["id"]}))
    kinds = [one["event"] for one in told]
    assert kinds[0] == "status"
    assert kinds.count("end") == 1
    again = list(server.events(f"/jobs/{job_id}/events", **{"Last-Event-ID": told[1]["id"]}))
    assert again == told[2:]
    valkey.delete("jobline:events")
    late = list(server.events(f"/jobs/{job_id}/events", **{"Last-Event-ID": first["id"]}))
    assert [one["event"] for one in late] == ["reset", "end"]


def test_a_workflow_is_followed_to_its_end(server: Server, worker: object, valkey: redis.Redis) -> None:
    valkey.set("rq:suspended", 1)
    jobs = [
        {"name": "a", "function": "work.steps", "args": [1]},
        {"name": "b", "function": "work.steps", "args": [{"$result": "a"}], "after": ["a"]},
    ]
    workflow = server.post("/workflows", {"jobs": jobs})["id"]
    stream = server.events(f"/workflows/{workflow}/events")
    assert next(stream)["event"] == "workflow"
    valkey.delete("rq:suspended")
    told = list(stream)
    states = [(one["data"]["id"].split("-")[1], one["data"]["status"]) for one in told if one["event"] == "job"]
    assert states == [(name, status) for name in "ab" for status in ("queued", "started", "finished")][1:]
    assert (told[-1]["event"], told[-1]["data"]["status"]) == ("end", "finished")


def test_all_jobs_are_followed_by_queue_and_function(server: Server, worker: object) -> None:
    stream, other = server.events("/events?function=work.fail"), server.events("/events?queue=other")
    enqueue(server, count=1)
    mine = enqueue(server, "work.fail")
    told = [next(stream) for _ in range(2)]
    assert {one["data"]["id"] for one in told} == {mine}
    server.post("/jobs", {"function": "work.fail", "queue": "other", "id": "elsewhere"})
    assert next(other)["data"]["id"] == "elsewhere"


def test_a_thousand_listen_at_once_and_one_too_many_is_told_so(server: Server, valkey: redis.Redis) -> None:
    job_id = enqueue(server, count=1)
    request = f"GET /api/v1/jobs/{job_id}/events HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    lines = [socket.create_connection(("127.0.0.1", server.port), 45) for _ in range(1010)]
    try:
        for line in lines:
            line.sendall(request)
        for line in lines:
            heard = b""
            while b'"status":"queued"' not in heard:
                part = line.recv(65536)
                assert part, heard
                heard += part
        refused = server.call("GET", f"/api/v1/jobs/{job_id}/events")
        assert (refused.status, refused.headers["Retry-After"] > "0") == (503, True)
        assert server.call("GET", "/livez").status == 200
        began = time.monotonic()
        server.post(f"/jobs/{job_id}/cancel", {})
        for line in lines:
            heard = b""
            while b"event: end" not in heard:
                part = line.recv(65536)
                assert part, heard
                heard += part
        assert time.monotonic() - began < 10
    finally:
        for line in lines:
            line.close()


def test_streams_end_with_the_server(server: Server) -> None:
    job_id = enqueue(server, count=1)
    stream = server.events(f"/jobs/{job_id}/events")
    next(stream)
    began = time.monotonic()
    server.process.terminate()
    assert list(stream) == []
    assert time.monotonic() - began < 4
    assert server.process.wait(10) == 0


def test_nothing_is_written_while_nobody_listens(server: Server, worker: object, valkey: redis.Redis) -> None:
    job_id = enqueue(server, count=1)
    server.call("GET", f"/api/v1/jobs/{job_id}", headers={"Prefer": "wait=10"})
    assert not valkey.exists("jobline:events")
