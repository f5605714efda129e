"""The horse's line to Redis: it claims jobs, says which begins, and reports how they ended.

A beginning and an end are sent and not waited for; the next claim reads their answers. Nothing is lost with the line:
what was not answered is sent again (the scripts take it once), and what a lost answer claimed is given back.
"""

import os
import time
import zlib
from base64 import b64encode
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from enum import Enum
from typing import Any

import redis
import structlog
from redis.exceptions import ResponseError

from app.lifecycle import recovery
from app.redis.client import rq_timestamp
from app.redis.pipelined import PipelinedConnection
from app.redis.scripts import Script
from app.settings import get_settings

KEEP = recovery.EXECUTION_LIVES
A_CLAIM = "a claim"  # in a job's place among what is not answered
LONGEST_WAIT = 2.0  # seconds between two tries to reach Redis

log = structlog.get_logger("jobline.worker")


@dataclass(slots=True)
class Claimed:
    """A job that is ours to run. From `data` on, each field is one of RQ's hash, None if the job cannot be read."""

    queue: str
    raw_id: bytes
    execution_id: str
    data: bytes | None = None
    created_at: bytes | None = None
    timeout: bytes | None = None
    result_ttl: bytes | None = None
    success_callback_name: bytes | None = None
    failure_callback_name: bytes | None = None
    stopped_callback_name: bytes | None = None
    webhooks: bytes | None = None
    group_id: bytes | None = None
    repeats_left: bytes | None = None
    attempts: bytes | None = None
    dependency_ids: bytes | None = None
    ttl: bytes | None = None
    limits: bytes | None = None
    workflow: bytes | None = None
    workflow_webhook: bytes | None = None
    webhook: bytes | None = None

    @property
    def id(self) -> str:
        """Raises ValueError: not every id is UTF-8."""
        return self.raw_id.decode()

    @property
    def has_followers(self) -> bool:
        """Whether a workflow or a webhook hangs on its end."""
        return self.workflow is not None or self.webhook is not None


FIELDS = [field.name for field in fields(Claimed) if field.default is None]
CLAIM = Script("worker/claim", FIELDS=FIELDS, AT={name: n for n, name in enumerate(FIELDS, 1)})
BEGIN = Script("worker/begin")
FINISH = Script("worker/finish")
END_ATTEMPT = recovery.END_ATTEMPT
FINISH_AND_FOLLOW = Script("worker/finish", extra_libraries=["lifecycle/outbox"])
RELEASE = Script("limits/release")
SCRIPTS = (CLAIM, BEGIN, FINISH, FINISH_AND_FOLLOW, END_ATTEMPT, RELEASE)


@dataclass(slots=True)
class Finished:
    """The end of a job that succeeded; `result` is JSON, None for no result; times in seconds since 1970."""

    claimed: Claimed
    result: bytes | None
    result_ttl: int
    started_at: float
    ended_at: float


@dataclass(slots=True)
class Failed:
    """The end of an attempt that raised; times in seconds since 1970."""

    claimed: Claimed
    traceback: str
    may_retry: bool
    wait: float | None
    """Seconds before the retry, those of the job if None."""
    started_at: float
    ended_at: float


class Nothing(Enum):
    """Why there is no job."""

    EMPTY = b"empty"
    AGAIN = b"again"
    """There may be jobs behind those that were put off."""
    PAUSED = b"paused"
    """Only paused queues have jobs."""
    SUSPENDED = b"suspended"
    BUSY = b"busy"
    """Another bell has rung first; or the claim came late, on a line that was given up."""
    UNLEASED = b"unleased"
    """This worker was given up for dead; its parent's next beat takes a new lease."""


class Claims:
    """Used by the horse alone. `give_up` says, while Redis is away, whether to stop trying."""

    def __init__(
        self,
        client: redis.Redis,
        worker_name: str,
        give_up: Callable[[], bool],
        wire_class: type[PipelinedConnection] = PipelinedConnection,
    ) -> None:
        self.client, self.name, self.give_up = client, worker_name, give_up
        self._mark = recovery.mark_of(worker_name)
        self._failure_ttl = get_settings().failure_ttl
        self._unsent, self._unanswered = b"", deque[tuple[str, bytes]]()
        self._sent_again = 0  # of the unanswered: it may be that Redis had taken them
        self._asked: tuple[list[str], list[str]] | None = None  # queues and executions
        self._found: list[Claimed] | Nothing | None = None
        self._wire = wire_class(client)
        self._load()
        self.fence = recovery.fence(client, worker_name)

    @property
    def asked(self) -> bool:
        """Whether a claim is under way, or its answer has not been taken: `settle` may have read it."""
        return self._asked is not None or self._found is not None

    def claim(self, queues: list[str], executions: list[str]) -> list[Claimed] | Nothing:
        """Up to as many jobs of one queue as executions are named, or why there is none.

        Raises:
            redis.RedisError: it is time to give up.
        """
        found = None
        while found is None:
            self.ask(queues, executions)
            found = self.answer()
        return found

    def new_executions(self, count: int) -> list[str]:
        """Ids as long as RQ's; their beginning says whose they are."""
        return [self._mark + os.urandom(10).hex() for _ in range(count)]

    def ask(self, queues: list[str], executions: list[str]) -> None:
        """A claim, to be sent with what comes next."""
        self._asked, self._found = (queues, executions), None
        self._later(A_CLAIM, self.command(queues, executions))

    def answer(self) -> list[Claimed] | Nothing | None:
        """What `ask` has found, once; None if the line was cut and what it claimed given back. Raises as `claim`."""
        self._exchange(lambda: self._asked is None)
        found, self._found = self._found, None
        return found

    def command(self, queues: list[str], executions: list[str], only_if_idle: bool = False) -> bytes:
        """The claim of as many jobs as executions are named."""
        words = CLAIM.argv(
            [*queues, *executions],
            worker=self.name,
            execution_kept=KEEP,
            fence=self.fence,
            only_if_idle=int(only_if_idle),
            queue_count=len(queues),
        )
        return CLAIM.packed(words)

    def understand(self, queues: list[str], answer: Any) -> list[Claimed] | Nothing:
        """The answer to a claim of these queues."""
        if isinstance(answer, bytes):
            return Nothing(answer)
        return [Claimed(queues[one[0] - 1], one[1], one[2].decode(), *one[3:]) for one in answer] or Nothing.EMPTY

    def ended(self, finished: Finished) -> None:
        """To be sent with what comes next."""
        self._later(finished.claimed.id, self._finish(finished))

    def failed(self, failed: Failed) -> None:
        """To be sent with what comes next."""
        claimed = failed.claimed
        words = END_ATTEMPT.argv(
            queue=claimed.queue,
            id=claimed.raw_id,
            execution=claimed.execution_id,
            outcome="raised" if failed.may_retry else "failed",
            now=rq_timestamp(datetime.fromtimestamp(failed.ended_at, UTC)),
            now_seconds=failed.ended_at,
            reason=b64encode(zlib.compress(failed.traceback.encode(errors="replace"))),
            failure_ttl=self._failure_ttl,
            began_at=failed.started_at,
            wait="" if failed.wait is None else failed.wait,
            worker=self.name,
            spent=failed.ended_at - failed.started_at,
        )
        self._later(claimed.id, END_ATTEMPT.packed(words))

    def releases(self, claimed: Claimed) -> None:
        """The job has ended: others that its limits held up may begin. Sent as `begins` is."""
        words = RELEASE.argv(
            limits=claimed.limits or b"[]", queue=claimed.queue, id=claimed.raw_id, execution=claimed.execution_id
        )
        self._later(claimed.id, RELEASE.packed(words))
        self._send_now()

    def begins(self, claimed: Claimed, now: float) -> None:
        """Send it, with the end of the job before. Never raises: what fails is sent again later."""
        self._later(claimed.id, self._begin(claimed, now))
        self._send_now()

    def settle(self) -> None:
        """Wait until all that was reported is in Redis. Raises as `claim`."""
        self._exchange(lambda: not self._unanswered)

    def give_back(self, executions: list[str]) -> None:
        """What claims on a line that was cut have taken, or might still take. Raises redis.RedisError."""
        self.fence = recovery.fence(self.client, self.name)
        recovery.give_back(self.client, executions)

    def _later(self, what: str, command: bytes) -> None:
        self._unanswered.append((what, command))
        self._unsent += command

    def _send_now(self) -> None:
        try:
            self._send()
        except redis.ConnectionError:
            log.warning("the line to redis is cut")

    def _send(self) -> None:
        commands, self._unsent = self._unsent, b""
        self._wire.send(commands)

    def _exchange(self, done: Callable[[], bool]) -> None:
        """Send what is to be sent, and read answers until it is done."""
        wait = 0.05
        while not done():
            try:
                self._send()
                while not done():
                    self._take_answer(self._unanswered[0][0])
                    self._unanswered.popleft()
                    self._sent_again = max(0, self._sent_again - 1)
            except (redis.ConnectionError, redis.TimeoutError) as error:
                log.warning("redis is away", error=f"{type(error).__name__}: {error}", again_in=wait)
                if self.give_up():
                    raise
                time.sleep(wait)
                wait = min(2 * wait, LONGEST_WAIT)
                self._mend()

    def _take_answer(self, what: str) -> None:
        try:
            answer = self._wire.read()
            if what is A_CLAIM and self._asked:
                self._found, self._asked = self.understand(self._asked[0], answer), None
            elif answer == 0 and not self._sent_again:
                log.warning("too late: the job was taken from this worker", job_id=what)
        except ResponseError as error:
            log.error("redis refuses a report", job_id=what, error=str(error))  # noqa: TRY400 - a key of a wrong type: it never passes

    def _mend(self) -> None:
        self._wire.cut()
        try:
            self._load()
            if self._asked:
                self.give_back(self._asked[1])
            self._wire.connect()
        except redis.RedisError:
            return  # the next try finds the wire cut
        self._asked = None
        self._unanswered = deque(sent for sent in self._unanswered if sent[0] is not A_CLAIM)
        self._unsent = b"".join(command for _, command in self._unanswered)
        self._sent_again = len(self._unanswered)

    def _begin(self, claimed: Claimed, now: float) -> bytes:
        words = BEGIN.argv(
            worker=self.name,
            queue=claimed.queue,
            id=claimed.raw_id,
            execution=claimed.execution_id,
            now=rq_timestamp(datetime.fromtimestamp(now, UTC)),
        )
        return BEGIN.packed(words)

    def _finish(self, finished: Finished) -> bytes:
        claimed = finished.claimed
        words = FINISH.argv(
            worker=self.name,
            queue=claimed.queue,
            id=claimed.raw_id,
            execution=claimed.execution_id,
            value=b64encode(finished.result or b""),
            result_ttl=finished.result_ttl,
            started=finished.started_at,
            ended=finished.ended_at,
            now=rq_timestamp(datetime.fromtimestamp(finished.ended_at, UTC)),
            spent=finished.ended_at - finished.started_at,
            has_dependencies=1 if claimed.dependency_ids else 0,
            has_followers=1 if claimed.has_followers else 0,
        )
        return (FINISH_AND_FOLLOW if claimed.has_followers else FINISH).packed(words)

    def _load(self) -> None:
        for script in SCRIPTS:
            self.client.script_load(script.text)
