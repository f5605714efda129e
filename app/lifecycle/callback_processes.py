"""Child processes that run the callbacks of users, where these can block and crash nothing else."""

import os
import signal
import time
from collections.abc import Callable

import structlog

TIMEOUT_SECONDS = 120.0

log = structlog.get_logger("jobline.recovery")

_deadlines: dict[int, float] = {}
"""Maps the id of each running process to the time (time.monotonic) when it is killed."""


def start(work: Callable[[], object]) -> None:
    """Run `work` in a child process, which is killed after TIMEOUT_SECONDS. Call `reap` from time to time."""
    reap()
    pid = os.fork()
    if pid:
        _deadlines[pid] = time.monotonic() + TIMEOUT_SECONDS
        return
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        work()
    except BaseException:
        log.exception("a callback after a failure has failed")
    finally:
        os._exit(0)


def reap() -> None:
    """Reap ended children, and kill those that run longer than TIMEOUT_SECONDS."""
    for pid, deadline in list(_deadlines.items()):
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
        try:
            ended = os.waitpid(pid, os.WNOHANG)[0]
        except ChildProcessError:  # a child of the process that this one was forked from
            ended = pid
        if ended:
            del _deadlines[pid]


def wait() -> None:
    """Wait until all children have ended. Call it before the process exits."""
    while _deadlines:
        reap()
        time.sleep(0.01)
