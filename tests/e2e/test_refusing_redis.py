"""A Redis that refuses writes for a while: the API says 503 and changes nothing, workers try again and lose nothing."""

import contextlib
import itertools
import resource
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis
from redis.exceptions import ResponseError
from rq import Queue
from rq.serializers import JSONSerializer

from app.api.application import create_app
from app.lifecycle import actions
from app.redis import embedded
from app.redis.errors import TRANSIENT_CODES, is_transient, is_transient_reply
from app.settings import Settings
from tests.conftest import Project, Server, status, until

JOBS = "/api/v1/jobs"


@pytest.fixture
def refusing(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """A Valkey that can be made to refuse; its disk is a limit on the size of its files."""
    # as Server.start, and a write past the limit is an error, not a signal that ends it
    signals = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    server.process = subprocess.Popen(
        embedded.command(server.folder, server.port), stdout=subprocess.DEVNULL, restore_signals=False
    )
    signal.signal(signal.SIGXFSZ, signals)
    until(server._answers)
    return server


@contextlib.contextmanager
def configured(server: Server, **values: str) -> Iterator[None]:
    connection = server.connection
    before = {name: connection.config_get(name)[name] for name in (key.replace("_", "-") for key in values)}
    for name, value in zip(before, values.values(), strict=True):
        connection.config_set(name, value)
    yield
    for name, value in before.items():
        connection.config_set(name, value)


@contextlib.contextmanager
def replica(server: Server) -> Iterator[None]:
    server.connection.replicaof("127.0.0.1", "1")
    yield
    server.connection.replicaof("NO", "ONE")


@contextlib.contextmanager
def busy(server: Server) -> Iterator[None]:
    with configured(server, lua_time_limit="1"):

        def loop() -> None:
            with contextlib.suppress(redis.RedisError):
                redis.Redis(port=server.port, socket_timeout=60).eval("while true do end", 0)

        thread = threading.Thread(target=loop)
        thread.start()
        until(lambda: _is_busy(server.connection))
        yield
        server.connection.script_kill()
        thread.join()


def _is_busy(connection: redis.Redis) -> bool:
    try:
        connection.ping()
    except redis.RedisError as error:
        return "BUSY" in str(error)
    return False


@contextlib.contextmanager
def disk_full(server: Server) -> Iterator[None]:
    """The append-only file can grow no more."""
    assert server.process
    process = psutil.Process(server.process.pid)
    _, hard = process.rlimit(psutil.RLIMIT_FSIZE)
    largest = max((file.stat().st_size for file in server.folder.rglob("*.aof")), default=0)
    process.rlimit(psutil.RLIMIT_FSIZE, (largest + 1, hard))
    until(lambda: _refuses(server.connection))
    yield
    process.rlimit(psutil.RLIMIT_FSIZE, (resource.RLIM_INFINITY, hard))
    until(lambda: not _refuses(server.connection))


def _refuses(connection: redis.Redis) -> bool:
    try:
        connection.set("probe", "x" * 100, ex=1)
    except redis.RedisError:
        return True
    return False


State = Callable[[Server], AbstractContextManager[None]]
STATES: dict[str, State] = {
    "memory": lambda server: configured(server, maxmemory="1"),
    "replica": replica,
    "too few replicas": lambda server: configured(server, min_replicas_to_write="1"),
    "script": busy,
    "disk": disk_full,
}
REQUESTS: list[tuple[str, str, Any]] = [
    ("POST", JOBS, {"function": "demo.add", "args": [1, 2]}),
    ("POST", JOBS, {"function": "demo.add", "args": [1, 2], "id": "chosen"}),
    ("POST", JOBS, {"function": "demo.add", "args": [1, 2], "unique": {}}),
    ("POST", "/api/v1/functions/demo.add/jobs", {"a": 1, "b": 2}),
    ("POST", f"{JOBS}/bulk", {"jobs": [{"function": "demo.add", "args": [1, 2]}] * 3}),
    ("POST", "/api/v1/workflows", {"jobs": [{"name": "a", "function": "demo.add", "args": [1, 2]}]}),
    ("PATCH", f"{JOBS}/there", {"description": "another"}),
    ("POST", f"{JOBS}/there/cancel", None),
    ("POST", f"{JOBS}/cancel", {"queue": "low"}),
    ("DELETE", f"{JOBS}/there", None),
    ("POST", "/api/v1/queues/low/pause", None),
    ("POST", "/api/v1/queues/low/empty", None),
    ("PUT", "/api/v1/schedules/s", {"function": "demo.add", "args": [1, 2], "cron": "@daily"}),
]
WITHOUT_MEMORY = ("PATCH", "DELETE", "/cancel", "/empty")
"""What begins by taking a job out of where it is, which a Redis without memory allows."""


@pytest.mark.parametrize("name", STATES)
def test_what_cannot_be_written_is_503_and_changes_nothing(refusing: Server, name: str) -> None:
    client = create_app(Settings(redis_url=refusing.url)).test_client()  # type: ignore[arg-type]
    assert (
        client.post(JOBS, json={"function": "demo.add", "args": [1, 2], "id": "there", "queue": "low"}).status_code
        == 202
    )
    before = {key: refusing.connection.dump(key) for key in refusing.connection.keys("rq:*")}
    with STATES[name](refusing):
        for number, (method, path, body) in enumerate(REQUESTS):
            if name == "memory" and (method in WITHOUT_MEMORY or path.endswith(WITHOUT_MEMORY)):
                continue
            answer = client.open(path, method=method, json=body, headers={"Idempotency-Key": str(number)})
            assert (answer.status_code, answer.headers.get("Retry-After")) == (503, "2"), (method, path, answer.text)
            assert answer.content_type == "application/problem+json"
    assert {key: refusing.connection.dump(key) for key in refusing.connection.keys("rq:*")} == before
    for number, (method, path, body) in enumerate(REQUESTS[:6]):
        answer = client.open(path, method=method, json=body, headers={"Idempotency-Key": str(number)})
        assert answer.status_code == 202, (method, path, answer.text)


@pytest.mark.parametrize("action", ["cancel", "delete"])
def test_bulk_counts_what_was_done_before_redis_refused(
    refusing: Server, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    client = create_app(Settings(redis_url=refusing.url)).test_client()  # type: ignore[arg-type]
    total, change, calls = 120, actions.apply, itertools.count()
    body = {"jobs": [{"function": "demo.add", "args": [1, 2], "queue": "low"}] * total}
    assert client.post(f"{JOBS}/bulk", json=body).status_code == 202

    def change_some(*args: Any) -> Any:
        if next(calls) == 100:
            refusing.connection.config_set("min-replicas-to-write", "1")
        return change(*args)

    monkeypatch.setattr(actions, "apply", change_some)
    first = client.post(f"{JOBS}/{action}", json={"queue": "low"})
    counts = first.get_json()
    changed = "canceled" if action == "cancel" else "deleted"
    done = total - refusing.connection.llen("rq:queue:low")
    assert (first.status_code, counts[changed], counts["matched"]) == (200, done, done)
    assert 0 < done < total
    rest = {"queue": "low", "cursor": counts["next_cursor"]}
    assert client.post(f"{JOBS}/{action}", json=rest).status_code == 503
    refusing.connection.config_set("min-replicas-to-write", "0")
    assert client.post(f"{JOBS}/{action}", json=rest).get_json()[changed] == total - done


@pytest.mark.parametrize("name", ["disk", "too few replicas"])
def test_the_ends_of_jobs_are_sent_until_they_are_taken(refusing: Server, tmp_path: Path, name: str) -> None:
    connection, project = refusing.connection, Project(tmp_path / "project", refusing.url)
    log = tmp_path / "log"
    project.write(
        "ends",
        "import time\nfrom app import job\n\n\n"
        f"def _note(name: str) -> None:\n    with open({str(log)!r}, 'a') as file:\n"
        "        file.write(name + '\\n')\n\n\n"
        "def well() -> int:\n    time.sleep(1)\n    _note('well')\n    return 1\n\n\n"
        "def badly() -> None:\n    time.sleep(1)\n    _note('badly')\n    raise ValueError('no')\n",
    )
    workers = [
        project.start("-m", "rq.cli", "worker", "-w", "app.worker.Worker", "-c", "app.worker_config") for _ in range(2)
    ]
    try:
        client = create_app(Settings(redis_url=refusing.url)).test_client()  # type: ignore[arg-type]
        until(lambda: len(connection.smembers("rq:workers")) == 2)
        for function in ("well", "badly"):
            Queue("default", connection=connection, serializer=JSONSerializer).enqueue(
                f"jobs.ends.{function}", job_id=function
            )
            until(lambda function=function: status(connection, function) == "started")
        with STATES[name](refusing):
            until(lambda: log.exists() and len(log.read_text().split()) == 2)
        until(lambda: status(connection, "well") == "finished")
        until(lambda: status(connection, "badly") == "failed")
        error = client.get(f"{JOBS}/badly").get_json()["error"]
        assert (error["type"], error["message"]) == ("ValueError", "no")
        assert sorted(log.read_text().split()) == ["badly", "well"]
    finally:
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.wait(15)


@pytest.mark.parametrize("code", TRANSIENT_CODES)
def test_each_code_may_pass_however_it_is_said(code: str) -> None:
    for reply in (f"{code} why", f"ERR Error running script (call to f_1): @user_script:3: -{code} why"):
        assert is_transient_reply(reply)
    assert is_transient(ResponseError(f"Command # 1 (SET a b) of pipeline caused error: {code} why"))


@pytest.mark.parametrize(
    "reply", ["WRONGTYPE no list", "ERR unknown command", f"ERR value {TRANSIENT_CODES[0]}", "NOPERM no"]
)
def test_other_errors_do_not(reply: str) -> None:
    assert not is_transient(ResponseError(reply))


def test_a_change_that_redis_failed_is_audited_later(refusing: Server) -> None:
    """It may have been done in part."""
    client = create_app(Settings(redis_url=refusing.url)).test_client()  # type: ignore[arg-type]
    with configured(refusing, min_replicas_to_write="1"):
        assert client.post("/api/v1/queues/low/pause").status_code == 503
    entries = until(lambda: client.get("/api/v1/audit").get_json()["entries"])
    assert [(one["action"], one["status"]) for one in entries] == [("queues.pause", 503)]
