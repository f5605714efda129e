"""`python -m app`: runs Valkey, API, workers and scheduler in the foreground, and stops them together.

The supervisor holds DATA_DIR/lock while it runs. Files that it and its parts write are closed to other users. Each
part has its own session, so Ctrl-C reaches only the supervisor. It stops the parts in order: those that create or run
jobs first, Valkey last. A part that dies is restarted, with backoff.
"""

import contextlib
import errno
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import psutil
import structlog

from app import log
from app.processes import greeting
from app.redis import embedded, private_files
from app.settings import Settings

MIN_BACKOFF_SECONDS, MAX_BACKOFF_SECONDS = 0.5, 30.0
BACKOFF_RESET_SECONDS = 60.0  # after this uptime of a part, the backoff starts at the minimum again
CHECK_INTERVAL_SECONDS = 0.5
PERSISTENT_FILES = ("valkey", "storage", "jobline.db", "valkey.log", "lock")
"""Files kept in DATA_DIR between runs. Closed at each start: an earlier version may have left them open."""

logger = structlog.get_logger("jobline")


class CannotStart(Exception):
    """The supervisor cannot start. The message is one line for the terminal."""


class Part:
    """A child process that is restarted when it dies."""

    def __init__(self, name: str, command: list[str], env: dict[str, str]) -> None:
        self.name, self.command, self.env = name, command, env
        self.backoff = MIN_BACKOFF_SECONDS
        self.restart_at = 0.0
        self.start()

    def start(self) -> None:
        self.started_at = time.monotonic()
        self.process = subprocess.Popen(self.command, env=self.env, start_new_session=True, stdin=subprocess.DEVNULL)

    def watch(self) -> None:
        """Restart the process if it has died and its backoff has passed."""
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
    """Handler of SIGINT and SIGTERM. The first raises KeyboardInterrupt, later ones are only counted."""

    def __init__(self) -> None:
        self.count = 0
        for number in (signal.SIGINT, signal.SIGTERM):  # SIGINT too: in a shell's background job it is ignored
            signal.signal(number, self._received)

    def _received(self, *_: object) -> None:
        self.count += 1
        if self.count == 1:
            raise KeyboardInterrupt


def run(settings: Settings) -> int:
    """Run until Ctrl-C or SIGTERM. Returns the exit code."""
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
        greeting.greet(settings, url)
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
    """Return the URL of Redis. Starts the embedded server if REDIS_URL is not set."""
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
    """Return whether Valkey answers PING, and is not loading. Uses a socket: a redis-py client doubles the memory."""
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
    """Write the running processes to a file, if they changed: the next run stops them if this one is killed."""
    running = []
    for part in parts:
        with contextlib.suppress(psutil.NoSuchProcess):
            running.append({"pid": part.process.pid, "born": psutil.Process(part.process.pid).create_time()})
    text, file = json.dumps(running), data_dir / "processes.json"
    if not file.exists() or file.read_text() != text:
        private_files.write(file, text)


def _stop_leftovers(data_dir: Path) -> None:
    """Stop the processes that a killed run left behind, Valkey (which started first) last."""
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


def _stop(parts: list[Part], grace: float, interrupts: Interrupts) -> None:
    """Stop the parts and all their descendants: Valkey last. A second Ctrl-C kills them without waiting."""
    others, server = [p for p in parts if p.name != "valkey"], [p for p in parts if p.name == "valkey"]
    tree = _process_tree(others)  # a work horse has its own process group, and may outlive its worker
    for timeout in (grace + 2, 2.0):  # at the second SIGTERM, RQ's worker stops its job
        _terminate(others, timeout, interrupts)
    _kill(tree | _process_tree(others))
    _terminate(server, 10.0)
    _kill(_process_tree(server))


def _terminate(parts: list[Part], timeout: float, interrupts: Interrupts | None = None) -> None:
    """Send SIGTERM, then wait up to `timeout` seconds for the parts to exit, or until the second interrupt."""
    for part in parts:
        part.process.terminate()
    end = time.monotonic() + timeout
    while any(part.process.poll() is None for part in parts) and time.monotonic() < end:
        if interrupts and interrupts.count > 1:
            return
        time.sleep(0.02)


def _process_tree(parts: list[Part]) -> set[psutil.Process]:
    """Return the running parts and all their descendants."""
    processes: set[psutil.Process] = set()
    for part in parts:
        with contextlib.suppress(psutil.NoSuchProcess):
            if part.process.poll() is None:
                process = psutil.Process(part.process.pid)
                processes |= {process, *process.children(recursive=True)}
    return processes


def _kill(processes: Iterable[psutil.Process]) -> None:
    left = [process for process in processes if process.is_running()]  # false if another process has its pid now
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left, timeout=5)
