"""What every test may use: a fast fake Redis, a real Valkey, settings, and the application on either."""

import contextlib
import importlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fakeredis
import pytest
import redis

import jobs
from app.catalog import catalog, function
from app.redis import embedded
from app.settings import Settings, get_settings
from app.views import job_view
from tests.preloaded import Process, forkable, preloaded
from tests.receiver import Receiver, listening

ROOT = Path(__file__).parent.parent
pytest_plugins = ["tests.plugin", "app.testing.fixtures"]


def until(condition: Callable[[], Any], seconds: float = 20) -> Any:
    """What `condition` returns once it is true; fails after `seconds`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError(f"not so after {seconds} s")


PORTS = range(20_000, 32_000)
"""Below those that systems give to outgoing connections, which could take a port before its server binds it."""


def free_port() -> int:
    while True:
        with socket.socket() as found, contextlib.suppress(OSError):
            found.bind(("127.0.0.1", random.choice(PORTS)))
            return int(found.getsockname()[1])


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    for name in ("REDIS_URL", "API_KEYS", "HOST", "PORT", "WEBHOOK_URL", "WEBHOOK_SECRET"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))
    get_settings.cache_clear()
    yield
    get_settings.cache_clear()


@pytest.fixture(autouse=True)
def concurrency(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many jobs the workers of the test run at once: the mark `concurrency` gives the numbers."""
    number: int | None = getattr(request, "param", None)
    if number is not None:
        monkeypatch.setenv("CONCURRENCY", str(number))
    return number or 1


@pytest.fixture
def fake() -> redis.Redis:
    return fakeredis.FakeRedis()


class Server:
    """A Valkey that can be killed and started again on the same data."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        (folder / "valkey").mkdir(parents=True)
        self.process: subprocess.Popen[bytes] | None = None
        self.url, self.connection = f"redis://127.0.0.1:{self.port}/0", redis.Redis(port=self.port)

    def start(self) -> None:
        self.process = subprocess.Popen(embedded.command(self.folder, self.port), stdout=subprocess.DEVNULL)
        until(self._answers)

    def kill(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()

    def _answers(self) -> bool:
        try:
            return bool(self.connection.ping())
        except redis.RedisError:
            return False


@pytest.fixture(scope="session")
def valkey_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Valkey for the whole run."""
    server = Server(tmp_path_factory.mktemp("valkey"))
    server.start()
    yield server.url
    assert server.process
    server.process.send_signal(signal.SIGTERM)
    server.process.wait(10)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A Valkey of the test's own, to be started."""
    found = Server(tmp_path / "server")
    yield found
    found.connection.close()
    found.kill()


@pytest.fixture
def valkey(valkey_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[redis.Redis]:
    """The real Valkey, empty; REDIS_URL names it."""
    monkeypatch.setenv("REDIS_URL", valkey_url)
    client = redis.Redis.from_url(valkey_url)
    client.flushall()
    yield client
    client.close()


@pytest.fixture
def settings() -> Settings:
    return get_settings()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Where webhooks arrive."""
    with listening() as found:
        yield found


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty package that the catalogue looks into, in place of `jobs/`."""
    folder = tmp_path / "sample"
    folder.mkdir()
    (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    for module in (catalog, function):
        monkeypatch.setattr(module, "PACKAGE", "sample")
    yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] == "sample"]:
        del sys.modules[name]


@pytest.fixture
def write_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], None]]:
    """Adds a module to `jobs/` for this test: write_module("shop", "def total(): ...")."""
    folder = tmp_path / "more_jobs"
    folder.mkdir()
    monkeypatch.setattr(jobs, "__path__", [*jobs.__path__, str(folder)])
    names: list[str] = []

    def write(name: str, source: str) -> None:
        names.append(name)
        (folder / f"{name}.py").write_text(source)
        importlib.invalidate_caches()

    yield write
    for name in names:
        sys.modules.pop(f"jobs.{name}", None)
        vars(jobs).pop(name, None)


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes that are killed at the end of the test if they still run, paused or not."""
    processes: list[subprocess.Popen[bytes]] = []
    yield processes
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=20)


RQ_WORKER = ("-m", "rq.cli", "worker", "-w", "app.worker.Worker", "-c", "app.worker_config")


def status(connection: redis.Redis, job_id: str) -> str:
    job = job_view.fetch(connection, [job_id])[0]
    return str(job["status"]) if job else "none"


class Project:
    """A project of its own, with its own jobs/, on the code under test."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url = folder, url
        (folder / "jobs").mkdir(parents=True)
        for name in ("app", "scheduler.py"):
            (folder / name).symlink_to(ROOT / name)
        for name in ("__init__.py", "demo.py"):
            shutil.copy(ROOT / "jobs" / name, folder / "jobs" / name)

    def write(self, module: str, source: str) -> None:
        (self.folder / "jobs" / f"{module}.py").write_text(source)

    def start(self, *words: str, **environment: str) -> subprocess.Popen[bytes] | Process:
        env = {**os.environ, "REDIS_URL": self.url, "DATA_DIR": str(self.folder / "data"), **environment}
        if forkable(words):
            return preloaded().start(words, self.folder, env)
        return subprocess.Popen(
            [sys.executable, *words],
            cwd=self.folder,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def work(self, *words: str, worker: str = "app.worker.Worker", **environment: str) -> str:
        """`rq worker --burst` until it has no more to do; what it printed."""
        process = self.start(
            "-m", "rq.cli", "worker", "-w", worker, "-c", "app.worker_config", "--burst", *words, **environment
        )
        output, _ = process.communicate(timeout=60)
        return output.decode()


@pytest.fixture
def project(tmp_path: Path, valkey: redis.Redis, valkey_url: str) -> Project:
    return Project(tmp_path / "project", valkey_url)
