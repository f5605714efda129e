"""All that Redis holds, to be compared."""

from dataclasses import dataclass
from typing import Any

import redis


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
    found: Contents = {}
    for key in sorted(connection.keys()):
        kind = connection.type(key).decode()
        found[key.decode(errors="replace")] = Content(kind, _value(connection, key, kind), connection.pexpiretime(key))
    return found


def _value(connection: redis.Redis, key: bytes, kind: str) -> Any:
    if kind == "hash":
        return connection.hgetall(key)
    if kind == "list":
        return connection.lrange(key, 0, -1)
    if kind == "set":
        return connection.smembers(key)
    if kind == "zset":
        return dict(connection.zrange(key, 0, -1, withscores=True))
    if kind == "stream":
        return connection.xrange(key)
    return connection.get(key)


def changed(before: Contents, after: Contents, slack: int = 0) -> dict[str, tuple[Content | None, Content | None]]:
    """The keys that differ, with what they held before and after."""
    pairs = {key: (before.get(key), after.get(key)) for key in before.keys() | after.keys()}
    return {key: (old, new) for key, (old, new) in pairs.items() if not (old and new and old.same(new, slack))}
