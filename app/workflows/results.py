"""`{"$result": "name.path.to[0]"}`, anywhere in the arguments of a job: the result of a job that it needs."""

import re
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import redis

from app.pointers import DocumentPath
from app.redis.keys import workflow_key
from app.serializer import JSON

KEY = "$result"
REFERENCE = re.compile(r"(?P<job>[A-Za-z_][A-Za-z0-9_]{0,63})(?P<path>(?:\.[^.\[\]]+|\[\d+\])*)")
STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]")


class NoResult(Exception):
    """What a job needs of another is not there."""


@dataclass(frozen=True)
class Reference:
    """To the result of a job of the same workflow, or to a part of it."""

    job: str
    steps: tuple[str | int, ...]

    @classmethod
    def parse(cls, text: object) -> "Reference":
        """Raises ValueError."""
        found = REFERENCE.fullmatch(text) if isinstance(text, str) else None
        if not found:
            raise ValueError(f'{text!r} names no result: say "name", or "name.path.to[0]"')
        steps = (int(index) if index else name for name, index in STEP.findall(found["path"]))
        return cls(found["job"], tuple(steps))

    def of(self, result: Any) -> Any:
        """Raises NoResult."""
        here = result
        for step in self.steps:
            try:
                here = here[step]
            except (KeyError, IndexError, TypeError):
                raise NoResult(f"the result of {self.job!r} has no {step!r}") from None
        return here


def is_reference(value: object) -> bool:
    return isinstance(value, dict) and value.keys() == {KEY}


def found_in(value: Any, place: DocumentPath = ()) -> Iterator[tuple[DocumentPath, Any]]:
    """Where in a value references are, and what each says."""
    if is_reference(value):
        yield place, value[KEY]
    elif isinstance(value, dict):
        for name, part in value.items():
            yield from found_in(part, (*place, name))
    elif isinstance(value, list):
        for number, part in enumerate(value):
            yield from found_in(part, (*place, number))


def filled(value: Any, results: dict[str, Any]) -> Any:
    """The value with the results, by job, in place of the references. Raises NoResult."""
    if is_reference(value):
        reference = Reference.parse(value[KEY])
        if reference.job not in results:
            raise NoResult(f"there is no result of {reference.job!r}")
        return reference.of(results[reference.job])
    if isinstance(value, dict):
        return {name: filled(part, results) for name, part in value.items()}
    if isinstance(value, list):
        return [filled(part, results) for part in value]
    return value


def members(node: str, size: int) -> list[str]:
    """The jobs of a node, by what stands behind the workflow's id; `size` as library.lua has it."""
    return [node] if size < 0 else [f"{node}-{number}" for number in range(size)]


def with_results(connection: redis.Redis, job_id: str, args: list[Any], kwargs: dict[str, Any]) -> list[Any]:
    """[args, kwargs], with the results that they name. Raises NoResult."""
    names = {Reference.parse(text).job for _, text in found_in([args, kwargs])}
    key = workflow_key(job_id.partition("-")[0])
    results = {}
    for name in names:
        size = int(connection.hget(key, f"size:{name}") or -1)
        if size < 0:
            found = connection.hget(f"{key}:results", name)
            if found is not None:
                results[name] = _value(found)
        else:
            results[name] = [_value(one) for one in connection.hmget(f"{key}:results", members(name, size))]
    answer: list[Any] = filled([args, kwargs], results)
    return answer


def _value(result: bytes | None) -> Any:
    return JSON.loads(b64decode(result)) if result else None
