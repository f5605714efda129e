"""References to results, `{"$result": "name.path.to[0]"}`, anywhere in the arguments of a workflow's jobs."""

import re
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import redis

from app.pointers import DocumentPath
from app.redis.keys import workflow_key
from app.serializer import JSON

RESULT_KEY = "$result"
REFERENCE = re.compile(r"(?P<job>[A-Za-z_][A-Za-z0-9_]{0,63})(?P<path>(?:\.[^.\[\]]+|\[\d+\])*)")
PATH_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]")


class MissingResult(Exception):
    """A referenced result does not exist."""


@dataclass(frozen=True)
class Reference:
    """A reference to the result of a job in the same workflow, or to a part of it."""

    job: str
    steps: tuple[str | int, ...]

    @classmethod
    def parse(cls, text: object) -> "Reference":
        """Raises ValueError."""
        match = REFERENCE.fullmatch(text) if isinstance(text, str) else None
        if not match:
            raise ValueError(f'{text!r} is not a reference: use "name" or "name.path.to[0]"')
        steps = (int(index) if index else name for name, index in PATH_STEP.findall(match["path"]))
        return cls(match["job"], tuple(steps))

    def of(self, result: Any) -> Any:
        """The referenced part of a result. Raises MissingResult."""
        part = result
        for step in self.steps:
            try:
                part = part[step]
            except (KeyError, IndexError, TypeError):
                raise MissingResult(f"the result of {self.job!r} has no {step!r}") from None
        return part


def is_reference(value: object) -> bool:
    return isinstance(value, dict) and value.keys() == {RESULT_KEY}


def find_references(value: Any, path: DocumentPath = ()) -> Iterator[tuple[DocumentPath, Any]]:
    """The path and the text of each reference in a value."""
    if is_reference(value):
        yield path, value[RESULT_KEY]
    elif isinstance(value, dict):
        for name, part in value.items():
            yield from find_references(part, (*path, name))
    elif isinstance(value, list):
        for number, part in enumerate(value):
            yield from find_references(part, (*path, number))


def resolve(value: Any, results: dict[str, Any]) -> Any:
    """Replace references by results, which are given by job name. Raises MissingResult."""
    if is_reference(value):
        reference = Reference.parse(value[RESULT_KEY])
        if reference.job not in results:
            raise MissingResult(f"there is no result of {reference.job!r}")
        return reference.of(results[reference.job])
    if isinstance(value, dict):
        return {name: resolve(part, results) for name, part in value.items()}
    if isinstance(value, list):
        return [resolve(part, results) for part in value]
    return value


def member_names(node: str, size: int) -> list[str]:
    """The members of a node: its jobs' ids without the workflow's id. `size` is that of library.lua."""
    return [node] if size < 0 else [f"{node}-{number}" for number in range(size)]


def with_results(connection: redis.Redis, job_id: str, args: list[Any], kwargs: dict[str, Any]) -> list[Any]:
    """[args, kwargs] with references replaced by results. Raises MissingResult."""
    names = {Reference.parse(text).job for _, text in find_references([args, kwargs])}
    key = workflow_key(job_id.partition("-")[0])
    results = {}
    for name in names:
        size = int(connection.hget(key, f"size:{name}") or -1)
        if size < 0:
            encoded = connection.hget(f"{key}:results", name)
            if encoded is not None:
                results[name] = _decode_result(encoded)
        else:
            results[name] = [
                _decode_result(data) for data in connection.hmget(f"{key}:results", member_names(name, size))
            ]
    resolved: list[Any] = resolve([args, kwargs], results)
    return resolved


def _decode_result(data: bytes | None) -> Any:
    return JSON.loads(b64decode(data)) if data else None
