"""The horse's line to Redis: it claims jobs and reports how they ended, both in one round trip.

Nothing is lost with the line: an end that may not have arrived is reported again (`finish.lua` takes it once), and a
claim whose answer was lost is given back.
"""

import os
import time
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

import redis
import structlog
from redis.exceptions import ConnectionError, NoScriptError, OutOfMemoryError, ReadOnlyError, RedisError, TimeoutError
from rq.utils import utcformat

from app import recovery
from app.redis import LEASES, job_key, registry_key, results_key

KEEP = 90  # seconds that an execution stays registered without a heartbeat, as RQ 2.12 keeps it while a job runs
ANSWER_WITHIN = 10.0  # seconds
LONGEST_WAIT = 2.0  # seconds between two tries to reach Redis
SCRIPTS = ("claim", "finish")
TRANSIENT = (ConnectionError, TimeoutError, OutOfMemoryError, ReadOnlyError)

log = structlog.get_logger("jobline.worker")


@dataclass(slots=True)
class Claimed:
    """A job that has begun. The fields are as RQ's hash has them; all None if it cannot be read."""

    queue: str
    raw_id: bytes
    execution_id: str
    started_at: datetime
    data: bytes | None = None
    created_at: bytes | None = None
    timeout: bytes | None = None
    result_ttl: bytes | None = None
    success_callback: bytes | None = None
    failure_callback: bytes | None = None
    stopped_callback: bytes | None = None
    webhooks: bytes | None = None
    group_id: bytes | None = None
    repeats_left: bytes | None = None
    attempts: bytes | None = None

    @property
    def id(self) -> str:
        """Raises UnicodeDecodeError."""
        return self.raw_id.decode()


@dataclass(slots=True)
class Finished:
    """The end of a job that succeeded; `result` is JSON, None for no result."""

    claimed: Claimed
    result: bytes | None
    result_ttl: int
    ended_at: datetime


class Nothing(Enum):
    """Why there is no job."""

    EMPTY = b"empty"
    SUSPENDED = b"suspended"
    UNLEASED = b"unleased"
    """This worker was given up for dead; its parent's next beat takes a new lease."""


class Claims:
    """One connection, used by the horse alone. `give_up` says when to stop trying to reach Redis."""

    def __init__(self, connection: redis.Redis, worker_name: str, give_up: Callable[[], bool]) -> None:
        self.client, self.name, self.give_up = connection, worker_name, give_up
        self.worker_key = f"rq:worker:{worker_name}"
        self._line = connection.connection_pool.get_connection()
        self._sha: dict[str, str] = {}
        self._load()

    def exchange(self, finished: Finished | None, queues: list[str]) -> Claimed | Nothing:
        """Report an end, if any, and claim the next job, if queues are given: a job, or why there is none.

        Raises:
            ConnectionError: only when Redis is away and it is time to give up.
        """
        wait = 0.05
        execution_id = os.urandom(16).hex()
        while finished or queues:
            try:
                return self._exchange(finished, queues, execution_id)
            except NoScriptError:  # SCRIPT FLUSH
                self._load()
            except TRANSIENT as error:
                log.warning("redis does not take it", error=f"{type(error).__name__}: {error}", again_in=wait)
                self._line.disconnect()
                if self.give_up():
                    raise
                time.sleep(wait)
                wait = min(2 * wait, LONGEST_WAIT)
            self._give_back(queues, execution_id)
        return Nothing.EMPTY

    def _exchange(self, finished: Finished | None, queues: list[str], execution_id: str) -> Claimed | Nothing:
        line, now = self._line, datetime.now(UTC)
        commands = []
        if finished:
            commands.append(line.pack_command(*self._finish(finished)))
        if queues:
            commands.append(line.pack_command(*self._claim(queues, execution_id, now)))
        line.send_packed_command([b"".join(part for command in commands for part in command)], check_health=False)
        refused: RedisError | None = None
        if finished:
            try:
                if not line.read_response(timeout=ANSWER_WITHIN):
                    log.warning("its end came too late", job_id=finished.claimed.id)
            except RedisError as error:
                if not queues or isinstance(error, ConnectionError | TimeoutError):
                    raise
                refused = error  # read on: the next answer is on its way
        found = line.read_response(timeout=ANSWER_WITHIN) if queues else None
        if refused:
            raise refused
        if not isinstance(found, list):
            return Nothing(found or b"empty")
        return Claimed(queues[found[0] - 1], found[1], execution_id, now, *found[2:])

    def _claim(self, queues: list[str], execution_id: str, now: datetime) -> list[Any]:
        keys = [self.worker_key, LEASES, *(f"rq:queue:{name}" for name in queues)]
        return [
            "EVALSHA", self._sha["claim"], len(keys), *keys,
            self.name, execution_id, utcformat(now), now.timestamp(), KEEP,
        ]  # fmt: skip

    def _finish(self, finished: Finished) -> list[Any]:
        claimed = finished.claimed
        keys = [
            self.worker_key, registry_key("wip", claimed.queue), registry_key("finished", claimed.queue),
            job_key(claimed.id), results_key(claimed.id),
        ]  # fmt: skip
        return [
            "EVALSHA", self._sha["finish"], len(keys), *keys,
            self.name, claimed.id, claimed.execution_id,
            "" if finished.result is None else b64encode(finished.result), finished.result_ttl,
            claimed.started_at.timestamp(), finished.ended_at.timestamp(), utcformat(finished.ended_at),
            (finished.ended_at - claimed.started_at).total_seconds(),
        ]  # fmt: skip

    def _load(self) -> None:
        for name in SCRIPTS:
            self._sha[name] = self.client.script_load(_source(name))

    def _give_back(self, queues: list[str], execution_id: str) -> None:
        """After a failure: what the lost answer may have claimed."""
        try:
            for queue in queues:
                recovery.give_back(self.client, queue, execution_id)
        except RedisError:
            return  # still away: the next round tries again


@cache
def _source(name: str) -> str:
    return Path(__file__).with_name(f"{name}.lua").read_text()
