"""The work horse's connection to Redis: claims jobs, and reports their starts and ends.

Starts and ends are pipelined and not waited for; the next claim reads their answers. Nothing is lost with a connection:
unanswered reports are sent again (the scripts act once), and jobs of a claim whose answer was lost are given back.
"""

import os
import time
import zlib
from base64 import b64encode
from collections import deque
from collections.abc import Callable
from typing import Any

import redis
import structlog
from redis.exceptions import ResponseError

from app.lifecycle import recovery
from app.lifecycle.executions import horse_mark
from app.metrics.shared_counters import SharedCounters
from app.redis.client import rq_time
from app.redis.pipelined import PipelinedConnection
from app.redis.scripts import Script
from app.settings import get_settings
from app.worker.claimed import FIELDS, Claimed, Ended, Failed, Finished, Nothing

EXECUTION_TTL_SECONDS = recovery.EXECUTION_TTL_SECONDS
CLAIM_REQUEST = "a claim"  # in a job's place among what is not answered
MAX_RECONNECT_WAIT_SECONDS = 2.0  # seconds between two tries to reach Redis

log = structlog.get_logger("jobline.worker")


CLAIM = Script("worker/claim", FIELDS=FIELDS, FIELD_COUNT=len(FIELDS), AT={name: n for n, name in enumerate(FIELDS, 1)})
BEGIN = Script("worker/begin")
FINISH = Script("worker/finish")
END_ATTEMPT = recovery.END_ATTEMPT
FINISH_AND_FOLLOW = Script("worker/finish", extra_libraries=["lifecycle/outbox"])
RELEASE = Script("limits/release")
SCRIPTS = (CLAIM, BEGIN, FINISH, FINISH_AND_FOLLOW, END_ATTEMPT, RELEASE)


class RedisSession:
    """The connection of one horse. `give_up` is asked, while Redis is away, whether to stop trying."""

    def __init__(
        self,
        client: redis.Redis,
        worker_name: str,
        give_up: Callable[[], bool],
        connection_class: type[PipelinedConnection] = PipelinedConnection,
        horse_number: int = 0,
        counters: SharedCounters | None = None,
    ) -> None:
        self.client, self.name, self.give_up = client, worker_name, give_up
        self._counters = counters or SharedCounters()
        self.others_run = False
        """Whether this worker runs jobs while it claims more."""
        self._mark = horse_mark(worker_name, horse_number)
        self._failure_ttl = get_settings().failure_ttl
        self._unsent, self._unanswered = b"", deque[tuple[str, bytes]]()
        self._resent = 0  # how many of the unanswered may have been executed before
        self._pending_claim: tuple[list[str], list[str]] | None = None  # queues and executions
        self._claim_answer: list[Claimed] | Nothing | None = None
        self._connection = connection_class(client)
        self._load()
        self.fence = recovery.fence(client, worker_name)

    @property
    def has_pending_claim(self) -> bool:
        """Whether a claim is under way, or its answer has not been taken: `settle` may have read it."""
        return self._pending_claim is not None or self._claim_answer is not None

    def claim(self, queues: list[str], executions: list[str]) -> list[Claimed] | Nothing:
        """Claim up to as many jobs of one queue as there are executions. Returns them, or why there is none.

        Raises:
            redis.RedisError: it is time to give up.
        """
        answer = None
        while answer is None:
            self.request_claim(queues, executions)
            answer = self.claim_answer()
        return answer

    def new_executions(self, count: int) -> list[str]:
        """New execution ids, as long as RQ's. They begin with the mark of this horse (`horse_mark`)."""
        digits = os.urandom(9 * count).hex()
        return [self._mark + digits[start : start + 18] for start in range(0, len(digits), 18)]

    def request_claim(self, queues: list[str], executions: list[str]) -> None:
        """Queue a claim. It is sent with the next command."""
        self._pending_claim, self._claim_answer = (queues, executions), None
        self._queue(CLAIM_REQUEST, self.claim_command(queues, executions))

    def claim_answer(self) -> list[Claimed] | Nothing | None:
        """The answer to `request_claim`. None: the connection was lost, and what was claimed given back."""
        self._exchange(lambda: self._pending_claim is None)
        answer, self._claim_answer = self._claim_answer, None
        return answer

    def claim_command(self, queues: list[str], executions: list[str], only_if_idle: bool = False) -> bytes:
        """The command that claims as many jobs as there are executions."""
        return CLAIM.command(
            [*queues, *executions],
            worker=self.name,
            execution_kept=EXECUTION_TTL_SECONDS,
            fence=self.fence,
            only_if_idle=int(only_if_idle),
            others_run=int(self.others_run),
            queue_count=len(queues),
        )

    def parse_claim(self, queues: list[str], answer: Any) -> list[Claimed] | Nothing:
        """Decode the answer to a claim of these queues."""
        if isinstance(answer, bytes):
            return Nothing(answer)
        jobs = [
            Claimed(queues[number - 1], job_id.decode(errors="surrogateescape"), execution.decode(), *fields)
            for number, job_id, execution, *fields in answer
        ]
        return jobs or Nothing.EMPTY

    def ended(self, finished: Finished) -> None:
        """Report a success. It is sent with the next command."""
        claimed, has_followers = finished.claimed, finished.claimed.has_followers
        command = (FINISH_AND_FOLLOW if has_followers else FINISH).command(
            worker=self.name,
            queue=claimed.queue,
            id=claimed.id,
            execution=claimed.execution_id,
            value=b64encode(finished.result or b""),
            result_ttl=finished.result_ttl,
            started=finished.started_at,
            ended=finished.ended_at,
            now=rq_time(finished.ended_at),
            spent=finished.ended_at - finished.started_at,
            has_dependencies=1 if claimed.dependency_ids else 0,
            has_followers=1 if has_followers else 0,
            has_log=1 if claimed.has_log else 0,
        )
        self._queue(claimed.id, command)
        self._count(claimed, "finished", finished.started_at, finished.ended_at)

    def failed(self, failed: Failed) -> None:
        """Report an attempt that raised. It is sent with the next command."""
        claimed = failed.claimed
        command = END_ATTEMPT.command(
            queue=claimed.queue,
            id=claimed.id,
            execution=claimed.execution_id,
            outcome="raised" if failed.may_retry else "failed",
            now=rq_time(failed.ended_at),
            now_seconds=failed.ended_at,
            reason=b64encode(zlib.compress(failed.traceback.encode())),
            failure_ttl=self._failure_ttl,
            began_at=failed.started_at,
            wait="" if failed.wait is None else failed.wait,
            worker=self.name,
            spent=failed.ended_at - failed.started_at,
            counted_as="outcome",
            counted_function=claimed.function,
        )
        self._queue(claimed.id, command)
        self._count(claimed, None, failed.started_at, failed.ended_at)

    def counts(self, ended: Ended) -> None:
        """Count the end of an attempt in the metrics, where neither `ended` nor `failed` reports it."""
        self._count(*ended)

    def _count(self, claimed: Claimed, outcome: str | None, started_at: float, ended_at: float) -> None:
        run, wait = ended_at - started_at, claimed.waited(started_at)
        self._counters.count(claimed.function, claimed.queue, outcome, run, wait)

    def releases(self, claimed: Claimed) -> None:
        """Give back the places that an ended job held in its limits. Sent at once, as `begins`."""
        command = RELEASE.command(
            limits=claimed.limits or b"[]", queue=claimed.queue, id=claimed.raw_id, execution=claimed.execution_id
        )
        self._queue(claimed.id, command)
        self.flush()

    def begins(self, claimed: Claimed, now: float) -> None:
        """Report that a job begins, and send all queued reports. Never raises: what fails is sent again later."""
        self.queue_begin(claimed, now)
        self.flush()

    def queue_begin(self, claimed: Claimed, now: float) -> None:
        """Report that a job begins. It is sent with the next command."""
        command = BEGIN.command(
            worker=self.name,
            queue=claimed.queue,
            id=claimed.id,
            execution=claimed.execution_id,
            now=rq_time(now),
        )
        self._queue(claimed.id, command)

    def settle(self) -> None:
        """Wait until Redis has answered all reports. Raises as `claim`."""
        self._exchange(lambda: not self._unanswered)

    def give_back(self, executions: list[str]) -> None:
        """Give back what claims on a lost connection have taken, and fence off those still on their way.

        Raises:
            redis.RedisError
        """
        self.fence = recovery.fence(self.client, self.name)
        recovery.give_back(self.client, executions)

    def _queue(self, job_id: str, command: bytes) -> None:
        self._unanswered.append((job_id, command))
        self._unsent += command

    def flush(self) -> None:
        """Send all queued reports. Never raises: what fails is sent again later."""
        try:
            self._send()
        except redis.ConnectionError:
            log.warning("the connection to redis is lost")

    def _send(self) -> None:
        commands, self._unsent = self._unsent, b""
        self._connection.send(commands)

    def _exchange(self, done: Callable[[], bool]) -> None:
        """Send the queued commands, and read answers until `done`. Reconnects and sends again while Redis is away."""
        wait = 0.05
        while not done():
            try:
                self._send()
                while not done():
                    self._read_answer(self._unanswered[0][0])
                    self._unanswered.popleft()
                    self._resent = max(0, self._resent - 1)
            except (redis.ConnectionError, redis.TimeoutError) as error:
                log.warning("redis is away", error=f"{type(error).__name__}: {error}", again_in=wait)
                if self.give_up():
                    raise
                time.sleep(wait)
                wait = min(2 * wait, MAX_RECONNECT_WAIT_SECONDS)
                self._reconnect()

    def _read_answer(self, job_id: str) -> None:
        try:
            answer = self._connection.read()
            if job_id is CLAIM_REQUEST and self._pending_claim:
                self._claim_answer, self._pending_claim = self.parse_claim(self._pending_claim[0], answer), None
            elif answer == 0 and not self._resent:
                log.warning("too late: the job was taken from this worker", job_id=job_id)
        except ResponseError as error:
            log.error("redis refuses a report", job_id=job_id, error=str(error))  # noqa: TRY400 - a key of a wrong type: it never passes

    def _reconnect(self) -> None:
        self._connection.cut()
        try:
            self._load()
            if self._pending_claim:
                self.give_back(self._pending_claim[1])
            self._connection.connect()
        except redis.RedisError:
            return  # the next try finds the connection closed
        self._pending_claim = None
        self._unanswered = deque(sent for sent in self._unanswered if sent[0] is not CLAIM_REQUEST)
        self._unsent = b"".join(command for _, command in self._unanswered)
        self._resent = len(self._unanswered)

    def _load(self) -> None:
        with self.client.pipeline(transaction=False) as pipeline:
            for script in SCRIPTS:
                pipeline.script_load(script.text)
            pipeline.execute()
