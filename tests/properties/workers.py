"""Workers on a real Redis, beside a model; after each step the two are compared."""

import secrets
import time
from typing import Any

import redis

from app import limits
from app.lifecycle import executions, lost_workers, quarantine, recovery
from app.lifecycle.lost_workers import Sweeper
from app.lifecycle.recovery import Outcome
from app.redis.keys import EVENTS, job_key
from app.rq_adapter.rq_parts import Follows, Job
from app.worker.claimed import Claimed, Failed
from app.worker.rq_fallback import RqFallback
from tests.properties import checks, transitions
from tests.properties.model import Execution, Model
from tests.scripts.hand import Hand

QUEUES = ("high", "low")
FUNCTION = "demo.add"
COOL_DOWN = 30  # seconds


class Workers:
    """Every method is one step: it acts, and says what the model has to be then."""

    def __init__(self, connection: redis.Redis) -> None:
        self.connection, self.model = connection, Model()
        connection.flushall()
        self.heard = connection.xadd(EVENTS, {"ids": ""})
        self.hands = [Hand(connection, f"w{number}", QUEUES) for number in range(3)]
        self.claimed: list[tuple[Hand, Claimed]] = []
        self.begun: list[tuple[Hand, Claimed]] = []
        self.over: list[tuple[Hand, Claimed]] = []
        """Executions that have ended, or were taken from their worker."""
        self.paused: set[str] = set()
        self.workflows: dict[str, dict[str, Any]] = {}
        self.count = 0
        self.just_looked = False

    # What follows each step

    def check(self) -> None:
        self.listen()
        problems = checks.problems(self)
        assert not problems, problems
        self.model.moved, self.just_looked = None, False

    def listen(self) -> None:
        """Apply what was told since the last step."""
        for entry, raw in self.connection.xrange(EVENTS, b"(" + self.heard):
            self.heard = entry
            status = raw[b"status"].decode()
            for job_id in raw[b"ids"].decode().split():
                if job_id in self.workflows or status == "progress":
                    continue
                result = self.model.told(job_id, status)
                assert not isinstance(result, str), result
                transitions.seen[result] += 1
        self.connection.xtrim(EVENTS, maxlen=1)

    def new_id(self) -> str:
        self.count += 1
        return f"j{self.count}"

    def claim(self, hand: Hand, wanted: int) -> None:
        claimed = hand.ask(wanted)
        self.listen()  # those that were put off
        for one in claimed if isinstance(claimed, list) else ():
            job = self.model.jobs[one.id]
            assert job.status == "queued", f"{one.id} is claimed, and {job.status}"
            assert one.queue == job.queue
            assert one.queue not in self.paused
            job.status = "claimed"
            transitions.seen["queued", "claimed"] += 1
            self.claimed.append((hand, one))
            self.model.executions[one.execution_id] = Execution(one.id, one.queue, one.limits)

    def begin(self, held: tuple[Hand, Claimed]) -> None:
        self.claimed.remove(held)
        self.begun.append(held)
        hand, job = held
        hand.begin(job)
        self.model.executions[job.execution_id].begun = True
        self.listen()
        assert self.model.jobs[job.id].status == "started"

    def finish(self, held: tuple[Hand, Claimed]) -> None:
        hand, job = held
        hand.finish(job, ran=2)
        self.ended(held)
        self.listen()
        assert self.model.jobs[job.id].status == "finished"

    def fail(self, held: tuple[Hand, Claimed], may_retry: bool) -> None:
        hand, job = held
        now = time.time()
        hand.session.failed(Failed(job, "RuntimeError: no", may_retry, None, now - 2, now))
        hand.session.settle()
        self.count_failure(job)
        self.ended(held)
        self.listen()
        assert self.model.jobs[job.id].status in ("failed", "queued", "scheduled")

    def fail_as_rq(self, held: tuple[Hand, Claimed]) -> None:
        """As a job with callbacks fails: RQ writes its end, on another connection."""
        hand, claimed = held
        follows = Follows(claimed.workflow is not None, claimed.webhook is not None)
        job = Job.begun(claimed.id, self.connection, claimed.queue, ["jobs.demo.add", None, [1, 2], {}], follows)
        way = RqFallback(hand.worker, hand.session, None, lambda: True)  # type: ignore[arg-type]
        way.end(job, claimed, time.time() - 2, RuntimeError("no"))
        self.count_failure(claimed)
        self.ended(held)
        self.listen()
        assert self.model.jobs[claimed.id].status in ("failed", "queued", "scheduled")

    def count_failure(self, job: Claimed) -> None:
        if b'"breaker"' in (job.limits or b""):
            limits.COUNT_FAILURE(
                self.connection,
                function_name=FUNCTION,
                most=2,
                window=60,
                cool_down=COOL_DOWN,
                token=secrets.token_hex(8),
            )

    def ended(self, held: tuple[Hand, Claimed]) -> None:
        hand, job = held
        if job.limits:
            hand.release(job)
        self.settled(held)

    def settled(self, held: tuple[Hand, Claimed]) -> None:
        """The execution is over."""
        for some in (self.claimed, self.begun):
            if held in some:
                some.remove(held)
        self.over = [*self.over[-9:], held]
        self.model.executions.pop(held[1].execution_id, None)

    def lose(self, held: tuple[Hand, Claimed], outcome: Outcome) -> None:
        """The execution is recovered."""
        _, job = held
        if outcome is Outcome.RETRIED and not self.connection.hget(job_key(job.id), "retries_left"):
            outcome = Outcome.AGAIN
        if held in self.claimed:
            outcome = Outcome.RETURNED
        recovery.recover(
            self.connection, executions.Execution(job.queue, job.id, job.execution_id), recovery.LOST, lambda _: outcome
        )
        self.settled(held)

    def quarantine(self, held: tuple[Hand, Claimed]) -> None:
        """The worker cannot read the job."""
        _, job = held
        if job.workflow:
            return  # its hash is written anew, and is no job of the workflow any more
        quarantine.quarantine(self.connection, job.raw_id, job.queue, ValueError("no call"), job.execution_id)
        self.ended(held)
        self.listen()
        assert self.model.jobs[job.id].status == "failed"

    def lose_worker(self, number: int) -> None:
        """The worker is dead for so long that a sweeper buries it; another takes its place."""
        dead, sweeper = self.hands[number], Sweeper(self.connection)
        for _ in range(lost_workers.LOOKS_BEFORE_LOST + 2):
            for hand in self.hands:
                if hand is not dead:
                    hand.beat()
            sweeper._next_at = 0
            sweeper.sweep()
        for held in [held for held in (*self.claimed, *self.begun) if held[0] is dead]:
            self.settled(held)
        self.count += 1
        dead.session._connection.close()
        self.hands[number] = Hand(self.connection, f"w{number}-{self.count}", QUEUES)

    def give_back(self, hand: Hand) -> None:
        held = [one for one in self.claimed if one[0] is hand]
        hand.session.give_back([job.execution_id for _, job in held])
        for one in held:
            self.settled(one)

    def beat(self, held: tuple[Hand, Claimed]) -> None:
        assert held[0].beat(held[1])[1] == 1

    def speak_late(self, held: tuple[Hand, Claimed]) -> None:
        """Of an execution that is over: it changes nothing."""
        hand, job = held
        hand.begin(job)
        hand.finish(job)
        hand.release(job)
