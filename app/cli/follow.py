"""Following jobs and workflows to their ends: by waiting requests, or by their event streams."""

import math
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

import click
import orjson

from app.cli.client import EXIT_UNREACHABLE, ApiResponse, ApiUnavailable, CommandFailed
from app.cli.command import Api
from app.cli.display import Display
from app.cli.sse import Event, Parser
from app.states import ENDED

EXIT_TIMEOUT = 124  # as timeout(1)
MAX_WAIT_SECONDS = 50  # of one request: proxies tend to cut those that last a minute
POLL_SECONDS = 1
RECONNECT_SECONDS = 60  # since the last event: then a lost stream is given up
MAX_STREAMS = 32
TIMEOUT_OPTION = click.option(
    "--timeout", type=click.FloatRange(min=0), help="Seconds to wait at most; default: no limit."
)


def exit_code(resources: list[Any]) -> int:
    return 0 if all(resource["status"] == "finished" for resource in resources) else 1


def wait(api: Api, job_id: str, seconds: float | None) -> ApiResponse:
    """Wait for a job's end and return the job. Raises CommandFailed after `seconds`."""
    end = time.monotonic() + (math.inf if seconds is None else seconds)
    while True:
        requested_at = time.monotonic()
        remaining = end - requested_at
        answer = api.call("GET", "jobs", job_id, wait=max(0, math.floor(min(remaining, MAX_WAIT_SECONDS))))
        if answer.json["status"] in ENDED:
            return answer
        if remaining <= 0:
            raise CommandFailed(f"{job_id} is {answer.json['status']} after {seconds:g} s", EXIT_TIMEOUT)
        _sleep_until(min(requested_at + POLL_SECONDS, end))


def watch(api: Api, job_ids: list[str], seconds: float | None) -> list[ApiResponse]:
    """Show the progress of jobs until all have ended, and return them in order. Raises CommandFailed as `wait`."""
    with Display() as display:
        return _run_all([partial(_follow_job, api, display, job_id) for job_id in dict.fromkeys(job_ids)], seconds)


def watch_workflow(api: Api, workflow_id: str, seconds: float | None) -> ApiResponse:
    """Show the progress of a workflow until it has ended, and return it. Raises CommandFailed as `wait`."""
    with Display() as display:
        return _run_all([partial(_follow_workflow, api, display, workflow_id)], seconds)[0]


def stored_log_lines(api: Api, job_id: str, after: str | None = None) -> Iterator[dict[str, Any]]:
    """The lines of a job's log so far, or those after the line with this id. Raises CommandFailed."""
    cursor = after
    while True:
        page = api.call("GET", "jobs", job_id, "logs", query={"cursor": cursor}).json
        yield from page["lines"]
        cursor = page["next_cursor"]
        if cursor is None:
            return


def log_lines(api: Api, job_id: str) -> Iterator[dict[str, Any]]:
    """The lines of a job's log until its end, each as soon as it is there. Raises CommandFailed."""
    last: str | None = None
    for event in events(api, "jobs", job_id, "events", poll=partial(_state, api, "jobs", job_id)):
        for line in stored_log_lines(api, job_id, last):
            last = line["id"]
            yield line
        if event.kind == "end":
            return


def events(
    api: Api, *path: str, query: dict[str, Any] | None = None, poll: Callable[[], Event] | None = None
) -> Iterator[Event]:
    """The events of a stream, resumed when the connection is lost. While no stream is available, `poll` is called.

    Raises:
        CommandFailed: the API refused the request, or has been unreachable for RECONNECT_SECONDS.
    """
    parser, last_event_at = Parser(), -math.inf
    while True:
        try:
            try:
                for chunk in api.client.stream(*path, query=query, last_id=parser.last_id):
                    last_event_at = time.monotonic()
                    yield from parser.feed(chunk)
            except ApiUnavailable:
                if poll is None:
                    raise
                polled_at = time.monotonic()
                yield poll()
                last_event_at = time.monotonic()
                _sleep_until(polled_at + POLL_SECONDS)
            else:
                return
        except CommandFailed as error:
            if error.exit_code != EXIT_UNREACHABLE or time.monotonic() - last_event_at > RECONNECT_SECONDS:
                raise
            time.sleep(parser.retry)
        parser = Parser(parser.last_id, parser.retry)


def _follow_job(api: Api, display: Display, job_id: str) -> ApiResponse:
    job: dict[str, Any] = {"id": job_id, "function": None}

    def on_event(kind: str, data: Any) -> None:
        job.update({"progress": data} if kind == "progress" else data)
        display.job(job)

    return _follow_to_end(api, "jobs", job_id, on_event)


def _follow_workflow(api: Api, display: Display, workflow_id: str) -> ApiResponse:
    workflow: dict[str, Any] = {}
    jobs: dict[str, dict[str, Any]] = {}
    ended: set[str] = set()

    def on_event(kind: str, data: Any) -> None:
        if kind in ("job", "progress"):
            known = jobs.get(data["id"])
            change = {"progress": data} if kind == "progress" else {"status": data["status"]}
            changed = [{**known, **change}] if known else []  # the id of a job outside the workflow may look like one
        else:
            workflow.update(data)
            changed = data["jobs"]
        if not jobs:
            display.workflow(workflow, 0, len(changed))
        for job in changed:
            jobs[job["id"]] = job
            (ended.add if job["status"] in ENDED else ended.discard)(job["id"])
            display.workflow_job(job)
        display.workflow(workflow, len(ended), len(jobs))

    return _follow_to_end(api, "workflows", workflow_id, on_event)


def _follow_to_end(api: Api, resource: str, resource_id: str, on_event: Callable[[str, Any], None]) -> ApiResponse:
    """Follow a job or a workflow to its end. `on_event` gets the kind and the data of each event."""
    while True:
        for event in events(api, resource, resource_id, "events", poll=partial(_state, api, resource, resource_id)):
            if event.kind != "reset":  # the state follows
                on_event(event.kind, orjson.loads(event.data))
            if event.kind == "end":
                break
        answer = api.call("GET", resource, resource_id)
        if answer.json["status"] in ENDED:
            on_event("end", answer.json)
            return answer


def _state(api: Api, resource: str, resource_id: str) -> Event:
    """The state of a job or a workflow as an event, for `events` to poll."""
    answer = api.call("GET", resource, resource_id, wait=POLL_SECONDS)
    return Event("end" if answer.json["status"] in ENDED else "status", answer.text)


def _run_all(tasks: list[Callable[[], ApiResponse]], seconds: float | None) -> list[ApiResponse]:
    """Run tasks, MAX_STREAMS at once in daemon threads, and return their results in order.

    Raises:
        CommandFailed: a task raised it, or some have not ended after `seconds`.
    """
    pending, done = iter(enumerate(tasks)), SimpleQueue[tuple[int, ApiResponse | Exception]]()

    def work() -> None:
        for number, task in pending:
            try:
                done.put((number, task()))
            except Exception as error:  # re-raised by the waiting thread
                done.put((number, error))

    for _ in tasks[:MAX_STREAMS]:
        threading.Thread(target=work, daemon=True).start()
    end, answers = time.monotonic() + (seconds or 0), dict[int, ApiResponse]()
    while len(answers) < len(tasks):
        try:
            number, result = done.get(timeout=None if seconds is None else max(0, end - time.monotonic()))
        except Empty:
            unfinished = len(tasks) - len(answers)
            message = f"{unfinished} of {len(tasks)} have not ended after {seconds:g} s"
            raise CommandFailed(message, EXIT_TIMEOUT) from None
        if isinstance(result, Exception):
            raise result
        answers[number] = result
    return [answer for _, answer in sorted(answers.items())]


def _sleep_until(moment: float) -> None:
    time.sleep(max(0, moment - time.monotonic()))
