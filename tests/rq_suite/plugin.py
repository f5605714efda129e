"""Loaded into the pytest that runs RQ's tests: our worker in place of RQ's, and a limit of time for each test.

Every outcome goes to the file RQ_SUITE_REPORT at once, a line of JSON each, so that it outlives this process.
"""

import contextlib
import json
import os
import signal
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
import rq.worker.worker_classes

REPORT = Path(os.environ["RQ_SUITE_REPORT"])
LIMIT = 30
"""Seconds for one test; the longest takes about ten."""
STRIKES = 3
"""So many times a test over its time is interrupted, before the whole process is given up."""
CUT = signal.SIGPROF  # neither RQ nor our worker uses it; RQ's tests use SIGALRM

over_time: set[str] = set()


class OverTime(BaseException):
    """No Exception: the code under test is not to handle it."""


def pytest_configure() -> None:
    """Before any test module, and RQ's pool and commands, are imported: all find our worker under RQ's name."""
    signal.signal(CUT, _interrupt)
    if not os.environ.get("RQ_SUITE_STOCK"):
        from .adapter import Worker

        for module in (rq, rq.worker, rq.worker.worker_classes):
            module.Worker = Worker


def _interrupt(*_: Any) -> None:
    raise OverTime(f"over {LIMIT} s")


def _write(**record: Any) -> None:
    with REPORT.open("a") as report:
        report.write(json.dumps(record) + "\n")


def _end_children() -> None:
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()


def _watch(test: str, ended: threading.Event) -> None:
    """Kill what a test started and interrupt it, again and again, once it is over its time."""
    seconds = LIMIT
    for _ in range(STRIKES):
        if ended.wait(seconds):
            return
        over_time.add(test)
        _end_children()
        signal.pthread_kill(threading.main_thread().ident or 0, CUT)
        seconds = 5
    if not ended.wait(seconds):
        _write(id=test, outcome="failed", text=f"over {LIMIT} s, and not to be interrupted")
        os._exit(2)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    ended = threading.Event()
    threading.Thread(target=_watch, args=(item.nodeid, ended), daemon=True).start()
    try:
        return (yield)
    finally:
        ended.set()
        _end_children()


def pytest_runtest_logstart(nodeid: str) -> None:
    _write(id=nodeid, outcome="begun")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    write = partial(_write, id=report.nodeid)
    if report.failed:
        write(outcome="failed", text=report.longreprtext)
    elif report.when == "call" and report.nodeid in over_time:  # RQ's loop swallows what interrupts it
        write(outcome="failed", text=f"over {LIMIT} s")
    elif report.when == "call" or report.skipped:
        write(outcome=report.outcome)
