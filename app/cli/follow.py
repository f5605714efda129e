"""Following jobs to their ends: waiting for one, or watching several with their progress."""

import math
import sys
import time
from typing import Any

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from app.cli.client import Answer, Failed
from app.cli.command import Api
from app.cli.output import console, plain, say
from app.job_state import ENDED

LATE = 124  # exit code, as timeout(1) has it
LONGEST = 50  # seconds of one request: proxies tend to cut those that last a minute
LOOK_EVERY = 1  # seconds


def exit_code(jobs: list[Any]) -> int:
    return 0 if all(job["status"] == "finished" for job in jobs) else 1


def wait(api: Api, job_id: str, seconds: float | None) -> Answer:
    """The job, ended. Raises Failed when it has not after `seconds`."""
    end = time.monotonic() + (math.inf if seconds is None else seconds)
    while True:
        left = end - time.monotonic()
        answer = api.call("GET", "jobs", job_id, wait=max(0, math.floor(min(left, LONGEST))))
        if answer.json["status"] in ENDED:
            return answer
        if left <= 0:
            raise Failed(f"{job_id} is {answer.json['status']} after {seconds:g} s", LATE)
        time.sleep(min(LOOK_EVERY, max(0, end - time.monotonic())) if left < LOOK_EVERY else 0)


def watch(api: Api, job_ids: list[str], seconds: float | None) -> list[Answer]:
    """Show on stderr how far jobs are until all have ended; they, in that order. Raises Failed as `wait`."""
    end = time.monotonic() + (math.inf if seconds is None else seconds)
    ids = list(dict.fromkeys(job_ids))
    found: dict[str, Answer] = {}
    with _Display() as display:
        while True:
            still = [job_id for job_id in ids if job_id not in found or found[job_id].json["status"] not in ENDED]
            if not still:
                return [found[job_id] for job_id in ids]
            if time.monotonic() >= end:
                raise Failed(f"{len(still)} of {len(ids)} have not ended after {seconds:g} s", LATE)
            for number, job_id in enumerate(still):
                known = job_id in found and number == 0  # a request that waits paces the others
                found[job_id] = api.call("GET", "jobs", job_id, wait=LOOK_EVERY if known else 0)
                display.show(found[job_id].json)


class _Display:
    """Bars on a terminal; elsewhere a line for each change of state."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        columns = [
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[percent]}"),
            TextColumn("{task.fields[status]}"),
            TimeElapsedColumn(),
        ]
        self._progress = Progress(*columns, console=console(sys.stderr), disable=not self._live)
        self._tasks: dict[str, TaskID] = {}
        self._states: dict[str, str] = {}

    def __enter__(self) -> "_Display":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, job: dict[str, Any]) -> None:
        job_id, status, progress = job["id"], job["status"], job["progress"] or {}
        percent = progress.get("percent")
        if not self._live and self._states.get(job_id) != status:
            say(f"{job_id} {plain(job['function'])} {status}")
        self._states[job_id] = status
        if job_id not in self._tasks:
            name = f"{plain(job['function'])} {job_id[:8]}"
            self._tasks[job_id] = self._progress.add_task(name, total=None, percent="", status="")
        ended = status in ENDED
        self._progress.update(
            self._tasks[job_id],
            total=1 if ended else progress.get("total"),
            completed=1 if ended else progress.get("current") or 0,
            percent="" if percent is None else f"{percent:g} %",
            status=f"{status} {plain(progress.get('message'))}" if not ended else status,
        )
