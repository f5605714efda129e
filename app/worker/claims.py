"""The horse's line to Redis: it claims jobs, says which begins, and reports how they ended.

A beginning and an end are sent and not waited for; the next claim reads their answers. Nothing is lost with the line:
what was not answered is sent again (the scripts take it once), and what a lost answer claimed is given back.
"""

import os
import time
from base64 import b64encode
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

import redis
import structlog
from redis.exceptions import ResponseError

from app import recovery
from app.redis import LEASES
from app.worker.wire import TRANSIENT, Wire, pack

KEEP = 90  # seconds that an execution stays registered without a heartbeat, as RQ 2.12 keeps it while a job runs
AHEAD = "a claim"  # in a job's place among what is not answered
LONGEST_WAIT = 2.0  # seconds between two tries to reach Redis

log = structlog.get_logger("jobline.worker")


@dataclass(slots=True)
class Claimed:
    """A job that is ours to run. The fields are as RQ's hash has them; all None if it cannot be read."""

    queue: str
    raw_id: bytes
    execution_id: str
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
    dependency_ids: bytes | None = None
    ttl: bytes | None = None
    id: str = ""
    """Set when it begins: not every id is UTF-8."""


@dataclass(slots=True)
class Finished:
    """The end of a job that succeeded; `result` is JSON, None for no result; times in seconds since 1970."""

    claimed: Claimed
    result: bytes | None
    result_ttl: int
    started_at: float
    ended_at: float


def stamp(seconds: float) -> str:
    """As rq.utils.utcformat (RQ 2.12), in a third of its time."""
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def new_execution() -> str:
    """An id, as RQ makes them."""
    return os.urandom(16).hex()


class Nothing(Enum):
    """Why there is no job."""

    EMPTY = b"empty"
    SUSPENDED = b"suspended"
    BUSY = b"busy"
    """Another bell has rung first."""
    UNLEASED = b"unleased"
    """This worker was given up for dead; its parent's next beat takes a new lease."""


class Claims:
    """Used by the horse alone. `give_up` says, while Redis is away, whether to stop trying."""

    def __init__(self, client: redis.Redis, worker_name: str, give_up: Callable[[], bool]) -> None:
        self.client, self.name, self.give_up = client, worker_name, give_up
        self._worker_key = f"rq:worker:{worker_name}"
        self._unsent, self._unanswered = b"", deque[tuple[str, bytes]]()
        self._sent_again = 0  # of the unanswered: it may be that Redis had taken them
        self._ahead: tuple[list[str], list[str]] | None = None  # queues and executions of a claim that is under way
        self._found_ahead: list[Claimed] = []
        self._wire = Wire(client)
        self._load()

    def claim(self, queues: list[str], count: int) -> list[Claimed] | Nothing:
        """Up to `count` jobs of one queue, or why there is none.

        Raises:
            redis.RedisError: it is time to give up.
        """
        executions = [new_execution() for _ in range(count)]
        return self.understand(queues, self._ask(self.command(queues, executions), executions))

    def claim_ahead(self, queues: list[str], executions: list[str]) -> None:
        """Ask for as many jobs as executions are named, while others run; sent with what comes next."""
        self._ahead = queues, executions
        self._later(AHEAD, self.command(queues, executions))

    def claimed_ahead(self) -> list[Claimed]:
        """What `claim_ahead` has found. Raises as `claim`."""
        if self._ahead:
            self.settle()
        found, self._found_ahead = self._found_ahead, []
        return found

    def command(self, queues: list[str], executions: list[str], only_if_idle: bool = False) -> bytes:
        """The claim of as many jobs as executions are named."""
        keys = [f"rq:queue:{name}" for name in queues]
        return pack(
            "EVALSHA", self._sha["claim"], 2 + len(keys), self._worker_key, LEASES, *keys,
            self.name, KEEP, int(only_if_idle), *executions,
        )  # fmt: skip

    def understand(self, queues: list[str], answer: Any) -> list[Claimed] | Nothing:
        """The answer to a claim of these queues."""
        if isinstance(answer, bytes):
            return Nothing(answer)
        return [Claimed(queues[one[0] - 1], one[1], one[2].decode(), *one[3:]) for one in answer] or Nothing.EMPTY

    def ended(self, finished: Finished) -> None:
        """To be sent with what comes next."""
        self._later(finished.claimed.id, self._finish(finished))

    def begins(self, claimed: Claimed, now: str) -> None:
        """Send it, with the end of the job before. Never raises: what fails is sent again later."""
        self._later(claimed.id, self._begin(claimed, now))
        try:
            self._wire.send(self._unsent)
        except redis.ConnectionError:
            log.warning("the line to redis is cut")
        self._unsent = b""

    def _later(self, job_id: str, command: bytes) -> None:
        self._unanswered.append((job_id, command))
        self._unsent += command

    def settle(self) -> None:
        """Wait until all that was reported is in Redis. Raises as `claim`."""
        if self._unanswered:
            self._ask(None, [])

    def _ask(self, command: bytes | None, executions: list[str]) -> Any:
        wait = 0.05
        while True:
            try:
                self._wire.send(self._unsent + (command or b""))
                self._unsent = b""
                while self._unanswered:
                    self._take_answer(self._unanswered[0][0])
                    self._unanswered.popleft()
                    self._sent_again = max(0, self._sent_again - 1)
                return self._wire.read() if command else None
            except TRANSIENT as error:
                log.warning("redis is away", error=f"{type(error).__name__}: {error}", again_in=wait)
                if self.give_up():
                    raise
                time.sleep(wait)
                wait = min(2 * wait, LONGEST_WAIT)
            self._mend(executions)

    def _take_answer(self, job_id: str) -> None:
        try:
            answer = self._wire.read()
            if job_id is AHEAD and self._ahead:
                found = self.understand(self._ahead[0], answer)
                self._found_ahead, self._ahead = found if isinstance(found, list) else [], None
            elif answer == 0 and not self._sent_again:
                log.warning("too late: the job was taken from this worker", job_id=job_id)
        except ResponseError as error:
            if isinstance(error, TRANSIENT):
                raise
            log.error("redis refuses a report", job_id=job_id, error=str(error))  # noqa: TRY400 - a key of a wrong type: it never passes

    def _mend(self, executions: list[str]) -> None:
        try:
            self._wire.reconnect()
            self._load()
            if self._ahead:
                executions = [*self._ahead[1], *executions]
            recovery.give_back(self.client, executions)  # what lost answers had claimed
            self._ahead = None
            self._unanswered = deque(sent for sent in self._unanswered if sent[0] is not AHEAD)
            self._unsent = b"".join(command for _, command in self._unanswered)
            self._sent_again = len(self._unanswered)
        except redis.RedisError:
            return  # the next try finds the line cut

    def _begin(self, claimed: Claimed, now: str) -> bytes:
        return pack(
            "EVALSHA", self._sha["begin"], 3, self._worker_key, b"rq:job:" + claimed.raw_id, f"rq:wip:{claimed.queue}",
            self.name, claimed.raw_id, claimed.execution_id, now,
        )  # fmt: skip

    def _finish(self, finished: Finished) -> bytes:
        claimed, raw_id = finished.claimed, finished.claimed.raw_id
        return pack(
            "EVALSHA", self._sha["finish"], 5, self._worker_key, f"rq:wip:{claimed.queue}",
            f"rq:finished:{claimed.queue}", b"rq:job:" + raw_id, b"rq:results:" + raw_id,
            self.name, raw_id, claimed.execution_id, b64encode(finished.result or b""), finished.result_ttl,
            finished.started_at, finished.ended_at, stamp(finished.ended_at),
            finished.ended_at - finished.started_at, 1 if claimed.dependency_ids else 0,
        )  # fmt: skip

    def _load(self) -> None:
        self._sha = {name: self.client.script_load(_source(name)) for name in ("claim", "begin", "finish")}


@cache
def _source(name: str) -> str:
    return Path(__file__).with_name(f"{name}.lua").read_text()
