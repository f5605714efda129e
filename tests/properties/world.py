"""Workers, jobs, limits and workflows on a real Redis, beside a model; after each step the two are compared."""

import contextlib
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import redis

from app import limits
from app.author.options import Limit
from app.enqueue import new_job, write
from app.enqueue.new_job import NewJob
from app.errors import Conflict, Invalid, NotFound
from app.lifecycle import actions, change_job, orphans, quarantine, queues, recovery
from app.lifecycle.recovery import Outcome, Sweeper
from app.redis.keys import EVENTS, LIMITS_WAITING, breaker_key, job_key, queue_key, registry_key
from app.rq_adapter.rq_parts import Follows, Job
from app.settings import get_settings
from app.worker.redis_session import Claimed
from app.worker.rq_fallback import RqFallback
from app.workflows import store
from app.workflows.graph import Node
from tests.properties import checks, transitions
from tests.properties.model import Execution, Model
from tests.properties.model import Job as ModelJob
from tests.scripts.hand import CATALOG, Hand

QUEUES = ("high", "low")
LIMITS: dict[str, dict[str, Limit]] = {
    "none": {},
    "one at a time": {"concurrency": Limit(1, key="{a}")},
    "two of a queue": {"concurrency": Limit(2, by="queue")},
    "rate": {"rate_limit": Limit("2/10s", key="{a}")},
    "rate and concurrency": {"rate_limit": Limit("3/30s"), "concurrency": Limit(1, key="{a}")},
}
FUNCTION = "demo.add"
COOL_DOWN = 30  # seconds


@contextmanager
def callbacks_inline() -> Iterator[None]:
    """Without a process of its own for what follows a failure."""
    forked, recovery.in_child = recovery.in_child, lambda work: work()
    try:
        yield
    finally:
        recovery.in_child = forked


class World:
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

    # Enqueue

    def new_id(self) -> str:
        self.count += 1
        return f"j{self.count}"

    def prepare(self, a: int, limit: str, breaker: bool, **options: Any) -> NewJob:
        job = new_job.prepare(
            CATALOG.get(FUNCTION), get_settings(), [a, 1], {}, **LIMITS[limit],
            **{name: value for name, value in options.items() if value is not None},
        )  # fmt: skip
        if breaker:
            job.limits = [*job.limits, ["breaker", FUNCTION]]
        return job

    def enqueue(self, jobs: list[NewJob]) -> None:
        """All or none; what must come of it is worked out beforehand."""
        expected, ids = self.expected(jobs), None
        with contextlib.suppress(Invalid, Conflict):
            ids = write.enqueue(self.connection, jobs).ids
        assert ids == expected, (ids, expected)

    def expected(self, jobs: list[NewJob]) -> list[str] | None:
        """The ids that the caller gets, None for a refusal. The model then has the new jobs, which events start."""
        taken, replaced, instead = dict[str, str](), set[str](), dict[str, str]()
        for job in jobs:
            if job.named and job.id in self.model.jobs:
                return None
            if not job.lock:
                continue
            key, rule = job.lock.key, job.lock.rule
            holder = self.model.holder(key, rule.during)
            if key in taken:
                if rule.on_conflict == "return":
                    instead[job.id] = taken[key]
                    continue
                if rule.on_conflict == "reject":
                    return None
                replaced.add(taken[key])
            elif holder:
                if rule.on_conflict == "return":
                    instead[job.id] = holder.id
                    continue
                if rule.on_conflict == "reject" or holder.status in ("claimed", "started"):
                    return None
                replaced.add(holder.id)
            taken[key] = job.id
        made = {job.id for job in jobs} - instead.keys() - replaced
        for job in jobs:
            for parent in job.depends_on if job.id in made else ():
                known = instead.get(parent, parent)
                if known in replaced or not (known in made or self.model.may_wait_for(known)):
                    return None
        for job in jobs:
            if job.id in made:
                lock = job.lock.key if job.lock else None
                parents = [instead.get(parent, parent) for parent in job.depends_on]
                self.model.jobs[job.id] = ModelJob(job.id, job.queue, parents=parents, lock=lock)
                if lock:
                    self.model.locks[lock] = job.id
        return [instead.get(job.id, job.id) for job in jobs]

    def submit(self, nodes: list[Node], hooks: list[Node], delays: dict[str, float | None], on_error: str) -> None:
        workflow = f"f{len(self.workflows)}"

        def made(some: list[Node]) -> store.NodeJobs:
            return [(node, self.members(workflow, node, delays.get(node.name))) for node in some]

        flow = store.NewWorkflow(workflow, None, made(nodes), made(hooks), on_error, set(), 5000, 5000)
        self.workflows[workflow] = flow.hash
        store.create(self.connection, flow)

    def members(self, workflow: str, node: Node, delay: float | None) -> list[NewJob]:
        jobs = [self.prepare(1, "none", breaker=False, queue=QUEUES[n % 2]) for n in range(len(node.calls()))]
        for number, job in enumerate(jobs):
            store.assign_to_workflow(job, workflow, node, number, delay, has_webhook=False)
            self.model.jobs[job.id] = ModelJob(job.id, job.queue, workflow=workflow)
        return jobs

    # Workers

    def claim(self, hand: Hand, wanted: int) -> None:
        claimed = hand.ask(wanted)
        self.listen()  # those that were put off
        for one in claimed if isinstance(claimed, list) else ():
            job = self.model.jobs[one.id]
            assert job.status == "queued", f"{one.id} is claimed, and {job.status}"
            assert one.queue == job.queue
            assert one.queue not in self.paused
            job.status = "claimed"
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

    def fail(self, held: tuple[Hand, Claimed]) -> None:
        """RQ's own way out."""
        hand, claimed = held
        follows = Follows(claimed.workflow is not None, claimed.webhook is not None)
        job = Job.begun(claimed.id, self.connection, claimed.queue, ["jobs.demo.add", None, [1, 2], {}], follows)
        way = RqFallback(hand.worker, hand.claims, None, lambda: True)  # type: ignore[arg-type]
        error = RuntimeError("no")
        way.end(job, claimed, time.time() - 2, error)
        if b'"breaker"' in (claimed.limits or b""):
            limits.COUNT_FAILURE(
                self.connection,
                function_name=FUNCTION,
                most=2,
                window=60,
                cool_down=COOL_DOWN,
                token=secrets.token_hex(8),
            )
        self.ended(held)
        self.listen()
        assert self.model.jobs[claimed.id].status in ("failed", "queued", "scheduled")

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
        recovery.recover(self.connection, job.queue, job.id, job.execution_id, recovery.LOST, lambda _: outcome)
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
        for _ in range(recovery.LOOKS_BEFORE_LOST + 2):
            for hand in self.hands:
                if hand is not dead:
                    hand.beat()
            sweeper._next_at = 0
            sweeper.sweep()
        for held in [held for held in (*self.claimed, *self.begun) if held[0] is dead]:
            self.settled(held)
        self.count += 1
        dead.claims._connection.close()
        self.hands[number] = Hand(self.connection, f"w{number}-{self.count}", QUEUES)

    def give_back(self, hand: Hand) -> None:
        held = [one for one in self.claimed if one[0] is hand]
        hand.claims.give_back([job.execution_id for _, job in held])
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

    # What callers do

    def cancel(self, job_id: str) -> None:
        job = self.model.jobs[job_id]
        before = job.status
        outcome = actions.apply(self.connection, job_id, "cancel")
        if before in ("queued", "scheduled", "deferred"):
            assert outcome == b"ok", (before, outcome)
            self.listen()
            assert job.status == "canceled"
        else:
            assert outcome == ("started" if before == "claimed" else before).encode(), (before, outcome)

    def requeue(self, job_id: str, queue: str) -> None:
        job = self.model.jobs[job_id]
        before = job.status
        outcome = actions.send_requeue(self.connection, job_id, queue)
        if before in ("failed", "stopped", "canceled"):
            assert outcome == b"ok", (before, outcome)
            job.queue = queue or job.queue
            self.listen()
            assert job.status == "queued"
        else:
            assert outcome == job.stored_status.encode(), (before, outcome)

    def delete(self, job_id: str) -> None:
        before = self.model.jobs[job_id].status
        outcome = actions.apply(self.connection, job_id, "delete")
        self.listen()
        if before in ("claimed", "started"):
            assert outcome == b"started", (before, outcome)
        else:
            assert (outcome, job_id in self.model.jobs) == (b"ok", False), (before, outcome)

    def change(self, job_id: str, said: dict[str, Any]) -> None:
        job = self.model.jobs[job_id]
        timed = said.keys() & {"at", "delay", "at_front", "timeout"}
        may = job.status in ("queued", "scheduled") or (job.status == "deferred" and not timed)
        self.model.moved = job
        try:
            change_job.update_before_start(self.connection, job_id, **said)
        except Conflict:
            assert not may, (job, said)
            return
        assert may, (job, said)
        job.queue = said.get("queue") or job.queue
        self.listen()
        later = said.get("delay") or (said.get("at") and said["at"] > datetime.now(UTC))
        if later:
            assert job.status == "scheduled", (job, said)
            due = self.connection.zscore(registry_key("scheduled", job.queue), job_id)
            assert (due or 0) > time.time() + 30, (due, said)

    def cancel_workflow(self, workflow: str) -> None:
        """Those that run are stopped by their workers, which is a step of its own."""
        tell, actions.send_command = actions.send_command, lambda *_, **__: None
        wait, actions.STOP_TIMEOUT_SECONDS = actions.STOP_TIMEOUT_SECONDS, 0.0
        try:
            store.cancel(self.connection, workflow)
        except (NotFound, Conflict):
            pass
        finally:
            actions.send_command, actions.STOP_TIMEOUT_SECONDS = tell, wait

    def pause(self, queue: str) -> None:
        queues.pause(self.connection, queue)
        self.paused.add(queue)

    def resume(self, queue: str) -> None:
        queues.resume(self.connection, queue)
        self.paused.discard(queue)

    def empty(self, queue: str) -> None:
        waiting = self.model_queue(queue)
        assert queues.empty(self.connection, queue) == len(waiting)
        self.listen()
        assert not self.model_queue(queue)

    def model_queue(self, queue: str) -> list[str]:
        return [job.id for job in self.model.jobs.values() if job.status == "queued" and job.queue == queue]

    # Time, and what the scheduler does

    def time_passes(self, seconds: float) -> None:
        """All that has a time is so much nearer; then the scheduler looks."""
        with self.connection.pipeline() as pipeline:
            for queue in QUEUES:
                registry = registry_key("scheduled", queue)
                for member in self.connection.zrange(registry, 0, -1):
                    pipeline.zincrby(registry, -seconds, member)
            for member in self.connection.zrange(LIMITS_WAITING, 0, -1):
                pipeline.zincrby(LIMITS_WAITING, -seconds, member)
            for key in self.connection.keys("jobline:limit:*:starts"):
                for place, at in enumerate(self.connection.lrange(key, 0, -1)):
                    pipeline.lset(key, place, f"{float(at) - seconds:.6f}")
            if seconds >= COOL_DOWN:
                pipeline.delete(breaker_key(FUNCTION, "open"))
            pipeline.execute()
        self.move_due()
        self.look()

    def move_due(self) -> None:
        for queue in QUEUES:
            actions.move_due(self.connection, queue, datetime.now(UTC))

    def look(self) -> None:
        """At all limits, as if their time had come."""
        for member in self.connection.zrange(LIMITS_WAITING, 0, -1):
            self.connection.zadd(LIMITS_WAITING, {member: 0})
        limits.sweep(self.connection)
        self.just_looked = True

    def sweep_workflows(self) -> None:
        tell, actions.send_command = actions.send_command, lambda *_, **__: None
        try:
            store.sweep(self.connection, 0, 1)
        finally:
            actions.send_command = tell

    def put_back(self, job_id: str, lost: bool) -> None:
        """A queued job, taken from its list as a stock worker that dies does it; nothing happens to another."""
        job = self.model.jobs[job_id]
        lost = lost and job.status == "queued"
        if lost:
            self.connection.lrem(queue_key(job.queue), 1, job_id)
            self.model.moved = job
        assert orphans.PUT_BACK(self.connection, id=job_id) == int(lost)

    # The end

    def close(self) -> None:
        for hand in self.hands:
            hand.claims._connection.close()

    def drain(self) -> None:
        """Until nothing is left to do; nothing may stand still."""
        for queue in QUEUES:
            self.resume(queue)
        for _ in range(10 * len(self.model.jobs) + 20):
            while self.claimed:
                self.begin(self.claimed[0])
            while self.begun:
                self.finish(self.begun[0])
            self.sweep_workflows()
            self.time_passes(4000)
            self.check()
            for hand in self.hands:
                self.claim(hand, 4)
            self.check()
            if not self.claimed and not self.model.ids("queued", "scheduled"):
                break
        standing = self.model.ids("queued", "claimed", "started", "scheduled")
        assert not standing, f"nothing moves {standing}"
        assert not self.connection.keys("jobline:limit:*:waiting")
        for workflow in self.workflows:
            status = self.connection.hget(f"jobline:workflow:{workflow}", "status")
            assert status != b"running", f"{workflow} runs on, and all of its jobs have ended"
