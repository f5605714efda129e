"""What happens to jobs, as it happens: a stream in Redis that is written only while somebody listens.

Every change of a job's state adds an entry if the stream exists (events.lua; `tell`, for what is no script). Whoever
listens makes the stream, and it runs out KEPT seconds after the last listener has gone: so long a listener that comes
back finds all that it has missed.
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

from app.redis.keys import EVENTS, STREAM_ID

KEPT = 600  # seconds
MOST = 100_000  # entries, as in events.lua
BLOCK = 1.0  # seconds
BEHIND = 10_000  # events that a listener may be behind, before it is cut off

log = structlog.get_logger("jobline.events")


@dataclass(frozen=True)
class Event:
    """`place` orders events, and is where to go on after it; `status` is a state, deleted or progress."""

    place: str
    job_id: str
    queue: str
    status: str
    progress: dict[str, Any] | None = None

    @property
    def milliseconds(self) -> int:
        """Since 1970."""
        return int(self.place.partition("-")[0])


def tell(client: redis.Redis | Pipeline, ids: Sequence[str], of_queue: str, status: str) -> None:
    """As events.lua, for what is no script. (Progress: app/worker/progress.lua.)"""
    said = {"ids": " ".join(ids), "queue": of_queue, "status": status}
    client.xadd(EVENTS, said, maxlen=MOST, nomkstream=True)


def _events(place: bytes, raw: dict[bytes, bytes]) -> Iterator[Event]:
    ids = raw.get(b"ids", b"").decode(errors="replace").split()
    about = raw.get(b"queue", b"").decode(), raw.get(b"status", b"").decode()
    progress = orjson.loads(raw[b"progress"]) if b"progress" in raw else None
    return (Event(place.decode(), job_id, *about, progress) for job_id in ids)


def number(place: str) -> tuple[int, int]:
    """A place as numbers, in whose order places are. Raises ValueError."""
    if not STREAM_ID.fullmatch(place):
        raise ValueError("not the id of an entry")
    milliseconds, _, count = place.partition("-")
    return int(milliseconds), int(count)


class Listener:
    """Events that are wanted, from the moment of its making."""

    def __init__(self, hub: "Hub", wanted: Callable[[Event], bool], caller: str) -> None:
        self._hub, self.wanted, self.caller = hub, wanted, caller
        self._queue: queue.Queue[Event | None] = queue.Queue(BEHIND)

    def offer(self, event: Event) -> None:
        try:
            self._queue.put_nowait(event)
        except queue.Full:
            self._hub.forget(self)

    def next(self, seconds: float) -> Event | None:
        """None: there was none for so long."""
        try:
            return self._queue.get(timeout=seconds)
        except queue.Empty:
            return None

    @property
    def cut_off(self) -> bool:
        return not self._hub.knows(self)

    def close(self) -> None:
        self._hub.forget(self)


class TooMany(Exception):
    """As many listeners as one process may have are there."""


class ShareTaken(TooMany):
    """As many listeners as one caller may have are there."""


class Hub:
    """One for a process: a single thread reads the stream for all of its listeners."""

    def __init__(self, connection: redis.Redis, most: int) -> None:
        self.connection, self.most = connection, most
        self._listeners: set[Listener] = set()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self.closing: Callable[[], bool] = lambda: False
        """Whether the process is about to end."""

    def listen(
        self, wanted: Callable[[Event], bool], caller: str = "", share: int | None = None
    ) -> tuple[Listener, str]:
        """A listener, and the place from which on it hears all. Of one caller there may be `share` at once.

        Raises:
            TooMany: there are too many; ShareTaken: there are too many of this caller.
            redis.RedisError
        """
        with self._lock:
            if share is not None and share < self.most and self._held_by(caller) >= share:
                raise ShareTaken
            if len(self._listeners) >= self.most:
                raise TooMany
            listener = Listener(self, wanted, caller)
            if self._thread is None or not self._thread.is_alive():
                self._place = self._latest()
                self._thread = threading.Thread(target=self._read, daemon=True)
                self._listeners.add(listener)
                self._thread.start()
            self._listeners.add(listener)
            return listener, self._place

    def since(self, place: str, wanted: Callable[[Event], bool]) -> list[Event] | None:
        """What has happened after a place; None: that is no longer known. Raises redis.RedisError."""
        first = self.connection.xrange(EVENTS, count=1)
        if not first or number(first[0][0].decode()) > number(place):
            return None
        found = self.connection.xrange(EVENTS, f"({place}", "+")
        return [event for entry, raw in found for event in _events(entry, raw) if wanted(event)]

    def _held_by(self, caller: str) -> int:
        return sum(one.caller == caller for one in self._listeners)

    def knows(self, listener: Listener) -> bool:
        return listener in self._listeners

    def forget(self, listener: Listener) -> None:
        with self._lock:
            self._listeners.discard(listener)

    def _latest(self) -> str:
        """The end of the stream, which is made if it is not there."""
        while True:
            with self.connection.pipeline() as pipeline:
                if not self.connection.xlen(EVENTS):  # it is not there, or all of it was trimmed
                    pipeline.xadd(EVENTS, {"ids": ""})
                pipeline.expire(EVENTS, KEPT)
                pipeline.xrevrange(EVENTS, count=1)
                found = pipeline.execute()[-1]
            if found:  # else it ran out just now
                return str(found[0][0].decode())

    def _read(self) -> None:
        """Until nobody listens."""
        while True:
            with self._lock:
                if not self._listeners:
                    self._thread = None
                    return
            try:
                if not self.connection.expire(EVENTS, KEPT):
                    self._latest()  # it was deleted
                found = self.connection.xread({EVENTS: self._place}, count=1000, block=int(1000 * BLOCK))
                for _, entries in found or []:
                    self._hand_out(entries)
            except redis.RedisError as error:
                log.warning("redis is away", error=f"{type(error).__name__}: {error}")
                threading.Event().wait(BLOCK)

    def _hand_out(self, entries: list[tuple[bytes, dict[bytes, bytes]]]) -> None:
        with self._lock:
            listeners = list(self._listeners)
        for place, raw in entries:
            for event in _events(place, raw):
                for listener in listeners:
                    if listener.wanted(event):
                        listener.offer(event)
            self._place = place.decode()
