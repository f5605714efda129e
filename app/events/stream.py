"""The event stream of jobs: a Redis stream that is written only while somebody listens.

Every change of a job's status adds an entry if the stream exists (events.lua, or `publish` outside of scripts). The
first listener creates the stream. It expires STREAM_TTL_SECONDS after the last listener has left: until then a
returning listener can read what it has missed.
"""

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import redis
import structlog
from redis.client import Pipeline

from app.redis.keys import EVENTS, MAX_EVENTS, STREAM_ID

STREAM_TTL_SECONDS = 600
READ_BLOCK_SECONDS = 1.0
LISTENER_QUEUE_SIZE = 10_000  # events; a listener that lags further behind is disconnected

log = structlog.get_logger("jobline.events")


@dataclass(frozen=True)
class Event:
    """An event of a job; `status` is its status, "deleted", "progress" or "log". Event ids are ordered."""

    event_id: str
    job_id: str
    queue: str
    status: str
    progress: dict[str, Any] | None = None
    log: list[dict[str, Any]] | None = None
    """Lines, with the number of the attempt in each."""

    @property
    def milliseconds(self) -> int:
        """Since 1970."""
        return int(self.event_id.partition("-")[0])


def publish(client: redis.Redis | Pipeline, ids: Sequence[str], queue: str, status: str) -> None:
    """Publish a status change like events.lua, outside of scripts. (Others: app/worker/*.lua.)"""
    fields = {"ids": " ".join(ids), "queue": queue, "status": status}
    client.xadd(EVENTS, fields, maxlen=MAX_EVENTS, nomkstream=True)


def _events(event_id: bytes, raw: dict[bytes, bytes]) -> Iterator[Event]:
    ids = raw.get(b"ids", b"").decode(errors="replace").split()
    origin = raw.get(b"queue", b"").decode(), raw.get(b"status", b"").decode()
    progress = orjson.loads(raw[b"progress"]) if b"progress" in raw else None
    log = [{**line, "attempt": int(raw[b"attempt"])} for line in orjson.loads(raw[b"log"])] if b"log" in raw else None
    return (Event(event_id.decode(), job_id, *origin, progress, log) for job_id in ids)


def parse_event_id(event_id: str) -> tuple[int, int]:
    """An event id as numbers, for comparison. Raises ValueError."""
    if not STREAM_ID.fullmatch(event_id):
        raise ValueError("not the id of an entry")
    milliseconds, _, count = event_id.partition("-")
    return int(milliseconds), int(count)


class Listener:
    """Receives matching events from its creation on."""

    def __init__(self, hub: "Hub", matches: Callable[[Event], bool], caller: str) -> None:
        self._hub, self.matches, self.caller = hub, matches, caller
        self._queue: queue.Queue[Event | None] = queue.Queue(LISTENER_QUEUE_SIZE)

    def offer(self, event: Event) -> None:
        try:
            self._queue.put_nowait(event)
        except queue.Full:
            self._hub.forget(self)

    def next(self, seconds: float) -> Event | None:
        """The next event; None if there was none within `seconds`."""
        try:
            return self._queue.get(timeout=seconds)
        except queue.Empty:
            return None

    @property
    def is_cut_off(self) -> bool:
        return not self._hub.has(self)

    def close(self) -> None:
        self._hub.forget(self)


class TooManyListeners(Exception):
    """The process has reached its maximum number of listeners."""


class CallerLimitReached(TooManyListeners):
    """The caller has reached its maximum number of listeners."""


class Hub:
    """Distributes events within a process: a single thread reads the stream for all listeners."""

    def __init__(self, connection: redis.Redis, max_listeners: int) -> None:
        self.connection, self.max_listeners = connection, max_listeners
        self._listeners: set[Listener] = set()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self.closing: Callable[[], bool] = lambda: False
        """Whether the process is about to end."""

    def listen(
        self, matches: Callable[[Event], bool], caller: str = "", max_per_caller: int | None = None
    ) -> tuple[Listener, str]:
        """Create a listener. Returns it and the event id after which it receives all events.

        Raises:
            TooManyListeners: there are too many; CallerLimitReached: this caller has `max_per_caller` of them.
            redis.RedisError
        """
        with self._lock:
            limit = self.max_listeners if max_per_caller is None else max_per_caller
            if limit < self.max_listeners and self._count_of(caller) >= limit:
                raise CallerLimitReached
            if len(self._listeners) >= self.max_listeners:
                raise TooManyListeners
            listener = Listener(self, matches, caller)
            if self._thread is None or not self._thread.is_alive():
                self._last_id = self._latest()
                self._thread = threading.Thread(target=self._read, daemon=True)
                self._thread.start()
            self._listeners.add(listener)
            return listener, self._last_id

    def events_after(self, event_id: str, matches: Callable[[Event], bool]) -> list[Event] | None:
        """The matching events after an event id; None if they are no longer stored. Raises redis.RedisError."""
        first = self.connection.xrange(EVENTS, count=1)
        if not first or parse_event_id(first[0][0].decode()) > parse_event_id(event_id):
            return None
        entries = self.connection.xrange(EVENTS, f"({event_id}", "+")
        return [event for entry, raw in entries for event in _events(entry, raw) if matches(event)]

    def _count_of(self, caller: str) -> int:
        return sum(listener.caller == caller for listener in self._listeners)

    def has(self, listener: Listener) -> bool:
        return listener in self._listeners

    def forget(self, listener: Listener) -> None:
        with self._lock:
            self._listeners.discard(listener)

    def _latest(self) -> str:
        """The id of the latest entry in the stream, which is created if it does not exist."""
        while True:
            with self.connection.pipeline() as pipeline:
                if not self.connection.xlen(EVENTS):  # it does not exist, or was trimmed completely
                    pipeline.xadd(EVENTS, {"ids": ""})
                pipeline.expire(EVENTS, STREAM_TTL_SECONDS)
                pipeline.xrevrange(EVENTS, count=1)
                entries = pipeline.execute()[-1]
            if entries:  # otherwise it has just expired
                return str(entries[0][0].decode())

    def _read(self) -> None:
        """Read the stream until there are no listeners."""
        while True:
            with self._lock:
                if not self._listeners:
                    self._thread = None
                    return
            try:
                if not self.connection.expire(EVENTS, STREAM_TTL_SECONDS):
                    self._latest()  # it was deleted
                block = int(1000 * READ_BLOCK_SECONDS)
                streams = self.connection.xread({EVENTS: self._last_id}, count=1000, block=block)
                for _, entries in streams or []:
                    self._dispatch(entries)
            except redis.RedisError as error:
                log.warning("redis is away", error=f"{type(error).__name__}: {error}")
                threading.Event().wait(READ_BLOCK_SECONDS)

    def _dispatch(self, entries: list[tuple[bytes, dict[bytes, bytes]]]) -> None:
        with self._lock:
            listeners = list(self._listeners)
        for event_id, raw in entries:
            for event in _events(event_id, raw):
                for listener in listeners:
                    if listener.matches(event):
                        listener.offer(event)
            self._last_id = event_id.decode()
