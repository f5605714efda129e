"""Unique jobs: a lock in Redis that contains the id of the job holding it.

The lock is never released explicitly. Whether it is held follows from the job's status (enqueue/library.lua), so no way
of ending a job can leave it behind.
"""

import hashlib
from dataclasses import dataclass
from typing import Any

import orjson

from app.author.durations import as_seconds
from app.author.options import Unique
from app.catalog.call_keys import fill_key
from app.catalog.catalog import Function
from app.errors import Invalid
from app.redis.keys import unique_key
from app.serializer import text_of

DEFAULT_TTL_SECONDS = 30 * 86_400


@dataclass(frozen=True)
class Lock:
    """The unique lock that a new job takes."""

    key: str
    rule: Unique

    @property
    def ttl(self) -> int:
        """Milliseconds."""
        return int(1000 * as_seconds(self.rule.ttl or DEFAULT_TTL_SECONDS))


def lock_for(function: Function, args: list[Any], kwargs: dict[str, Any], rule: Unique, pointer: str) -> Lock:
    """The lock for a call. Raises Invalid: the rule refers to an unknown argument."""
    named = function.bind(args, kwargs)
    if isinstance(rule.by, str):
        key_value: object = fill_key(rule.by, named, f"{pointer}/unique/by")
    else:
        key_value = {name: _argument(named, name, pointer) for name in (named if rule.by is None else rule.by)}
    digest = hashlib.sha256(_encode(key_value)).hexdigest()
    return Lock(unique_key(function.name, digest[:32]), rule)


def _encode(key_value: object) -> bytes:
    try:
        return orjson.dumps(key_value, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS, default=str)
    except TypeError:  # a default value that is not serializable
        return text_of(key_value).encode()


def _argument(named: dict[str, Any], name: str, pointer: str) -> Any:
    if name not in named:
        error = {"detail": f"{name!r} is no argument", "pointer": f"{pointer}/unique/by"}
        raise Invalid("The key does not fit the arguments", [error])
    return named[name]
