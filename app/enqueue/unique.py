"""No second job with the same arguments: a lock in Redis that names the job which holds it.

The lock is never freed: it holds while the state of its job says so, so that no end of a job can leave it behind.
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

WAITING_STATES = (b"queued", b"scheduled", b"deferred", b"created")
DEFAULT_TTL_SECONDS = 30 * 86_400  # seconds that a lock is known, if it says nothing


@dataclass(frozen=True)
class Lock:
    """Of one job to be made."""

    key: str
    rule: Unique

    def is_held(self, status: bytes | None) -> bool:
        """Whether a job in this state holds it."""
        return status in WAITING_STATES or (status == b"started" and self.rule.during == "queued_or_running")

    @property
    def ttl(self) -> int:
        """Milliseconds."""
        return int(1000 * as_seconds(self.rule.ttl or DEFAULT_TTL_SECONDS))


def lock_for(function: Function, args: list[Any], kwargs: dict[str, Any], rule: Unique, pointer: str) -> Lock:
    """Raises Invalid: the rule names what is no argument."""
    named = function.named(args, kwargs)
    if isinstance(rule.by, str):
        key_value: object = fill_key(rule.by, named, f"{pointer}/unique/by")
    else:
        key_value = {name: _argument(named, name, pointer) for name in (named if rule.by is None else rule.by)}
    digest = hashlib.sha256(_encode(key_value)).hexdigest()
    return Lock(unique_key(function.name, digest[:32]), rule)


def _encode(key_value: object) -> bytes:
    try:
        return orjson.dumps(key_value, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS, default=str)
    except TypeError:  # a default value that has no JSON form
        return text_of(key_value).encode()


def _argument(named: dict[str, Any], name: str, pointer: str) -> Any:
    if name not in named:
        error = {"detail": f"{name!r} is no argument", "pointer": f"{pointer}/unique/by"}
        raise Invalid("The key does not fit the arguments", [error])
    return named[name]
