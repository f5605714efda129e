"""`python -m app`: real processes, real kills."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
import redis

from tests.conftest import ROOT, Project, free_port, until


class Run:
    """One `python -m app` on an embedded Valkey of its own."""

    def __init__(self, project: Project, data: Path | None = None) -> None:
        self.project, self.port, self.data = project, free_port(), data or project.folder / "data"
        self.process = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        self.process = self.project.start("-m", "app", REDIS_URL="", PORT=str(self.port), DATA_DIR=str(self.data))
        return self.process

    def wait(self) -> bytes:
        """Until this run, not one before it, says that it is ready; what it has said."""
        return self.wait_for(b'"event":"ready"')

    def wait_for(self, said: bytes) -> bytes:
        assert self.process.stdout
        lines = []
        for line in self.process.stdout:
            lines.append(line)
            if said in line:
                return b"".join(lines)
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


def test_a_run_on_which_all_is_well_warns_of_nothing(run: Run) -> None:
    said = run.wait()
    assert run.call("demo.add", a=1, b=2)["result"] == 3
    run.process.send_signal(signal.SIGINT)
    lines = [json.loads(line) for line in (said + run.process.communicate(timeout=60)[0]).splitlines()]
    assert [line for line in lines if line["level"] != "info"] == []
    assert "ready" in {line["event"] for line in lines}


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
    port = urlsplit(address).port
    run.wait_for(f"redis://127.0.0.1:{port}/0".encode())  # it is printed, without the password
    command = [sys.executable, "-m", "rq.cli", "info"]
    for words, environment in ((["--url", address], {}), ([], {"RQ_REDIS_URL": address})):
        done = subprocess.run([*command, *words], timeout=30, capture_output=True, env={**os.environ, **environment})
        assert (done.returncode, b"1 workers" in done.stdout) == (0, True)


def test_a_worker_of_another_terminal_finds_valkey(run: Run) -> None:
    run.wait()
    run.project.write("fresh", "def hello() -> str:\n    return 'hello'\n")
    body = json.dumps({"function": "fresh.hello", "queue": "other"}).encode()
    url = f"http://127.0.0.1:{run.port}/api/v1/jobs"
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        job_id = json.load(answer)["id"]
    run.project.work("other", REDIS_URL="", DATA_DIR=str(run.data))
    assert run.get(f"/api/v1/jobs/{job_id}")["result"] == "hello"


FILES = """
from pathlib import Path

from app import Context, job
from jobs import _database  # its hooks open the database
from jobs._files import replacing, target


def write(context: Context) -> None:
    from sqlalchemy import text

    with replacing(target("reports/one.txt")) as partial:
        partial.write_text("text of a job")
    with context.database.engine.begin() as connection:
        connection.execute(text("CREATE TABLE one (text)"))
"""


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that all users can look into: pytest's own are closed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@pytest.fixture
def closed(project: Project, open_folder: Path) -> Iterator[Run]:
    """One whose DATA_DIR all users can look into, with files that an earlier version has made. A job has written."""
    data = open_folder / "data"
    for folder in (data, data / "valkey", data / "storage"):
        folder.mkdir(mode=0o755)
    for name in ("redis.url", "jobline.db", "valkey.log", "lock", "processes.json", "storage/old.txt"):
        (data / name).touch(mode=0o644)
    for name in ("_database.py", "_files.py"):
        (project.folder / "jobs" / name).symlink_to(ROOT / "jobs" / name)
    project.write("files", FILES)
    run = Run(project, data)
    run.wait()
    assert run.call("files.write")["status"] == "finished"
    yield run
    run.process.send_signal(signal.SIGINT)
    run.process.communicate(timeout=60)


def test_other_users_may_read_nothing_that_a_run_has_made(closed: Run) -> None:
    made = {str(path.relative_to(closed.data)): path.stat().st_mode & 0o077 for path in closed.data.iterdir()}
    assert {"valkey", "valkey.conf", "redis.url", "storage", "jobline.db", "processes.json"} <= set(made)
    assert set(made.values()) == {0}
    paths = [str(path) for path in closed.data.rglob("*") if path.is_file()]
    assert str(closed.data / "storage/reports/one.txt") in paths
    paths += [f"/proc/{process.pid}/environ" for process in closed.family()]
    if os.geteuid() == 0:  # only root may become another user
        tried = subprocess.run(["cat", *paths], user=65534, group=65534, extra_groups=[], capture_output=True)
        assert tried.stdout == b""
        assert tried.stderr.count(b"Permission denied") == len(paths)


def test_valkey_wants_its_password_which_no_argument_or_output_has(closed: Run) -> None:
    address = urlsplit((closed.data / "redis.url").read_text())
    assert address.password
    assert address.port
    with pytest.raises(redis.AuthenticationError):
        redis.Redis(port=address.port).ping()
    assert redis.Redis(port=address.port, password=address.password).ping()
    processes = [psutil.Process(closed.process.pid), *closed.family()]
    assert any("valkey-server" in process.name() for process in processes)
    assert address.password not in " ".join(word for process in processes for word in process.cmdline())
    closed.process.send_signal(signal.SIGINT)
    output, _ = closed.process.communicate(timeout=60)
    assert address.password.encode() not in output + (closed.data / "valkey.log").read_bytes()


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
