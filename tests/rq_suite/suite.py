"""RQ's test suite, from the source distribution of the version that is installed: each file on a server of its own."""

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import psutil
import redis

from app.redis import embedded
from tests.conftest import ROOT, free_port, until

VERSION = version("rq")
CACHE = ROOT / ".cache" / "rq-suite"
EXPECTED = Path(__file__).parent / "expected_failures.txt"
FILE_LIMIT = 180
"""Seconds for one of RQ's files; each test has its own limit, in plugin.py."""
FILES = (
    "test_worker.py",
    "test_cli.py",
    "test_scheduler.py",
    "test_worker_pool.py",
    "test_job.py",
    "test_job_dependency.py",
    "test_commands.py",
    "test_executions.py",
    "test_retry.py",
    "test_dependencies.py",
    "test_results.py",
    "test_callbacks.py",
    "test_fixtures.py",
    "test_intermediate_queue.py",
    "test_queue.py",
    "test_registry.py",
    "test_repeat.py",
    "test_utils.py",
    "test_worker_registration.py",
)
"""Those of RQ 2.12 that name the class Worker, or start one by a fixture or a command; the longest first."""
ENVIRONMENT = {name: text for name, text in os.environ.items() if not name.startswith(("RQ_", "REDIS_", "PYTEST_"))}
PYTEST = ("-p", "no:cacheprovider", "--disable-plugin-autoload", "--assert=plain")
"""RQ's tests are of unittest: they need no plugins and no rewritten asserts, which take longer than many a file."""
MARK = uuid.uuid4().hex
"""In the environment of every process that this one starts here."""


@dataclass
class Outcome:
    """What became of the tests of one of RQ's files."""

    failures: dict[str, str] = field(default_factory=dict)
    """Tracebacks by id."""
    passed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    trouble: str = ""
    """Why not every test ran, if so, and the end of what pytest printed."""


def expected_failures() -> dict[str, str]:
    """The reasons by id."""
    lines = [line.strip() for line in EXPECTED.read_text().splitlines()]
    entries = [line.partition(" ") for line in lines if line and not line.startswith("#")]
    return {test: reason.strip() for test, _, reason in entries}


def source() -> Path:
    """The source distribution that requirements.lock names: from the cache, or downloaded into it."""
    archive = CACHE / f"rq-{VERSION}.tar.gz"
    if not archive.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:  # another process may be doing the same
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
            subprocess.run([*pip, "--no-binary", "rq", "--dest", folder, f"rq=={VERSION}"], check=True)
            (Path(folder) / archive.name).replace(archive)
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    assert digest in (ROOT / "requirements.lock").read_text(), f"requirements.lock does not name this {archive}"
    return archive


def unpack(folder: Path, port: int) -> None:
    """RQ's tests in `folder`/tests, edited to use our server, and `folder` for /tmp."""
    with tarfile.open(source()) as archive:
        for member in archive:
            member.name = member.name.partition("/")[2]
            if member.name == "pyproject.toml" or member.name.startswith("tests/"):
                archive.extract(member, folder, filter="data")
    edits = {
        "127.0.0.1:6379": f"127.0.0.1:{port}",
        "'/tmp/": f"'{folder}/",
        "sleep(0.75)": "sleep(2)",  # until a worker has stopped: RQ's own takes 0.3 seconds, and now and then 1.3
    }
    for file in (folder / "tests").glob("*.py"):
        text = file.read_text()
        for old, new in edits.items():
            text = text.replace(old, new)
        file.write_text(text + ("\nimport rq_suite.redirect\n" if file.name == "__init__.py" else ""))


@contextlib.contextmanager
def server(folder: Path) -> Iterator[int]:
    """A Valkey in `folder`; its port."""
    port = free_port()
    (folder / "valkey").mkdir()
    process = subprocess.Popen(embedded.command(folder, port), stdout=subprocess.DEVNULL)
    client = redis.Redis(port=port)

    def answers() -> bool:
        with contextlib.suppress(redis.RedisError):
            return bool(client.ping())
        return False

    try:
        until(answers)
        yield port
    finally:
        client.close()
        process.terminate()
        process.wait(10)


def run(file: str, *words: str, stock: bool = False) -> Outcome:
    """The tests of one file under our worker, or under RQ's own if `stock`; `words` are pytest's."""
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as made, server(Path(made)) as port:
        folder = Path(made)
        unpack(folder, port)
        trouble = _pytest(folder, port, [f"tests/{file}", *words], stock)
        outcome = Outcome(trouble=trouble, seconds=time.monotonic() - begin)
        lines = [json.loads(line) for line in (folder / "report").read_text().splitlines()]
    ended = {line["id"] for line in lines if line["outcome"] != "begun"}
    for line in lines:
        if line["outcome"] == "failed":
            outcome.failures[line["id"].removeprefix("tests/")] = line["text"]
        elif line["outcome"] == "begun" and line["id"] not in ended:
            outcome.failures[line["id"].removeprefix("tests/")] = "the whole run ended in the middle of it"
    outcome.passed = sum(line["outcome"] == "passed" for line in lines)
    outcome.skipped = sum(line["outcome"] == "skipped" for line in lines)
    return outcome


def _pytest(folder: Path, port: int, words: list[str], stock: bool) -> str:
    """Run it to its end, and end all that it leaves behind; what went wrong with the run itself."""
    environment = ENVIRONMENT | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{ENVIRONMENT['PATH']}",
        "PYTHONPATH": os.pathsep.join(map(str, (folder, ROOT, ROOT / "tests"))),
        "DATA_DIR": str(folder / "data"),
        "RQ_SUITE_MARK": f"{MARK}-{port}",
        "RQ_SUITE_PORT": str(port),
        "RQ_SUITE_REPORT": str(folder / "report"),
        "RUN_SLOW_TESTS_TOO": "1",
        **({"RQ_SUITE_STOCK": "1"} if stock else {"RQ_WORKER_CLASS": "rq_suite.adapter.Worker"}),
    }
    command = [sys.executable, "-m", "pytest", "-p", "rq_suite.plugin", *PYTEST, *words]
    (folder / "report").touch()
    with (folder / "printed").open("w") as printed:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=printed,
            start_new_session=True,  # a test that kills its process group kills no more than itself
        )
        try:
            status: int | None = process.wait(FILE_LIMIT)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            end_all(environment["RQ_SUITE_MARK"])
            process.wait()
    if status in (0, 1, 5):  # passed, failed, or none was chosen
        return ""
    ended = f"ended with status {status}" if status else f"was not over after {FILE_LIMIT} s"
    return f"pytest {ended}\n{(folder / 'printed').read_text()[-5000:]}"


def end_all(mark: str = MARK) -> None:
    """Kill the processes of a run, or of all of ours, whatever their parents and groups are by now."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("RQ_SUITE_MARK", "").startswith(mark):
                process.kill()
