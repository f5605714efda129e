"""`python -m app`: real processes, real kills."""

import json
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.conftest import Project, free_port, until


class Run:
    """One `python -m app` on an embedded Valkey of its own."""

    def __init__(self, project: Project) -> None:
        self.project, self.port = project, free_port()
        self.process = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        self.process = self.project.start("-m", "app", REDIS_URL="", PORT=str(self.port))
        return self.process

    @property
    def data(self) -> Path:
        return self.project.folder / "data"

    def wait(self) -> None:
        """Until this run, not one before it, says that it is ready."""
        self.wait_for(b'"event":"ready"')

    def wait_for(self, said: bytes) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            if said in line:
                return
        raise AssertionError(f"it ended without saying {said!r}")

    def get(self, path: str) -> Any:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=20) as answer:
                return json.load(answer)
        except OSError:
            return None

    def call(self, function: str, **arguments: object) -> Any:
        url = f"http://127.0.0.1:{self.port}/api/v1/functions/{function}/jobs"
        headers = {"Content-Type": "application/json", "Prefer": "wait=20"}
        with urllib.request.urlopen(
            urllib.request.Request(url, json.dumps(arguments).encode(), headers), timeout=30
        ) as answer:
            return json.load(answer)

    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)


def alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


@pytest.fixture
def run(project: Project) -> Iterator[Run]:
    found = Run(project)
    yield found
    if found.process.poll() is None:
        found.process.send_signal(signal.SIGINT)
        found.process.communicate(timeout=60)


def test_it_runs_a_job_picks_up_a_new_one_and_leaves_nothing(run: Run) -> None:
    run.wait()
    assert run.call("demo.add", a=1, b=2)["result"] == 3
    run.project.write("fresh", "def hello() -> str:\n    return 'hello'\n")
    assert run.call("fresh.hello")["result"] == "hello"
    family = run.family()
    run.process.send_signal(signal.SIGINT)
    assert run.process.wait(40) == 0
    assert [process for process in family if alive(process)] == []


def test_a_killed_run_leaves_nothing_in_the_way_and_its_data(run: Run) -> None:
    run.wait()
    job_id = run.call("demo.add", a=1, b=2)["id"]
    left, address = run.family(), (run.data / "redis.url").read_text()
    run.process.kill()
    run.process.wait()
    run.start()
    run.wait()
    assert (run.data / "redis.url").read_text() == address
    assert not any(alive(process) for process in left)
    assert run.get(f"/api/v1/jobs/{job_id}")["result"] == 3


def test_valkey_has_the_same_address_at_the_next_start_which_rq_info_takes(run: Run) -> None:
    run.wait()
    address = (run.data / "redis.url").read_text()
    run.process.send_signal(signal.SIGINT)
    assert run.process.wait(40) == 0
    run.start()
    run.wait_for(address.encode())  # it is printed
    command = [sys.executable, "-m", "rq.cli", "info", "--url", address]
    assert subprocess.run(command, check=False, timeout=30, stdout=subprocess.DEVNULL).returncode == 0


def test_a_second_run_on_the_same_data_says_so(run: Run) -> None:
    run.wait()
    second = run.project.start("-m", "app", REDIS_URL="", PORT=str(free_port()))
    output, _ = second.communicate(timeout=30)
    assert second.returncode == 1
    assert b"another run uses" in output


def test_a_taken_port_is_one_clear_line(project: Project) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        process = project.start("-m", "app", REDIS_URL="", PORT=str(port))
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert output.decode().strip() == f"jobline: port {port} is taken: set PORT to another"


def test_a_part_that_dies_comes_back(run: Run) -> None:
    run.wait()
    known = {entry["pid"] for entry in json.loads((run.data / "processes.json").read_text())}
    worker = next(p for p in run.family() if p.pid in known and "rq.cli" in p.cmdline())
    server = next(p for p in run.family() if "valkey-server" in p.name())
    worker.kill()
    server.kill()
    assert until(lambda: (run.get("/readyz") or {}).get("redis") == "ok", 40)
    assert run.call("demo.add", a=2, b=2)["result"] == 4


@pytest.mark.parametrize(("grace", "again"), [("1", False), ("60", True)], ids=["after the grace", "second Ctrl-C"])
def test_a_job_that_does_not_end_is_not_left_behind(
    project: Project, monkeypatch: pytest.MonkeyPatch, grace: str, again: bool
) -> None:
    monkeypatch.setenv("SHUTDOWN_GRACE", grace)
    project.write("slow", "import time\n\n\ndef nap() -> None:\n    time.sleep(300)\n")
    run = Run(project)
    run.wait()
    url = f"http://127.0.0.1:{run.port}/api/v1/functions/slow.nap/jobs"
    urllib.request.urlopen(urllib.request.Request(url, b"{}", {"Content-Type": "application/json"}), timeout=20).close()

    def horses() -> list[psutil.Process]:
        return [child for part in run.family() if "rq.cli" in part.cmdline() for child in part.children()]

    until(horses)
    family = run.family()
    run.process.send_signal(signal.SIGINT)
    if again:
        run.wait_for(b"stopping")
        run.process.send_signal(signal.SIGINT)
    assert run.process.wait(20) == 0
    assert [process for process in family if alive(process)] == []


def test_an_address_that_cannot_be_bound_is_not_called_taken(project: Project) -> None:
    process = project.start(
        "-m", "app", REDIS_URL="", HOST="192.0.2.1", PORT=str(free_port()), API_KEYS=f"a:read:{'0' * 64}"
    )
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert b"taken" not in output
    assert b"192.0.2.1" in output
