"""Executions: which jobs are claimed or running, and by whom, from RQ's started registries."""

import hashlib
import math
from typing import NamedTuple

import redis

from app.redis.scripts import Script

MARK_LENGTH = 12  # characters of an execution's id that say whose it is; two more say of which of its work horses

EXECUTIONS = Script("lifecycle/executions")


def mark_of(worker_name: str) -> str:
    """The MARK_LENGTH hexadecimal digits with which all execution ids of a worker begin."""
    return hashlib.sha256(worker_name.encode()).hexdigest()[:MARK_LENGTH]


class Execution(NamedTuple):
    """An entry of RQ's started registries."""

    queue: str
    job_id: str
    id: str
    ends_at: float = 0.0
    """When it is lost if it is not renewed, in seconds since 1970."""


def executions(connection: redis.Redis, ends_by: float = math.inf) -> list[Execution]:
    """The executions of all queues that end by this time, in seconds since 1970; none of an unreadable registry."""
    entries = iter(EXECUTIONS(connection, ends_by=ends_by))
    return [
        Execution(queue.decode(errors="replace"), *_parts(member), float(score))
        for queue, member, score in zip(entries, entries, entries, strict=True)
    ]


def horse_mark(worker_name: str, horse_number: int) -> str:
    """The hexadecimal digits with which all execution ids of a work horse begin; a worker's first one has number 0."""
    return f"{mark_of(worker_name)}{horse_number % 256:02x}"


def held_by(connection: redis.Redis, worker_name: str, horse_number: int | None = None) -> list[Execution]:
    """The executions that a worker holds, or one of its work horses."""
    mark = mark_of(worker_name) if horse_number is None else horse_mark(worker_name, horse_number)
    return [execution for execution in executions(connection) if execution.id.startswith(mark)]


def _parts(member: bytes) -> tuple[str, str]:
    """Split a member of RQ's started registry into job id and execution id."""
    job_id, _, execution = member.decode(errors="replace").rpartition(":")
    return job_id, execution
