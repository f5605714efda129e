"""`python -m app`: Valkey, API, workers and scheduler in the foreground, as one thing that starts and stops.

Holds DATA_DIR/lock while it runs. Other users can read nothing that it or its parts write. Its parts are in sessions of
their own, so that Ctrl-C reaches only the supervisor, which stops them in order: first those that make or run jobs,
Valkey last. A part that dies is started again, with backoff.
"""

import contextlib
import errno
import fcntl
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import psutil
import structlog

from app import log
from app.redis import embedded, private_files
from app.settings import Settings

MIN_BACKOFF_SECONDS, MAX_BACKOFF_SECONDS = 0.5, 30.0  # seconds
BACKOFF_RESET_SECONDS = 60.0  # a part that lived so long starts anew with the first backoff
CHECK_INTERVAL_SECONDS = 0.5
PERSISTENT_FILES = ("valkey", "storage", "jobline.db", "valkey.log", "lock")
"""What is kept in DATA_DIR from run to run: an earlier version may have left it open to other users."""

logger = structlog.get_logger("jobline")


class CannotStart(Exception):
    """One line for the person at the terminal."""


class Part:
    """One process that is kept running."""

    def __init__(self, name: str, command: list[str], env: dict[str, str]) -> None:
        self.name, self.command, self.env = name, command, env
        self.backoff = MIN_BACKOFF_SECONDS
        self.restart_at = 0.0
        self.start()

    def start(self) -> None:
        self.started_at = time.monotonic()
        self.process = subprocess.Popen(self.command, env=self.env, start_new_session=True, stdin=subprocess.DEVNULL)

    def watch(self) -> None:
        """Start it again if it has died, after its backoff."""
        now = time.monotonic()
        if self.process.poll() is None:
            return
        if not self.restart_at:
            if now - self.started_at > BACKOFF_RESET_SECONDS:
                self.backoff = MIN_BACKOFF_SECONDS
            self.restart_at = now + self.backoff
            logger.error("part died", part=self.name, exit_code=self.process.returncode, again_in=self.backoff)
            self.backoff = min(2 * self.backoff, MAX_BACKOFF_SECONDS)
        elif now >= self.restart_at:
            self.restart_at = 0.0
            self.start()


class Interrupts:
    """Ctrl-C and SIGTERM: the first raises KeyboardInterrupt, later ones are counted, and so cut no clean-up short."""

    def __init__(self) -> None:
        self.count = 0
        for number in (signal.SIGINT, signal.SIGTERM):  # SIGINT too: a shell's background job starts with it ignored
            signal.signal(number, self._received)

    def _received(self, *_: object) -> None:
        self.count += 1
        if self.count == 1:
            raise KeyboardInterrupt


def run(settings: Settings) -> int:
    """Until Ctrl-C or SIGTERM; the exit code."""
    log.configure(settings)
    interrupts = Interrupts()
    os.umask(0o077)
    data_dir = settings.data_dir.resolve()
    try:
        (data_dir / "valkey").mkdir(parents=True, exist_ok=True)
        for name in PERSISTENT_FILES:
            private_files.restrict(data_dir / name)
        with _lock(data_dir):
            _stop_leftovers(data_dir)
            _check_port(settings)
            _run(settings, data_dir, interrupts)
    except (CannotStart, embedded.NoEmbeddedServer, PermissionError) as error:
        print(f"jobline: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


def _run(settings: Settings, data_dir: Path, interrupts: Interrupts) -> None:
    parts: list[Part] = []
    try:
        url = _start_redis(settings, data_dir, parts)
        env = {**os.environ, "REDIS_URL": url, "DATA_DIR": str(data_dir), "PYTHONUNBUFFERED": "1"}
        env.setdefault("RELOAD", "1")
        for name, command in _commands(settings).items():
            parts.append(Part(name, command, env))
            _record_processes(data_dir, parts)
        _wait_for_api(settings, parts)
        _greet(settings, url)
        while True:
            for part in parts:
                part.watch()
            _record_processes(data_dir, parts)
            time.sleep(CHECK_INTERVAL_SECONDS)
    except KeyboardInterrupt:
        logger.info("stopping")
    finally:
        _stop(parts, settings.shutdown_grace, interrupts)
        embedded.url_file(data_dir).unlink(missing_ok=True)
        (data_dir / "processes.json").unlink(missing_ok=True)


def _commands(settings: Settings) -> dict[str, list[str]]:
    python = sys.executable
    worker = [python, "-m", "rq.cli", "worker", "-w", "app.worker.Worker", "-c", "app.worker_config"]
    return {
        "api": [python, "-m", "app.api.server"],
        "scheduler": [python, "scheduler.py"],
        **{f"worker-{number}": worker for number in range(1, settings.workers + 1)},
    }


def _start_redis(settings: Settings, data_dir: Path, parts: list[Part]) -> str:
    """The URL of Redis; the embedded server is started if none is set."""
    if settings.redis_url:
        return settings.redis_url.get_secret_value()
    port, password = embedded.choose_port(data_dir), embedded.choose_password(data_dir)
    part = Part("valkey", embedded.command(data_dir, port, embedded.config_file(data_dir)), dict(os.environ))
    parts.append(part)
    _record_processes(data_dir, parts)
    end = time.monotonic() + 60
    while not _valkey_answers(port, password):
        if part.process.poll() is not None or time.monotonic() > end:
            raise CannotStart(f"Valkey did not start: see {data_dir / 'valkey.log'}")
        time.sleep(0.05)
    url = f"redis://:{password}@127.0.0.1:{port}/0"
    private_files.write(embedded.url_file(data_dir), url)
    return url


def _valkey_answers(port: int, password: str) -> bool:
    """Whether Valkey answers PING, and not that it is still loading. By hand: a client would double our memory."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1) as client:
        client.sendall(f"AUTH {password}\r\nPING\r\n".encode())
        with client.makefile("rb") as answers:
            return [answers.readline(), answers.readline()] == [b"+OK\r\n", b"+PONG\r\n"]
    return False


@contextlib.contextmanager
def _lock(data_dir: Path) -> Iterator[IO[str]]:
    with (data_dir / "lock").open("w") as lock_file:
        try:
            fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CannotStart(f"another run uses {data_dir}: stop it, or set DATA_DIR") from None
        yield lock_file


def _check_port(settings: Settings) -> None:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((settings.host, settings.port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise CannotStart(f"port {settings.port} is taken: set PORT to another") from None
            raise CannotStart(f"cannot listen on {settings.host}: {error.strerror}") from None


def _record_processes(data_dir: Path, parts: list[Part]) -> None:
    """Who runs, for the next run to reap if this one is killed. Written only when it changed."""
    found = []
    for part in parts:
        with contextlib.suppress(psutil.NoSuchProcess):
            found.append({"pid": part.process.pid, "born": psutil.Process(part.process.pid).create_time()})
    text, file = json.dumps(found), data_dir / "processes.json"
    if not file.exists() or file.read_text() != text:
        private_files.write(file, text)


def _stop_leftovers(data_dir: Path) -> None:
    """End what a killed run left behind, Valkey (the first that was started) last."""
    try:
        records: list[dict[str, Any]] = json.loads((data_dir / "processes.json").read_text())
    except (OSError, ValueError):
        return
    for entry in reversed(records):
        with contextlib.suppress(psutil.NoSuchProcess):
            left = psutil.Process(entry["pid"])
            if abs(left.create_time() - entry["born"]) < 1:
                tree = [left, *left.children(recursive=True)]
                logger.warning("ending what a killed run left", pid=left.pid)
                left.terminate()
                _, alive = psutil.wait_procs(tree, timeout=5)
                for process in alive:
                    process.kill()
                psutil.wait_procs(alive, timeout=5)


def _wait_for_api(settings: Settings, parts: list[Part]) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        for part in parts:
            part.watch()
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"{settings.url}/livez", timeout=1).close()  # noqa: S310 - our own http URL
            return
        time.sleep(0.1)
    logger.error("the API does not answer", url=settings.url)


def _greet(settings: Settings, url: str) -> None:
    base, named = settings.url, urlsplit(url)
    shown = named._replace(netloc=named.netloc.rpartition("@")[2], query="").geturl()  # without its password
    secured = bool(settings.api_keys.get_secret_value().strip())
    if not sys.stdout.isatty():
        logger.info("ready", url=base, redis=shown, secured=secured)
        return
    key = " -H 'Authorization: Bearer KEY'" if secured else ""
    lines = [
        "",
        "  Jobline is ready." + ("" if secured else " It has no API keys: whoever can use this machine can use it."),
        "",
        f"  Start page  {base}/",
        f"  API docs    {base}/docs",
        f"  Dashboard   {base}/dashboard/",
        f"  Redis       {shown}",
    ]
    if settings.redis_url is None:
        file = shlex.quote(str(embedded.url_file(settings.data_dir)))
        lines.append(f"""  Queues      RQ_REDIS_URL="$(cat {file})" .venv/bin/rq info""")
    lines += [
        "  Stop        Ctrl-C; jobs that wait stay for the next start",
        "",
        "  Run a job:",
        f"  curl -s {base}/api/v1/functions/demo.add/jobs{key} -H 'Content-Type: application/json' \\",
        """       -H 'Prefer: wait=10' -d '{"a": 1, "b": 2}'""",
        "",
    ]
    print("\n".join(lines), flush=True)  # noqa: T201


def _stop(parts: list[Part], grace: float, interrupts: Interrupts) -> None:
    """Those that make or run jobs first; Valkey last. A second Ctrl-C: at once. Nothing that they started is left."""
    others, server = [p for p in parts if p.name != "valkey"], [p for p in parts if p.name == "valkey"]
    tree = _process_tree(others)  # a work horse has a process group of its own, and may outlive its worker
    for timeout in (grace + 2, 2.0):  # RQ's worker ends its job at the second
        _terminate(others, timeout, interrupts)
    _kill(tree | _process_tree(others))
    _terminate(server, 10.0)
    _kill(_process_tree(server))


def _terminate(parts: list[Part], timeout: float, interrupts: Interrupts | None = None) -> None:
    """SIGTERM, and up to `timeout` for them to end, or until the second interrupt."""
    for part in parts:
        part.process.terminate()
    end = time.monotonic() + timeout
    while any(part.process.poll() is None for part in parts) and time.monotonic() < end:
        if interrupts and interrupts.count > 1:
            return
        time.sleep(0.02)


def _process_tree(parts: list[Part]) -> set[psutil.Process]:
    """The parts that live and all that they started."""
    found: set[psutil.Process] = set()
    for part in parts:
        with contextlib.suppress(psutil.NoSuchProcess):
            if part.process.poll() is None:
                process = psutil.Process(part.process.pid)
                found |= {process, *process.children(recursive=True)}
    return found


def _kill(processes: Iterable[psutil.Process]) -> None:
    left = [process for process in processes if process.is_running()]  # false for another process with its pid
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left, timeout=5)
