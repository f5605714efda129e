"""Server-sent events (WHATWG HTML, section 9.2) of a job, of a workflow, and of all jobs.

`Last-Event-ID` resumes after that event. If the events since are no longer stored, the stream sends `reset` and the
current state. A comment every HEARTBEAT_SECONDS keeps the connection alive.
"""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol

import redis
from flask import Response, g, request

from app.access import api_keys
from app.api.auth import requires
from app.api.context import context
from app.api.openapi import EVENT_STREAM, blueprint
from app.api.schemas.events import EventsQuery
from app.api.schemas.jobs import JobPath
from app.api.schemas.workflows import WorkflowPath
from app.errors import BadRequest, NotFound, TooManyRequests, Unavailable
from app.events.stream import CallerLimitReached, Event, Hub, Listener, TooManyListeners, parse_event_id
from app.serializer import JSON, utc
from app.states import ENDED
from app.views import job_log, job_view
from app.workflows import view

HEARTBEAT_SECONDS = 15.0
SHUTDOWN_CHECK_SECONDS = 1.0  # between checks whether the process is shutting down
END_STATUSES = (*ENDED, "deleted")
MAX_CACHED_FUNCTIONS = 10_000

api = blueprint("events", "events", "/api/v1")


class Message(NamedTuple):
    """A server-sent event. After an event of kind "end" the stream is closed."""

    kind: str
    event_id: str
    data: Any

    def __str__(self) -> str:
        return f"event: {self.kind}\nid: {self.event_id}\ndata: {JSON.dumps(self.data).decode()}\n\n"


class Feed(Protocol):
    """The messages of one stream, made from events."""

    def matches(self, event: Event) -> bool: ...

    def message(self, event: Event) -> Message | None: ...

    def current_state(self, event_id: str) -> Message | None:
        """A message with the current state, as of `event_id`; None if there is no such state."""


@api.get("/jobs/<string:job_id>/events", responses={200: EVENT_STREAM, 204: None})
@requires("read")
def job_events(path: JobPath) -> Response:
    """Stream the events of a job until its end.

    Events: `status`, `progress`, `log`, `end`.
    """
    feed = JobFeed(context().redis, path.job_id)
    if feed.state()["status"] == "deleted":
        raise NotFound(f"No job {path.job_id!r}")
    return _stream(feed)


@api.get("/workflows/<string:workflow_id>/events", responses={200: EVENT_STREAM, 204: None})
@requires("read")
def workflow_events(path: WorkflowPath) -> Response:
    """Stream the events of a workflow until its end.

    Events: `workflow`, `job`, `progress`, `end`.
    """
    view.get(context().redis, path.workflow_id)
    return _stream(WorkflowFeed(context().redis, path.workflow_id))


@api.get("/events", responses={200: EVENT_STREAM})
@requires("read")
def all_events(query: EventsQuery) -> Response:
    """Stream the events of all jobs, or of those of a queue or a function.

    Event: `job`.
    """
    return _stream(AllJobsFeed(context().redis, query.queue, query.function))


class JobFeed:
    """The messages about one job."""

    def __init__(self, connection: redis.Redis, job_id: str) -> None:
        self.connection, self.job_id = connection, job_id

    def state(self) -> dict[str, Any]:
        return job_view.fetch(self.connection, [self.job_id])[0] or {"id": self.job_id, "status": "deleted"}

    def matches(self, event: Event) -> bool:
        return event.job_id == self.job_id

    def message(self, event: Event) -> Message:
        if event.status == "progress":
            return Message("progress", event.event_id, event.progress)
        if event.status == "log":
            return Message("log", event.event_id, {"lines": [job_log.shape(line) for line in event.log or []]})
        if event.status in END_STATUSES:
            return Message("end", event.event_id, self.state())
        return Message("status", event.event_id, _status_change(event))

    def current_state(self, event_id: str) -> Message:
        job = self.state()
        return Message("end" if job["status"] in END_STATUSES else "status", event_id, job)


class WorkflowFeed:
    """The messages about one workflow and its jobs."""

    def __init__(self, connection: redis.Redis, workflow: str) -> None:
        self.connection, self.workflow = connection, workflow

    def matches(self, event: Event) -> bool:
        of_workflow = event.job_id == self.workflow or event.job_id.startswith(f"{self.workflow}-")
        return of_workflow and event.status != "log"

    def message(self, event: Event) -> Message:
        if event.status == "progress":
            return Message("progress", event.event_id, {**(event.progress or {}), "id": event.job_id})
        if event.job_id == self.workflow:
            return self.current_state(event.event_id)
        return Message("job", event.event_id, _status_change(event))

    def current_state(self, event_id: str) -> Message:
        workflow = view.get(self.connection, self.workflow)
        return Message("workflow" if workflow["status"] == "running" else "end", event_id, workflow)


class AllJobsFeed:
    """The messages about all jobs, or those of a queue or a function."""

    def __init__(self, connection: redis.Redis, queue: str | None, function: str | None) -> None:
        self.connection, self.queue, self.function = connection, queue, function
        self._function_names: dict[str, str | None] = {}

    def matches(self, event: Event) -> bool:
        return bool(event.queue) and self.queue in (None, event.queue) and event.status not in ("progress", "log")

    def message(self, event: Event) -> Message | None:
        if self.function and self._function_of(event.job_id) != self.function:
            return None
        return Message("job", event.event_id, _status_change(event))

    def current_state(self, event_id: str) -> None:  # noqa: ARG002 - required by Feed
        return None

    def _function_of(self, job_id: str) -> str | None:
        if job_id not in self._function_names:
            if len(self._function_names) >= MAX_CACHED_FUNCTIONS:
                self._function_names.clear()
            job = job_view.fetch(self.connection, [job_id])[0]
            self._function_names[job_id] = job["function"] if job else None
        return self._function_names[job_id]


def _stream(feed: Feed) -> Response:
    """The response that streams a feed; 204 if its end was already received.

    Raises:
        BadRequest: the Last-Event-ID is invalid.
        TooManyRequests: the caller has too many open streams.
        Unavailable: too many streams are open.
    """
    last_event_id, hub = _last_event_id(), context().events
    share = api_keys.share(hub.max_listeners, context().api_keys)
    try:
        listener, event_id = hub.listen(feed.matches, g.caller, share)
    except CallerLimitReached:
        detail = f"The key {g.caller!r} has {share} event streams open already, its share of {hub.max_listeners}"
        raise TooManyRequests(detail, retry_after=Unavailable.retry_after) from None
    except TooManyListeners:
        raise Unavailable(f"{hub.max_listeners} event streams are open already") from None
    missed = hub.events_after(last_event_id, feed.matches) if last_event_id else None
    if missed == [] and (now := feed.current_state(event_id)) and now.kind == "end":
        listener.close()
        return Response(status=204)  # tells EventSource clients not to reconnect

    def generate() -> Iterator[str]:
        try:
            yield "retry: 1000\n\n"
            for message in _messages(feed, hub, listener, last_event_id, event_id, missed):
                yield str(message) if message else ": alive\n\n"
        finally:
            listener.close()

    return Response(generate(), content_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


def _messages(
    feed: Feed, hub: Hub, listener: Listener, last_event_id: str | None, event_id: str, missed: list[Event] | None
) -> Iterator[Message | None]:
    """The messages of a stream up to `end`; None when nothing has happened for HEARTBEAT_SECONDS."""
    if last_event_id and missed is None:
        yield Message("reset", event_id, {"reason": "the events since the Last-Event-ID are no longer stored"})
    first = [feed.current_state(event_id)] if missed is None else [feed.message(event) for event in missed]
    for message in first:
        if message:
            yield message
            if message.kind == "end":
                return
    if missed:
        event_id = missed[-1].event_id
    elif missed == [] and last_event_id:
        event_id = last_event_id
    last_sent_at = time.monotonic()
    while not (listener.is_cut_off or hub.closing()):
        event = listener.next(SHUTDOWN_CHECK_SECONDS)
        if event and parse_event_id(event.event_id) > parse_event_id(event_id):
            message = feed.message(event)
        elif time.monotonic() - last_sent_at > HEARTBEAT_SECONDS:
            state = feed.current_state(event_id)  # a stock worker publishes no events
            last_sent_at, message = time.monotonic(), state if state and state.kind == "end" else None
            if message is None:
                yield None
        else:
            continue
        if message:
            yield message
            last_sent_at = time.monotonic()
            if message.kind == "end":
                return


def _last_event_id() -> str | None:
    """The request's Last-Event-ID. Raises BadRequest: it is invalid."""
    event_id = request.headers.get("Last-Event-ID") or None
    try:
        if event_id:
            parse_event_id(event_id)
    except ValueError:
        raise BadRequest("The Last-Event-ID is not a valid event id") from None
    return event_id


def _status_change(event: Event) -> dict[str, Any]:
    at = utc(datetime.fromtimestamp(event.milliseconds / 1000, UTC))
    return {"id": event.job_id, "queue": event.queue, "status": event.status, "at": at}
