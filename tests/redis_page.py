"""Compares docs/redis.md, through what it is generated from, with what is in a Redis."""

import re
import threading
from functools import cache
from typing import Any

import redis

from app.redis.fields import FIELDS, OTHERS, RQ
from app.redis.keys import DECLARED

NOTIFICATION = "__keyspace@0__:"
REGISTRIES = "wip|finished|failed|deferred|scheduled|canceled"


class Watcher:
    """Collects keys and fields while jobs run: Redis tells of each key that is written; hashes are read repeatedly."""

    def __init__(self, connection: redis.Redis) -> None:
        self.connection, self.problems = connection, set[str]()
        self.seen = set[str]()
        """Names of keys, and `key.field`."""
        self._over, self._pubsub = threading.Event(), connection.pubsub(ignore_subscribe_messages=True)
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Watcher":
        self.connection.config_set("notify-keyspace-events", "KA")
        self._pubsub.psubscribe(f"{NOTIFICATION}*")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(20)
        self.look()
        self._hear()
        self._pubsub.close()
        self.connection.config_set("notify-keyspace-events", "")

    def _watch(self) -> None:
        while not self._over.wait(0.02):
            self.look()
            self._hear()

    def _hear(self) -> None:
        """Names of keys that were written meanwhile, those too that are gone."""
        while message := self._pubsub.get_message():
            key = message["channel"].decode(errors="replace").removeprefix(NOTIFICATION)
            name = name_of(key)
            if name is None:
                self.problems.add(f"key {key}")
            else:
                self.seen.add(name)

    def look(self) -> None:
        for raw in self.connection.keys():
            self._look_at(raw, raw.decode(errors="replace"))

    def _look_at(self, raw: bytes, key: str) -> None:
        name, kind = name_of(key), self.connection.type(raw).decode()
        if kind == "none":
            return  # gone meanwhile
        if name is None:
            self.problems.add(f"key {key}")
            return
        self.seen.add(name)
        if kind not in _declared()[name].kind:
            self.problems.add(f"type {kind} of {key}")
        elif kind == "hash" and name in FIELDS:
            self._look_at_fields(name, self.connection.hkeys(raw))

    def _look_at_fields(self, name: str, fields: list[bytes]) -> None:
        for field in (raw.decode(errors="replace") for raw in fields):
            pattern = next((one.pattern for one in FIELDS[name] if _matches(one.pattern, field)), None)
            if pattern is None:
                self.problems.add(f"field {field} of {name}")
            self.seen.add(f"{name}.{pattern}")


def ours() -> set[str]:
    """What the page says that Jobline itself writes, named as in Watcher.seen."""
    keys = {name for name, declared in DECLARED.items() if declared.pattern.startswith("jobline:")}
    return keys | {f"{name}.{field.pattern}" for name, some in FIELDS.items() for field in some if field.writer != RQ}


@cache
def name_of(key: str) -> str | None:
    """The declaration of a key: of several that match the one with the longest fixed text."""
    matching = [name for name, declared in _declared().items() if _matches(declared.pattern, key)]
    return max(matching, key=lambda name: len(re.sub(r"<\w+>", "", _declared()[name].pattern)), default=None)


def _declared() -> dict[str, Any]:
    return {**OTHERS, **DECLARED}


@cache
def _matches(pattern: str, text: str) -> bool:
    parts = re.split(r"(<\w+>)", pattern)
    expression = "".join(
        (f"({REGISTRIES})" if part == "<registry>" else ".+") if part.startswith("<") else re.escape(part)
        for part in parts
    )
    return re.fullmatch(expression, text, re.DOTALL) is not None
