"""The list and the registries of each queue, read newest first, and cursors into them.

A cursor names the registry and the last job read from it. It stays valid while queues and jobs are added and removed.
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
from app.redis.errors import raise_transient
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
MAX_LIST_LENGTH = 2**50  # no list is longer
MAX_MOVED_JOBS = 100_000  # the most jobs enqueued since a cursor was issued that are searched for its job

Position = tuple[str, str]
"""Cursor position: (score, member) in a sorted set, (offset, last id) in a list; bytes are decoded as Latin-1."""


@dataclass(frozen=True)
class Registry:
    """The list of a queue ("queued"), or one of its registries."""

    kind: str
    queue: str

    @property
    def rank(self) -> tuple[int, str]:
        return ORDER.index(self.kind), self.queue

    def after(self, connection: redis.Redis, position: Position | None, count: int) -> list[tuple[str, Position]]:
        """Up to `count` ids after a position, newest first, with their positions; none if the key has another type."""
        try:
            if self.kind == "queued":
                return self._from_list(connection, position, count)
            return self.parse_entries(self.request(connection, position, count))
        except redis.ResponseError as error:
            raise_transient([error])
            return []

    def needs_lookup(self, position: Position | None) -> bool:
        """Whether the position must be looked up first, which `after` does and `request` does not."""
        return self.kind == "queued" and position is not None

    def request(self, connection: redis.Redis | Pipeline, position: Position | None, count: int) -> Any:
        """Send the command of `after`, also in a pipeline. The reply is decoded by `parse_entries`."""
        if self.kind == "queued":
            return connection.lrange(queue_key(self.queue), -count, -1)
        score, last = position or ("", "")
        key = registry_key(self.kind, self.queue)
        return PAGE(connection, key=key, score=score, last=last.encode("latin-1"), count=count)

    def parse_entries(self, answer: Any) -> list[tuple[str, Position]]:
        """Decode the reply to `request`. An error because of a key of another type means no entries."""
        if isinstance(answer, redis.RedisError):
            return []
        if self.kind == "queued":
            return [_parse_member(member, str(n)) for n, member in enumerate(reversed(answer), 1)]
        return [_parse_member(member, score.decode()) for member, score in zip(answer[::2], answer[1::2], strict=True)]

    def _from_list(self, connection: redis.Redis, position: Position | None, count: int) -> list[tuple[str, Position]]:
        key, end = queue_key(self.queue), 0
        if position:
            offset, last = int(position[0]), position[1]
            rank = connection.execute_command(
                "LPOS", key, last.encode("latin-1"), "RANK", -1, "MAXLEN", offset + MAX_MOVED_JOBS
            )
            end = connection.llen(key) - int(rank) if rank is not None else offset
        members = connection.lrange(key, -end - count, -end - 1)
        return [_parse_member(member, str(end + n)) for n, member in enumerate(reversed(members), 1)]

    def batches(
        self, connection: redis.Redis, position: Position | None, first: int, then: int
    ) -> Iterator[list[tuple[str, Position]]]:
        """All ids after a position, in batches: the first of size `first`, the others of size `then`."""
        size = first
        while batch := self.after(connection, position, size):
            yield batch
            if len(batch) < size:
                return
            position, size = batch[-1][1], then

    def resume(self, before: Position | None, batch: Sequence[tuple[str, Position]], gone: set[str]) -> Position | None:
        """The position after a batch that began at `before` and from which the jobs `gone` have been removed."""
        if self.kind != "queued":
            return batch[-1][1]
        left = [position for job_id, position in batch if job_id not in gone]
        if not left:
            return before
        offset, last = left[-1]
        removed = sum(job_id in gone for job_id, position in batch if int(position[0]) < int(offset))
        return str(int(offset) - removed), last


@dataclass(frozen=True)
class Cursor:
    """A position in a registry; opaque to clients."""

    registry: Registry
    position: Position | None

    def __str__(self) -> str:
        plain = orjson.dumps([self.registry.kind, self.registry.queue, self.position])
        return base64.urlsafe_b64encode(plain).decode().rstrip("=")

    @classmethod
    def parse(cls, text: str) -> "Cursor":
        """Decode a cursor. Raises BadRequest: it is invalid."""
        try:
            kind, queue, position = orjson.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
            return cls(*parse_position(kind, queue, position))
        except (ValueError, TypeError, binascii.Error):
            raise BadRequest("The cursor is invalid") from None


def parse_position(kind: Any, queue: Any, position: Any) -> tuple[Registry, Position | None]:
    """Decode a registry and a position in it from a cursor. Raises ValueError or TypeError."""
    if kind not in ORDER or not isinstance(queue, str) or not isinstance(position, list | None):
        raise TypeError(kind)
    if not all(isinstance(part, str) for part in position or ()):
        raise TypeError(position)
    return Registry(kind, queue), _parse_position(kind, *position) if position else None


def _parse_member(member: bytes, first: str) -> tuple[str, Position]:
    """A job's id and position. Members of the started registry are JOB:EXECUTION."""
    return member.decode(errors="replace").partition(":")[0], (first, member.decode("latin-1"))


def _parse_position(kind: str, first: str, last: str) -> Position:
    """Validate a position. Raises ValueError or TypeError."""
    last.encode("latin-1")
    if kind == "queued":
        if not 0 <= int(first) < MAX_LIST_LENGTH:
            raise ValueError(first)
        return str(int(first)), last
    score = float(first)
    if math.isnan(score):
        raise ValueError(first)
    return repr(score), last


def after(registries: Sequence[Registry], cursor: str | None) -> list[tuple[Registry, Position | None]]:
    """The registries from a cursor on, in order, each with the position to start after."""
    ordered = sorted(set(registries), key=lambda registry: registry.rank)
    if not cursor:
        return [(registry, None) for registry in ordered]
    start = Cursor.parse(cursor)
    rest = [registry for registry in ordered if registry.rank >= start.registry.rank]
    return [(registry, start.position if registry == start.registry else None) for registry in rest]
