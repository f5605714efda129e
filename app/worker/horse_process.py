"""The work horse as its parent sees it: a process, its board, and the line to ring it."""

import contextlib
import ctypes
import os
import signal
import socket
import sys
import time
from collections.abc import Callable

from app.worker.prefetched import Box
from app.worker.shared_status import Board, Running

FREEZE_WITHIN = 1.0  # seconds
PR_SET_PDEATHSIG = 1  # prctl(2), Linux

Life = Callable[[Board, Box, socket.socket], int]


class HorseProcess:
    """Forked at once; `life` runs in the child, with its board, box and line, and returns an exit code."""

    def __init__(self, life: Life) -> None:
        self.board, self.box = Board(), Box()
        self.status: int | None = None
        self.settled = False
        self._ticks, self._moved_at = self.board.ticks, time.monotonic()
        self._line, theirs = socket.socketpair()
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                self._line.close()
                os.setpgrp()
                _die_with(parent)
                code = life(self.board, self.box, theirs)
            finally:
                sys.stdout.flush()
                os._exit(code)
        theirs.close()

    def order_to_stop(self) -> None:
        """To finish what it runs and leave."""
        self.board.order_to_stop()
        with contextlib.suppress(OSError):
            self._line.send(b"!")

    def ended(self) -> bool:
        """Whether it has; then `status` is its wait status."""
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.status = status if pid else None
        return self.status is not None

    def still_for(self) -> float:
        """Seconds since it was last seen to move."""
        ticks, now = self.board.ticks, time.monotonic()
        if ticks != self._ticks:
            self._ticks, self._moved_at = ticks, now
        return now - self._moved_at

    def kill_if_running(self, running: Running) -> bool:
        """Kill it in the middle of this job, never in the next one: it is frozen while the board is read."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGSTOP)
            self._wait_frozen()
            if self.status is None and self.board.running == running:
                self.kill()
                return True
            os.kill(self.pid, signal.SIGCONT)
        return False

    def _wait_frozen(self) -> None:
        end = time.monotonic() + FREEZE_WITHIN  # one that cannot be stopped, deep in the kernel, does not go on either
        while time.monotonic() < end:
            pid, status = os.waitpid(self.pid, os.WNOHANG | os.WUNTRACED)
            if pid and not os.WIFSTOPPED(status):
                self.status = status
            if pid:
                return
            time.sleep(0.0005)

    def kill(self) -> None:
        """With all that it started in its process group."""
        if self.status is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)

    def wait(self) -> None:
        """Until it has ended."""
        if self.status is None:
            self.status = os.waitpid(self.pid, 0)[1]

    def close(self) -> None:
        """When it has ended and nothing that it held is left to settle."""
        self.settled = True
        self._line.close()
        self.box.close()


def why(status: int) -> str:
    """A wait status in words."""
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
    """The horse must not run on, unleased, when its parent is killed. (Elsewhere it finds out between two jobs.)"""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
