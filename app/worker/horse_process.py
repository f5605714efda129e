"""The process of a work horse, as its parent sees it: start, wake, freeze, kill, wait."""

import contextlib
import ctypes
import os
import signal
import socket
import sys
import time
from collections.abc import Callable

from app.worker.prefetched import PrefetchedExecutions
from app.worker.shared_status import Running, SharedStatus

FREEZE_TIMEOUT_SECONDS = 1.0  # seconds
PR_SET_PDEATHSIG = 1  # prctl(2), Linux

Life = Callable[[SharedStatus, PrefetchedExecutions, socket.socket], int]


class HorseProcess:
    """Forks in the constructor. `life` runs in the child and returns an exit code."""

    def __init__(self, life: Life, places: int = 1) -> None:
        """`places`: how many jobs it runs at once."""
        self.status_board, self.prefetched = SharedStatus(places), PrefetchedExecutions()
        self.status: int | None = None
        self.settled = False
        self._ticks, self._moved_at = self.status_board.ticks, time.monotonic()
        self._socket, theirs = socket.socketpair()
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                self._socket.close()
                os.setpgrp()
                _die_with(parent)
                code = life(self.status_board, self.prefetched, theirs)
            finally:
                sys.stdout.flush()
                os._exit(code)
        theirs.close()

    def order_to_stop(self) -> None:
        """Order it to finish its jobs and exit."""
        self.status_board.order_to_stop()
        self._wake()

    def abort(self, running: Running) -> None:
        """Ask it to abort one of its jobs."""
        self.status_board.abort(running.execution_id)
        self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.send(b"!")

    def ended(self) -> bool:
        """Whether the process has ended. Then `status` is its wait status."""
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.status = status if pid else None
        return self.status is not None

    def seconds_since_move(self) -> float:
        """Seconds since the horse last updated its status."""
        ticks, now = self.status_board.ticks, time.monotonic()
        if ticks != self._ticks:
            self._ticks, self._moved_at = ticks, now
        return now - self._moved_at

    def kill_if_running(self, running: Running) -> bool:
        """Kill the horse in the middle of this job, never in the next one: it is stopped while its status is read."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGSTOP)
            self._wait_frozen()
            if self.status is None and running in self.status_board.running:
                self.kill()
                return True
            os.kill(self.pid, signal.SIGCONT)
        return False

    def _wait_frozen(self) -> None:
        end = (
            time.monotonic() + FREEZE_TIMEOUT_SECONDS
        )  # one that cannot be stopped, deep in the kernel, does not go on either
        while time.monotonic() < end:
            pid, status = os.waitpid(self.pid, os.WNOHANG | os.WUNTRACED)
            if pid and not os.WIFSTOPPED(status):
                self.status = status
            if pid:
                return
            time.sleep(0.0005)

    def kill(self) -> None:
        """Kill its whole process group."""
        if self.status is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)

    def wait(self) -> None:
        """Until it has ended."""
        if self.status is None:
            self.status = os.waitpid(self.pid, 0)[1]

    def close(self) -> None:
        """Release its resources. Call it when the horse has ended and all that it held is recovered."""
        self.settled = True
        self._socket.close()
        self.prefetched.close()


def why(status: int) -> str:
    """Describe a wait status."""
    if not os.WIFSIGNALED(status):
        return f"exit code {os.waitstatus_to_exitcode(status)}: the job ended its process"
    number = os.WTERMSIG(status)
    hint = {
        signal.SIGKILL: "out of memory, or killed by hand",
        signal.SIGSEGV: "a crash in native code",
        signal.SIGABRT: "aborted in native code",
        signal.SIGBUS: "a crash in native code",
    }.get(signal.Signals(number), "")
    return f"signal {number} ({signal.Signals(number).name})" + (f": {hint}" if hint else "")


def _die_with(parent: int) -> None:
    """Let the kernel kill this process with its parent: a horse must not run on without a lease. Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
