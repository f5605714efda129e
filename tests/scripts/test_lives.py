"""Whatever happens to jobs, and in whatever order: after each step every job is in one place, as its status says."""

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
import redis

from app import limits
from app.author.options import Limit
from app.errors import Invalid
from app.lifecycle import actions, recovery
from app.lifecycle.recovery import Outcome
from app.worker.redis_session import Claimed
from tests.invariants import broken
from tests.scripts.hand import Hand, put

STEPS = 80
QUEUES = ("high", "low")


class World:
    """Three workers, their jobs, and chance."""

    def __init__(self, connection: redis.Redis, seed: int) -> None:
        self.connection, self.chance = connection, random.Random(seed)
        self.hands = [Hand(connection, f"w{number}", QUEUES) for number in range(3)]
        self.claimed: list[tuple[Hand, Claimed]] = []
        self.begun: list[tuple[Hand, Claimed]] = []
        self.over: list[tuple[Hand, Claimed]] = []
        """Executions that have ended, or were taken."""
        self.jobs: set[str] = set()
        self.said: list[str] = []

    def step(self) -> None:
        acts: list[Callable[[], object]] = [
            self.put, self.put, self.put, self.claim, self.claim, self.claim, self.begin, self.begin, self.begin,
            self.finish, self.finish, self.lose, self.give_back, self.cancel, self.requeue, self.delete,
            self.time_passes, self.beat, self.speak_late,
        ]  # fmt: skip
        act = self.chance.choice(acts)
        self.said.append(act.__name__)
        act()
        recovery.wait_for_children()
        assert broken(self.connection) == [], self.said
        assert self.stored() == self.jobs, self.said

    def stored(self) -> set[str]:
        keys = (key.decode().removeprefix("rq:job:") for key in self.connection.keys("rq:job:*"))
        return {key for key in keys if ":" not in key}

    def put(self) -> None:
        job_id, some = f"job-{len(self.said)}", self.chance.random
        said: dict[str, object] = {"queue": self.chance.choice(QUEUES), "at_front": some() < 0.3}
        if some() < 0.3:
            said["ttl"] = 3600
        if some() < 0.4:
            said["retry_waits"] = [0, 60]
        if some() < 0.2:
            said["at"] = datetime.now(UTC) + timedelta(hours=1)
        if some() < 0.3:
            said["concurrency"] = Limit(2, by="queue")
        if some() < 0.3 and self.jobs:
            open_jobs = [job_id for job_id in sorted(self.jobs) if self.status(job_id) != b"finished"]
            said["depends_on"] = self.chance.sample(open_jobs, min(2, len(open_jobs)))
        try:
            put(self.connection, job_id, **said)
        except Invalid:  # it depends on what cannot finish
            return
        self.jobs.add(job_id)

    def claim(self) -> None:
        hand = self.chance.choice(self.hands)
        found = hand.ask(self.chance.randint(1, 4))
        self.claimed += [(hand, one) for one in found] if isinstance(found, list) else []

    def begin(self) -> None:
        if self.claimed:
            hand, job = self.take(self.claimed)
            hand.begin(job)
            self.begun.append((hand, job))

    def finish(self) -> None:
        if self.begun:
            hand, job = self.take(self.begun)
            hand.finish(job, ran=2)
            if job.limits:
                hand.release(job)
            self.over.append((hand, job))

    def lose(self) -> None:
        if self.begun:
            hand, job = self.take(self.begun)
            outcome = self.chance.choice(list(Outcome))
            if outcome is Outcome.RETRIED and not self.connection.hget(f"rq:job:{job.id}", "retries_left"):
                outcome = Outcome.AGAIN
            recovery.recover(self.connection, job.queue, job.id, job.execution_id, recovery.LOST, lambda _: outcome)
            self.over.append((hand, job))

    def give_back(self) -> None:
        if self.claimed:
            hand = self.claimed[0][0]
            hers = [one for one in self.claimed if one[0] is hand]
            hand.session.give_back([job.execution_id for _, job in hers])
            self.claimed = [one for one in self.claimed if one[0] is not hand]
            self.over += hers

    def cancel(self) -> None:
        self.change("cancel")

    def requeue(self) -> None:
        self.change("requeue")

    def delete(self) -> None:
        job_id = self.any_job()
        if job_id and actions.apply(self.connection, job_id, "delete") == b"ok":
            self.jobs.discard(job_id)

    def change(self, action: actions.Action) -> None:
        if job_id := self.any_job():
            actions.apply(self.connection, job_id, action)

    def time_passes(self) -> None:
        for queue in QUEUES:
            actions.move_due(self.connection, queue, datetime.now(UTC) + timedelta(hours=2))
        limits.sweep(self.connection)

    def beat(self) -> None:
        if self.begun:
            hand, job = self.chance.choice(self.begun)
            assert hand.beat(job) == [1, 1]

    def speak_late(self) -> None:
        """Of an execution that is over."""
        if self.over:
            hand, job = self.chance.choice(self.over)
            hand.begin(job)
            hand.finish(job)
            assert hand.beat(job) == [1, 0]

    def status(self, job_id: str) -> bytes | None:
        return self.connection.hget(f"rq:job:{job_id}", "status")  # type: ignore[return-value]

    def any_job(self) -> str | None:
        return self.chance.choice(sorted(self.jobs)) if self.jobs else None

    def take(self, some: list[tuple[Hand, Claimed]]) -> tuple[Hand, Claimed]:
        return some.pop(self.chance.randrange(len(some)))

    def drain(self) -> None:
        """Until nothing is left to do."""
        for _ in range(20 * len(self.jobs) + 20):
            self.time_passes()
            while self.claimed:
                self.begin()
            while self.begun:
                self.finish()
            for hand in self.hands:
                found = hand.ask(4)
                self.claimed += [(hand, one) for one in found] if isinstance(found, list) else []
            if not self.claimed:
                return


@pytest.mark.parametrize("seed", range(12))
def test_a_job_is_in_one_place(valkey: redis.Redis, seed: int) -> None:
    world = World(valkey, seed)
    for _ in range(STEPS):
        world.step()
    world.drain()
    assert broken(valkey) == []
    assert world.stored() == world.jobs
    assert [valkey.llen(f"rq:queue:{queue}") + valkey.zcard(f"rq:wip:{queue}") for queue in QUEUES] == [0, 0]
    left = {valkey.hget(f"rq:job:{job_id}", "status") for job_id in world.jobs}
    assert left <= {b"finished", b"failed", b"stopped", b"canceled", b"deferred"}
    assert valkey.keys("jobline:limit:*:waiting") == []
