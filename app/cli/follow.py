"""Following jobs and workflows to their ends: by waiting, or by the events that the API tells of them."""

import math
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

import click
import orjson

from app.cli.client import UNREACHABLE, Answer, Busy, Failed
from app.cli.command import Api
from app.cli.display import Display
from app.cli.sse import Event, Parser
from app.states import ENDED

LATE = 124  # exit code, as timeout(1) has it
LONGEST = 50  # seconds of one request: proxies tend to cut those that last a minute
LOOK_EVERY = 1  # seconds
RESUME = 60  # seconds without a word, after which a stream that broke off is given up
STREAMS = 32  # open at once
TIMEOUT = click.option("--timeout", type=click.FloatRange(min=0), help="Seconds; without it, as long as it takes.")


def exit_code(found: list[Any]) -> int:
    return 0 if all(one["status"] == "finished" for one in found) else 1


def wait(api: Api, job_id: str, seconds: float | None) -> Answer:
    """The job, ended. Raises Failed when it has not after `seconds`."""
    end = time.monotonic() + (math.inf if seconds is None else seconds)
    while True:
        asked_at = time.monotonic()
        left = end - asked_at
        answer = api.call("GET", "jobs", job_id, wait=max(0, math.floor(min(left, LONGEST))))
        if answer.json["status"] in ENDED:
            return answer
        if left <= 0:
            raise Failed(f"{job_id} is {answer.json['status']} after {seconds:g} s", LATE)
        _sleep_until(min(asked_at + LOOK_EVERY, end))


def watch(api: Api, job_ids: list[str], seconds: float | None) -> list[Answer]:
    """Show on stderr how far jobs are until all have ended; they, in that order. Raises Failed as `wait`."""
    with Display() as display:
        return _all([partial(_job, api, display, job_id) for job_id in dict.fromkeys(job_ids)], seconds)


def watch_workflow(api: Api, workflow_id: str, seconds: float | None) -> Answer:
    """Show on stderr how far a workflow and its jobs are, until it has ended. Raises Failed as `wait`."""
    with Display() as display:
        return _all([partial(_workflow, api, display, workflow_id)], seconds)[0]


def events(
    api: Api, *path: str, query: dict[str, Any] | None = None, otherwise: Callable[[], Event] | None = None
) -> Iterator[Event]:
    """What a stream tells, resumed where it breaks off. While the API has no room for one, `otherwise` is asked.

    Raises:
        Failed: the API refuses, or there is none; after a break, when there is none for RESUME seconds.
    """
    parser, heard_at = Parser(), -math.inf
    while True:
        try:
            try:
                for chunk in api.client.stream(*path, query=query, last_id=parser.last_id):
                    heard_at = time.monotonic()
                    yield from parser.feed(chunk)
            except Busy:
                if otherwise is None:
                    raise
                asked_at = time.monotonic()
                yield otherwise()
                heard_at = time.monotonic()
                _sleep_until(asked_at + LOOK_EVERY)
            else:
                return
        except Failed as error:
            if error.exit_code != UNREACHABLE or time.monotonic() - heard_at > RESUME:
                raise
            time.sleep(parser.retry)
        parser = Parser(parser.last_id, parser.retry)


def _job(api: Api, display: Display, job_id: str) -> Answer:
    job: dict[str, Any] = {"id": job_id, "function": None}

    def told(kind: str, said: Any) -> None:
        job.update({"progress": said} if kind == "progress" else said)
        display.job(job)

    return _to_the_end(api, "jobs", job_id, told)


def _workflow(api: Api, display: Display, workflow_id: str) -> Answer:
    workflow: dict[str, Any] = {}
    jobs: dict[str, dict[str, Any]] = {}
    ended: set[str] = set()

    def told(kind: str, said: Any) -> None:
        if kind in ("job", "progress"):
            job, change = jobs.get(said["id"]), {"progress": said} if kind == "progress" else {"status": said["status"]}
            changed = [{**job, **change}] if job else []  # another one may be named as if it were of this workflow
        else:
            workflow.update(said)
            changed = said["jobs"]
        if not jobs:
            display.workflow(workflow, 0, len(changed))
        for one in changed:
            jobs[one["id"]] = one
            (ended.add if one["status"] in ENDED else ended.discard)(one["id"])
            display.node(one)
        display.workflow(workflow, len(ended), len(jobs))

    return _to_the_end(api, "workflows", workflow_id, told)


def _to_the_end(api: Api, resource: str, one: str, told: Callable[[str, Any], None]) -> Answer:
    """A job or a workflow, ended; `told` hears the kinds of its events, and what they say."""

    def look() -> Event:
        answer = api.call("GET", resource, one, wait=LOOK_EVERY)
        return Event("end" if answer.json["status"] in ENDED else "status", answer.text)

    while True:
        for event in events(api, resource, one, "events", otherwise=look):
            if event.kind != "reset":  # the state follows
                told(event.kind, orjson.loads(event.data))
            if event.kind == "end":
                break
        answer = api.call("GET", resource, one)
        if answer.json["status"] in ENDED:
            told("end", answer.json)
            return answer


def _all(tasks: list[Callable[[], Answer]], seconds: float | None) -> list[Answer]:
    """What they return; STREAMS of them at once, in threads that end with the process.

    Raises:
        Failed: one of them did, or they have not ended after `seconds`.
    """
    left, done = iter(enumerate(tasks)), SimpleQueue[tuple[int, Answer | Exception]]()

    def work() -> None:
        for number, task in left:
            try:
                done.put((number, task()))
            except Exception as error:  # it is raised where all are waited for
                done.put((number, error))

    for _ in tasks[:STREAMS]:
        threading.Thread(target=work, daemon=True).start()
    end, found = time.monotonic() + (seconds or 0), dict[int, Answer]()
    while len(found) < len(tasks):
        try:
            number, outcome = done.get(timeout=None if seconds is None else max(0, end - time.monotonic()))
        except Empty:
            late = len(tasks) - len(found)
            raise Failed(f"{late} of {len(tasks)} have not ended after {seconds:g} s", LATE) from None
        if isinstance(outcome, Exception):
            raise outcome
        found[number] = outcome
    return [answer for _, answer in sorted(found.items())]


def _sleep_until(moment: float) -> None:
    time.sleep(max(0, moment - time.monotonic()))
