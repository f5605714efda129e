"""All that Redis holds, to be compared."""

from dataclasses import dataclass
from typing import Any

import redis
from redis.client import Pipeline


@dataclass(frozen=True)
class Content:
    """A key's type, its value, and when it expires (milliseconds since 1970; -1: never)."""

    kind: str
    value: Any
    expires_at: int

    def same(self, other: "Content", slack: int = 0) -> bool:
        """`slack`: milliseconds by which the expiries may differ."""
        if (self.kind, self.value) != (other.kind, other.value) or (self.expires_at < 0) != (other.expires_at < 0):
            return False
        return abs(self.expires_at - other.expires_at) <= slack


Contents = dict[str, Content]


def contents(connection: redis.Redis) -> Contents:
    """Every key, with sorted sets as {member: score}, and streams with the ids of their entries."""
    keys = sorted(connection.keys())
    with connection.pipeline(transaction=False) as pipeline:
        for key in keys:
            pipeline.type(key).pexpiretime(key)
        answers = pipeline.execute()
        kinds = [kind.decode() for kind in answers[::2]]
        for key, kind in zip(keys, kinds, strict=True):
            _read(pipeline, key, kind)
        values = pipeline.execute()
    return {
        key.decode(errors="replace"): Content(kind, dict(value) if kind == "zset" else value, expires_at)
        for key, kind, value, expires_at in zip(keys, kinds, values, answers[1::2], strict=True)
    }


def _read(pipeline: Pipeline, key: bytes, kind: str) -> None:
    if kind == "hash":
        pipeline.hgetall(key)
    elif kind == "list":
        pipeline.lrange(key, 0, -1)
    elif kind == "set":
        pipeline.smembers(key)
    elif kind == "zset":
        pipeline.zrange(key, 0, -1, withscores=True)
    elif kind == "stream":
        pipeline.xrange(key)
    else:
        pipeline.get(key)


def changed(before: Contents, after: Contents, slack: int = 0) -> dict[str, tuple[Content | None, Content | None]]:
    """The keys that differ, with what they held before and after."""
    pairs = {key: (before.get(key), after.get(key)) for key in before.keys() | after.keys()}
    return {key: (old, new) for key, (old, new) in pairs.items() if not (old and new and old.same(new, slack))}
