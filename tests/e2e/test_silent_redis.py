"""A Redis that hangs (SIGSTOP): the API gives up soon, holds few threads, and answers its probes all the while."""

import contextlib
import http.client
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest
from redis.exceptions import RedisError

from app.errors import Unavailable
from app.redis import circuit
from app.redis.client import MAX_SHARED_CONNECTIONS, connect_api, connect_probe
from app.settings import Settings
from tests.conftest import Project, Server, free_port, until

CLIENTS = 150
SILENCE = 8.0  # seconds
TIMEOUT = 2.0
SLACK = 1.5  # seconds for a busy machine


class Answer(NamedTuple):
    status: int
    began: float
    seconds: float
    retry_after: str | None
    body: bytes


def ask(port: int, method: str, path: str, body: bytes | None = None, timeout: float = 60, **headers: str) -> Answer:
    began = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    connection.request(method, path, body, {"Content-Type": "application/json", **headers})
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return Answer(response.status, began, time.monotonic() - began, response.headers["Retry-After"], content)


class Api(NamedTuple):
    port: int
    pid: int

    def enqueue(self, **headers: str) -> Answer:
        return ask(self.port, "POST", "/api/v1/functions/demo.add/jobs", b'{"a": 1, "b": 2}', **headers)

    def get(self, path: str) -> Answer:
        return ask(self.port, "GET", path)


@pytest.fixture
def api(tmp_path: Path, server: Server) -> Iterator[Api]:
    server.start()
    project, port = Project(tmp_path / "project", server.url), free_port()
    process = project.start("-m", "app.api.server", PORT=str(port), LOG_LEVEL="ERROR")

    def answers() -> bool:
        try:
            return ask(port, "GET", "/readyz").status == 200
        except OSError:
            return False

    until(answers)
    yield Api(port, process.pid)
    process.terminate()
    process.communicate(timeout=20)


def freeze(server: Server) -> None:
    assert server.process
    os.kill(server.process.pid, signal.SIGSTOP)
    until(lambda: psutil.Process(server.process.pid).status() == psutil.STATUS_STOPPED)  # type: ignore[union-attr]


def go_on(server: Server) -> None:
    assert server.process
    os.kill(server.process.pid, signal.SIGCONT)


def test_the_api_gives_up_and_recovers_by_itself(api: Api, server: Server) -> None:
    assert api.enqueue().status == 202
    answers, probes, over = list[Answer](), dict[str, list[Answer]](), threading.Event()

    def client(number: int) -> None:
        while not over.is_set():
            path = f"/api/v1/jobs?limit={number % 9 + 1}"
            answers.append(api.enqueue() if number % 2 else api.get(path))
            time.sleep(0.1)

    def probe(path: str) -> None:
        while not over.is_set():
            probes.setdefault(path, []).append(api.get(path))
            time.sleep(0.1)

    freeze(server)
    began = time.monotonic()
    threads = [threading.Thread(target=client, args=[number]) for number in range(CLIENTS)]
    threads += [threading.Thread(target=probe, args=[path]) for path in ("/livez", "/readyz")]
    try:
        for thread in threads:
            thread.start()
        time.sleep(SILENCE)
    finally:
        go_on(server)
    until(lambda: api.enqueue().status == 202, 5)
    recovered_after = time.monotonic() - began - SILENCE
    over.set()
    for thread in threads:
        thread.join(30)

    silent = [one for one in answers if one.began + one.seconds < began + SILENCE]
    assert {(one.status, one.retry_after) for one in silent} == {(503, "2")}
    assert max(one.seconds for one in silent) < TIMEOUT + SLACK
    late = [one for one in silent if one.began > began + TIMEOUT + SLACK]
    assert len(late) > CLIENTS  # they did not wait: each was refused at once
    assert sum(one.seconds > TIMEOUT / 2 for one in late) == 0
    lives = sorted(one.seconds for one in probes["/livez"] if one.began > began + TIMEOUT)
    assert {one.status for one in probes["/livez"]} == {200}
    assert lives[len(lives) * 9 // 10] < 0.1
    ready = [one for one in probes["/readyz"] if one.began + one.seconds < began + SILENCE]
    assert {one.status for one in ready} == {503}
    assert max(one.seconds for one in ready) < 1 + SLACK
    assert recovered_after < 3


def test_a_client_that_waits_for_a_job_gets_what_is_known_of_it(api: Api, server: Server) -> None:
    """The job was enqueued: that Redis hangs afterwards makes no failure of it."""
    answers = list[Answer]()
    thread = threading.Thread(target=lambda: answers.append(api.enqueue(Prefer="wait=60")))
    thread.start()
    until(lambda: server.connection.llen("rq:queue:default") == 1)
    until(lambda: any(one["cmd"] == "xread" for one in server.connection.client_list()))
    freeze(server)
    try:
        thread.join(20)
        (answer,) = answers
        assert (answer.status, json.loads(answer.body)["status"]) == (202, "queued")
        assert answer.seconds < 12
        refused = api.enqueue(Prefer="wait=60")
        assert (refused.status, refused.retry_after) == (503, "2")
        assert refused.seconds < TIMEOUT + SLACK
    finally:
        go_on(server)


@pytest.mark.parametrize("connected", [True, False])
def test_a_probe_waits_a_second_however_long_others_may(server: Server, connected: bool) -> None:
    server.start()
    probe = connect_probe(Settings(redis_url=server.url, redis_timeout=20))
    if connected:
        probe.ping()
    freeze(server)
    began = time.monotonic()
    try:
        with pytest.raises(RedisError):
            probe.ping()
        assert time.monotonic() - began < 1 + SLACK
    finally:
        go_on(server)
        probe.close()


def test_an_api_that_starts_while_redis_hangs_answers_too(server: Server, tmp_path: Path) -> None:
    server.start()
    freeze(server)
    project, port = Project(tmp_path / "project", server.url), free_port()
    process = project.start("-m", "app.api.server", PORT=str(port), LOG_LEVEL="ERROR")
    try:

        def lives() -> bool:
            try:
                return ask(port, "GET", "/livez").status == 200
            except OSError:
                return False

        until(lives)
        assert ask(port, "GET", "/readyz").status == 503
        go_on(server)
        until(lambda: ask(port, "GET", "/readyz").status == 200)
    finally:
        go_on(server)
        process.terminate()
        process.communicate(timeout=20)


def test_no_more_threads_wait_than_there_are_connections(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.start()
    client = connect_api(Settings(redis_url=server.url, redis_timeout=4))  # type: ignore[arg-type]
    assert client.circuit
    check = client.circuit.check
    client.ping()
    check()
    freeze(server)
    entered = list[float]()

    def request() -> None:
        with contextlib.suppress(Unavailable, RedisError):
            check()
            entered.append(time.monotonic())
            client.ping()

    try:
        first = [threading.Thread(target=request) for _ in range(2 * MAX_SHARED_CONNECTIONS)]
        for thread in first:
            thread.start()
        until(lambda: client.connection_pool.in_use == MAX_SHARED_CONNECTIONS)
        time.sleep(2 * circuit.PING_INTERVAL_SECONDS + circuit.SUSPECT_AFTER_SECONDS)
        more = [threading.Thread(target=request) for _ in range(100)]
        for thread in more:
            thread.start()
        for thread in more:
            thread.join(10)
        assert len(entered) <= 2 * MAX_SHARED_CONNECTIONS
    finally:
        go_on(server)
    for thread in first:
        thread.join(20)
