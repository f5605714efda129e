"""Where jobs lie: the list and the registries of each queue, each newest first; and cursors into them, laid end to end.

A cursor says which list or registry, and the last job seen there; it holds although queues come and jobs go meanwhile.
"""

import base64
import binascii
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import redis
from redis.client import Pipeline

from app.errors import BadRequest
from app.redis.errors import raise_if_away
from app.redis.keys import queue_key, registry_key
from app.redis.scripts import Script

PAGE = Script("redis/page")
REGISTRY_OF = {
    "queued": "queued",
    "started": "wip",
    "scheduled": "scheduled",
    "deferred": "deferred",
    "failed": "failed",
    "stopped": "failed",
    "finished": "finished",
    "canceled": "canceled",
}
ORDER = list(dict.fromkeys(REGISTRY_OF.values()))
LONGEST = 2**50  # no list is longer
MOVED = 100_000  # jobs that may have been queued since a cursor was given out

Place = tuple[str, str]
"""In a registry a score and a member, in a list how many come up to it and the last: bytes as Latin-1."""


@dataclass(frozen=True)
class Source:
    """One list or registry of one queue."""

    registry: str
    queue: str

    @property
    def rank(self) -> tuple[int, str]:
        return ORDER.index(self.registry), self.queue

    def after(self, connection: redis.Redis, place: Place | None, count: int) -> list[tuple[str, Place]]:
        """Up to `count` ids after a place, newest first, each with its own place; none of a key of another type."""
        try:
            if self.registry == "queued":
                return self._from_list(connection, place, count)
            return self.entries(self.ask(connection, place, count))
        except redis.ResponseError as error:
            return self.entries(error)

    def looks_up(self, place: Place | None) -> bool:
        """Whether a place must be found first: then `ask` is not enough, and `after` does it."""
        return self.registry == "queued" and place is not None

    def ask(self, connection: redis.Redis | Pipeline, place: Place | None, count: int) -> Any:
        """As `after`, at once or as part of a pipeline; what Redis answers is for `entries`."""
        if self.registry == "queued":
            return connection.lrange(queue_key(self.queue), -count, -1)
        score, last = place or ("", "")
        key = registry_key(self.registry, self.queue)
        return PAGE(connection, key=key, score=score, last=last.encode("latin-1"), count=count)

    def entries(self, answer: Any) -> list[tuple[str, Place]]:
        """What `ask` was answered, or the error of a key of another type, which has none."""
        if isinstance(answer, redis.RedisError):
            raise_if_away([answer])
            return []
        if self.registry == "queued":
            return [_entry(member, str(n)) for n, member in enumerate(reversed(answer), 1)]
        return [_entry(member, score.decode()) for member, score in zip(answer[::2], answer[1::2], strict=True)]

    def _from_list(self, connection: redis.Redis, place: Place | None, count: int) -> list[tuple[str, Place]]:
        key, end = queue_key(self.queue), 0
        if place:
            shown, last = int(place[0]), place[1]
            rank = connection.execute_command("LPOS", key, last.encode("latin-1"), "RANK", -1, "MAXLEN", shown + MOVED)
            end = connection.llen(key) - int(rank) if rank is not None else shown
        found = connection.lrange(key, -end - count, -end - 1)
        return [_entry(member, str(end + n)) for n, member in enumerate(reversed(found), 1)]

    def batches(
        self, connection: redis.Redis, place: Place | None, first: int, then: int
    ) -> Iterator[list[tuple[str, Place]]]:
        """All ids after a place: `first` so many, `then` so many at a time."""
        size = first
        while batch := self.after(connection, place, size):
            yield batch
            if len(batch) < size:
                return
            place, size = batch[-1][1], then

    def resume(self, before: Place | None, batch: Sequence[tuple[str, Place]], gone: set[str]) -> Place | None:
        """Where to go on after a batch of which some are `gone`; `before` is where it began."""
        if self.registry != "queued":
            return batch[-1][1]
        left = [place for job_id, place in batch if job_id not in gone]
        if not left:
            return before
        shown, last = left[-1]
        removed = sum(job_id in gone for job_id, place in batch if int(place[0]) < int(shown))
        return str(int(shown) - removed), last


@dataclass(frozen=True)
class Cursor:
    """Where a list goes on: opaque to callers."""

    source: Source
    place: Place | None

    def __str__(self) -> str:
        plain = orjson.dumps([self.source.registry, self.source.queue, self.place])
        return base64.urlsafe_b64encode(plain).decode().rstrip("=")

    @classmethod
    def parse(cls, text: str) -> "Cursor":
        """Raises BadRequest for a cursor that was not given out here."""
        try:
            registry, queue, place = orjson.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
            return cls(*parse_source(registry, queue, place))
        except (ValueError, TypeError, binascii.Error):
            raise BadRequest("The cursor is not one of ours") from None


def parse_source(registry: Any, queue: Any, place: Any) -> tuple[Source, Place | None]:
    """A source and a place in it, as a cursor has them. Raises ValueError or TypeError for what is none."""
    if registry not in ORDER or not isinstance(queue, str) or not isinstance(place, list | None):
        raise TypeError(registry)
    if not all(isinstance(part, str) for part in place or ()):
        raise TypeError(place)
    return Source(registry, queue), _place(registry, *place) if place else None


def _entry(member: bytes, first: str) -> tuple[str, Place]:
    """A job's id, and its place; the started registry has the execution's id behind a colon."""
    return member.decode(errors="replace").partition(":")[0], (first, member.decode("latin-1"))


def _place(registry: str, first: str, last: str) -> Place:
    """Raises ValueError or TypeError for what is no place."""
    last.encode("latin-1")
    if registry == "queued":
        if not 0 <= int(first) < LONGEST:
            raise ValueError(first)
        return str(int(first)), last
    score = float(first)
    if math.isnan(score):
        raise ValueError(first)
    return repr(score), last


def after(sources: Sequence[Source], cursor: str | None) -> list[tuple[Source, Place | None]]:
    """The sources from a cursor on, each with the place to begin at."""
    ordered = sorted(set(sources), key=lambda source: source.rank)
    if not cursor:
        return [(source, None) for source in ordered]
    start = Cursor.parse(cursor)
    rest = [source for source in ordered if source.rank >= start.source.rank]
    return [(source, start.place if source == start.source else None) for source in rest]
