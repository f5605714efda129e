"""A real Redis beside a model: steps of callers and of the scheduler, with those of workers."""

import contextlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from unittest import mock

from app import limits
from app.author.options import Limit
from app.enqueue import new_job, write
from app.enqueue.new_job import NewJob
from app.errors import Conflict, Invalid, NotFound
from app.lifecycle import actions, callback_processes, change_job, orphans, queues
from app.redis.keys import LIMITS_WAITING, breaker_key, queue_key, registry_key
from app.settings import get_settings
from app.workflows import store
from app.workflows.graph import Node
from tests.properties.model import Job as ModelJob
from tests.properties.workers import COOL_DOWN, FUNCTION, QUEUES, Workers
from tests.scripts.hand import CATALOG

LIMITS: dict[str, dict[str, Limit]] = {
    "none": {},
    "one at a time": {"concurrency": Limit(1, key="{a}")},
    "two of a queue": {"concurrency": Limit(2, by="queue")},
    "rate": {"rate_limit": Limit("2/10s", key="{a}")},
    "rate and concurrency": {"rate_limit": Limit("3/30s"), "concurrency": Limit(1, key="{a}")},
}


@contextmanager
def callbacks_inline() -> Iterator[None]:
    """Without a process of its own for what follows a failure."""
    forked, callback_processes.start = callback_processes.start, lambda work: work()
    try:
        yield
    finally:
        callback_processes.start = forked


class World(Workers):
    """All steps."""

    # Enqueue

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
            store.assign_to_workflow(job, workflow, node, number, delay, False)
            self.model.jobs[job.id] = ModelJob(job.id, job.queue, workflow=workflow)
        return jobs

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

    def requeue(self, job_id: str, queue: str = "") -> None:
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
        with mock.patch.object(actions, "stop", return_value=True), contextlib.suppress(NotFound, Conflict):
            store.cancel(self.connection, workflow)

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
        actions.move_due(self.connection, datetime.now(UTC))

    def look(self) -> None:
        """At all limits, as if their time had come."""
        for member in self.connection.zrange(LIMITS_WAITING, 0, -1):
            self.connection.zadd(LIMITS_WAITING, {member: 0})
        limits.sweep(self.connection)
        self.just_looked = True

    def sweep_workflows(self) -> None:
        store.sweep(self.connection, 0, 1)

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
            hand.session._connection.close()

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
