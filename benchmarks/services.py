"""The HTTP services that are measured: how each is started, asked for a job, and what it leaves in Redis."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from app.access import api_keys
from benchmarks import wrk
from benchmarks.lab import Lab, wait_until
from benchmarks.processes import Command
from benchmarks.server import Server, free_port
from benchmarks.wrk import Load

WORKERS = "2"  # processes of each service, but for Flower, which has one
BESIDE = ("python", "-m", "as_jobline")
"""As Jobline is served."""
UVICORN = ("uvicorn", "--host", "127.0.0.1", "--port", "{port}", "--workers", WORKERS, "--no-access-log")
FLOWER = ("celery", "-A", "peer_celery", "flower", "--address=127.0.0.1", "--port={port}", "--logging=error")
START = 30.0  # seconds until it takes a job
SETTLE = 1.0  # seconds for its other worker
WARM_UP = 1  # seconds


@dataclass(frozen=True)
class Service:
    """One row. `counts` are those of its jobs in Redis, taken in several ways; `status` is that of an accepted job."""

    name: str
    peer: str
    command: tuple[str, ...]
    path: str
    call: dict[str, object]
    counts: Callable[[Server], set[int]]
    bulk_path: str = ""
    status: int = 202

    def bulk(self, size: int) -> bytes:
        return json.dumps({"jobs": size * [self.call]}).encode()


def _rq(server: Server) -> set[int]:
    return {server.client.llen("rq:queue:default"), server.count("rq:job:*")}


def _celery(server: Server) -> set[int]:
    return {server.client.llen("celery")}


def _arq(server: Server) -> set[int]:
    return {server.client.zcard("arq:queue"), server.count("arq:job:*")}


JOBLINE = Service(
    "jobline 2",
    "jobline",
    ("python", "-m", "app.api.server"),
    "/api/v1/jobs",
    {"function": "bench.noop", "args": [1]},
    _rq,
    "/api/v1/jobs/bulk",
)
FLASK = Service(
    "flask + rq 2",
    "flask",
    (*BESIDE, "web_flask:app"),
    "/jobs",
    {"function": "jobs.bench.noop", "args": [1]},
    _rq,
    "/jobs/bulk",
)
RAW = replace(FLASK, name="limit 2", peer="raw", command=(*BESIDE, "web_raw:app"))
FASTAPI = Service(
    "fastapi + arq 2",
    "fastapi",
    (*UVICORN, "web_fastapi:app"),
    "/jobs",
    {"function": "noop", "args": [1]},
    _arq,
)
FLOWER_1 = Service("flower 1", "flower", FLOWER, "/api/task/async-apply/noop", {"args": [1]}, _celery, status=200)
ALL = (JOBLINE, FLASK, FASTAPI, FLOWER_1, RAW)


@dataclass(frozen=True)
class Served:
    """A service that takes jobs."""

    service: Service
    port: int
    key: str
    folder: Path
    command: Command

    def post(self, body: bytes, connections: int, seconds: int, bulk: bool = False) -> Load:
        path = self.service.bulk_path if bulk else self.service.path
        return wrk.post(f"http://127.0.0.1:{self.port}{path}", body, self.key, connections, seconds, self.folder)

    def ask(self, call: dict[str, Any], **headers: str) -> tuple[int, bytes]:
        """One request for a job: status and body; 0 if nobody answers."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{self.service.path}", json.dumps(call).encode())
        said = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json", **headers}
        for name, value in said.items():
            request.add_header(name.replace("_", "-"), value)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()
        except OSError:
            return 0, b""


@contextmanager
def serving(lab: Lab, service: Service) -> Iterator[Served]:
    """Started, warm, and Redis empty.

    Raises:
        RuntimeError: it takes no job within START seconds, or takes what it should not.
    """
    port, (key, entry) = free_port(), api_keys.new("bench", ["enqueue", "read"])
    words = tuple(word.replace("{port}", str(port)) for word in service.command)
    environment = {
        "PORT": str(port),
        "API_KEYS": str(entry),
        "API_PROCESSES": WORKERS,
        "FLOWER_UNAUTHENTICATED_API": "true",
    }
    with lab.started(service.peer, words, **environment) as (command,):
        served = Served(service, port, key, lab.folder, command)
        if wait_until(lambda: served.ask(service.call)[0] == service.status, START, every=0.1) is None:
            raise RuntimeError(f"it does not take jobs: {served.ask(service.call)}")
        time.sleep(SETTLE)
        if service.path == JOBLINE.path:
            _check_strict(served)
        served.post(json.dumps(service.call).encode(), 4, WARM_UP)
        lab.server.empty()
        yield served


def _check_strict(served: Served) -> None:
    """Jobline is measured with everything on: keys, validation, and requests that act once."""
    call = served.service.call
    twice = {served.ask(call, Idempotency_Key="the same")[1] for _ in range(2)}
    wrong = served.ask({**call, "args": ["no number"]})[0], served.ask(call, Authorization="Bearer none")[0]
    if len(twice) != 1 or wrong != (422, 401):
        raise RuntimeError(f"it is not strict: {len(twice)} jobs for one Idempotency-Key, {wrong}")
