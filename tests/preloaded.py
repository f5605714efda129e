"""Starts Jobline's processes for tests as forks of one that has imported their libraries, which is most of a start.

A fork behaves as `python ARGUMENTS` does, in a session of its own, and is a child of the process that forked it: of
`python tests/preloaded.py`, which `Preloaded` starts. Whether a plain start works too, test_run.py shows.
"""

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, Any

MODULES = (
    "rq.cli",
    "rq.cron",
    "app.worker",
    "app.log",
    "app.schedules.process",
    "app.api.application",
    "app.api.server",
)
"""What is imported ahead: nothing that reads settings or jobs/."""
RUNS = (("-m", "rq.cli"), ("-m", "app.api.server"), ("-m", "scheduler"), ("scheduler.py",))
"""How the arguments begin of what is forked."""
FOREVER = 86_400.0  # seconds
ROOT = Path(__file__).parent.parent


class Process:
    """A forked process, as `subprocess.Popen` shows its own."""

    stdin = stderr = None

    def __init__(self, args: list[str], pid: int, stdout: IO[bytes], status: int) -> None:
        self.args, self.pid, self.stdout, self.returncode = args, pid, stdout, None
        self._status = os.fdopen(status, "rb")

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not _readable(self._status, timeout):
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            self.returncode = os.waitstatus_to_exitcode(int(self._status.read()))
            self._status.close()
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[bytes, None]:
        end, printed = time.monotonic() + (FOREVER if timeout is None else timeout), list[bytes]()
        while not self.stdout.closed and _readable(self.stdout, end - time.monotonic()):
            part = os.read(self.stdout.fileno(), 65536)
            if not part:
                break
            printed.append(part)
        self.wait(max(end - time.monotonic(), 0))
        self.stdout.close()
        return b"".join(printed), None

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Preloaded:
    """The process that has the modules and forks."""

    def __init__(self) -> None:
        self._line, theirs = socket.socketpair()
        self._lock = threading.Lock()
        words = [sys.executable, __file__, str(theirs.fileno())]
        with theirs:
            self._process = subprocess.Popen(
                words,
                pass_fds=[theirs.fileno()],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )

    def start(self, words: tuple[str, ...], cwd: Path, env: dict[str, str]) -> Process:
        (printed, stdout), (ended, status) = os.pipe(), os.pipe()
        request = json.dumps({"words": words, "cwd": str(cwd), "env": env}).encode()
        with self._lock:
            socket.send_fds(self._line, [request + b"\n"], [stdout, status])
            pid = int(self._line.recv(32))
        os.close(stdout)
        os.close(status)
        return Process([sys.executable, *words], pid, os.fdopen(printed, "rb"), ended)

    def close(self) -> None:
        self._line.close()
        self._process.wait(30)


@functools.cache
def preloaded() -> Preloaded:
    """The one of this run, started at its first use."""
    process = Preloaded()
    atexit.register(process.close)
    return process


def forkable(words: tuple[str, ...]) -> bool:
    return any(words[: len(begin)] == begin for begin in RUNS)


def serve(line: socket.socket) -> dict[str, Any]:
    """Fork for each request, and report each end, until the line is closed. Returns in a fork, with its request."""
    for name in MODULES:
        importlib.import_module(name)
    assert "jobs" not in sys.modules
    gc.collect()
    gc.freeze()
    woken, wake = socket.socketpair()
    wake.setblocking(False)
    statuses: dict[int, int] = {}
    while True:
        signal.set_wakeup_fd(wake.fileno())
        signal.signal(signal.SIGCHLD, lambda *_: None)
        _report_ends(statuses)  # of those that ended while nobody was told of it
        ready, _, _ = select.select([line, woken], [], [])
        if woken in ready:
            woken.recv(4096)
            _report_ends(statuses)
        if line not in ready:
            continue
        request, (stdout, status) = _receive(line)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        pid = os.fork()
        if pid == 0:
            _become(request, stdout)
            for end in (line, woken, wake):
                end.close()
            for descriptor in (stdout, status, *statuses.values()):
                os.close(descriptor)
            return request
        os.close(stdout)
        statuses[pid] = status
        line.sendall(str(pid).encode())


def _receive(line: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Ends this process if there is nobody left to ask."""
    text, descriptors, _, _ = socket.recv_fds(line, 1 << 20, 2)
    while text and not text.endswith(b"\n"):
        text += line.recv(1 << 20)
    if not text:
        sys.exit()
    return json.loads(text), descriptors


def _report_ends(statuses: dict[int, int]) -> None:
    for pid, descriptor in list(statuses.items()):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            os.write(descriptor, str(status).encode())
            os.close(statuses.pop(pid))


def _become(request: dict[str, Any], stdout: int) -> None:
    os.setsid()
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    os.dup2(stdout, 1)
    os.dup2(stdout, 2)


def run(words: list[str]) -> None:
    """As `python WORDS`."""
    if words[0] == "-m":
        sys.argv, sys.path[0] = words[1:], str(Path.cwd())
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv, sys.path[0] = words, str(Path(words[0]).resolve().parent)
        runpy.run_path(words[0], run_name="__main__")


def _readable(stream: IO[bytes], timeout: float | None) -> bool:
    poll = select.poll()
    poll.register(stream, select.POLLIN)
    return bool(poll.poll(None if timeout is None else max(timeout, 0) * 1000))


if __name__ == "__main__":
    sys.path[0] = str(ROOT)
    run(serve(socket.socket(fileno=int(sys.argv[1])))["words"])
