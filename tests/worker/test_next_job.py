"""Which job is next, and how many are claimed together; the pipe and the board that a horse shares with its parent."""

import os
import socket
import time
from collections.abc import Iterator
from itertools import pairwise

import pytest
import redis
from rq.worker import DequeueStrategy

from app.lifecycle import recovery
from app.worker import next_job as module
from app.worker.claimed import Claimed, Nothing
from app.worker.next_job import NextJob
from app.worker.prefetched import PrefetchedExecutions
from app.worker.shared_status import TEXT, Leaving, Running, SharedStatus
from tests.invariants import broken
from tests.scripts.hand import Hand, put


@pytest.fixture
def box() -> Iterator[PrefetchedExecutions]:
    box = PrefetchedExecutions()
    yield box
    box.close()


class Worker:
    """A worker that runs its jobs in no time, or in as many seconds as the test says."""

    def __init__(
        self, connection: redis.Redis, box: PrefetchedExecutions, queues: tuple[str, ...] = ("default",),
        one_by_one: bool = False,
        strategy: DequeueStrategy = DequeueStrategy.DEFAULT,
    ) -> None:  # fmt: skip
        self.hand, self.prefetched = Hand(connection, queues=queues), box
        self.hand.worker._dequeue_strategy = strategy
        self._line = socket.socketpair()
        self.next_job = NextJob(self.hand.worker, self.hand.session, box, self._line[1].fileno(), one_by_one)
        self.now = 1000.0

    def next(self) -> Claimed:
        found = self.next_job.next()
        assert isinstance(found, Claimed), found
        return found

    def run(self, seconds: float) -> str:
        """The next job, begun and finished; its id."""
        job = self.next()
        self.next_job.begins(self.now)
        self.hand.begin(job, self.now)
        self.hand.finish(job)
        self.now += seconds
        return job.id


def fill(connection: redis.Redis, count: int, queue: str = "default") -> list[str]:
    return [put(connection, f"{queue}-{number}", queue=queue) for number in range(count)]


def test_short_jobs_are_claimed_in_batches_that_grow_and_all_in_their_order(
    valkey: redis.Redis, box: PrefetchedExecutions
) -> None:
    ids = fill(valkey, 150)
    worker = Worker(valkey, box)
    sizes = []
    claim = worker.hand.session.new_executions
    worker.hand.session.new_executions = lambda count: sizes.append(count) or claim(count)  # type: ignore[func-returns-value, method-assign]
    assert [worker.run(0.00001) for _ in range(150)] == ids
    assert sizes[0] == 1
    assert all(size <= 2 * before for before, size in pairwise(sizes))
    assert max(sizes) == module.MAX_BATCH_SIZE
    assert worker.next_job.next() is Nothing.EMPTY
    assert broken(valkey) == []


def test_a_claim_that_is_answered_while_another_report_is_waited_for_is_not_forgotten(
    valkey: redis.Redis, box: PrefetchedExecutions
) -> None:
    ids = fill(valkey, 40)
    worker = Worker(valkey, box)
    done = [worker.run(0.00001) for _ in range(5)]
    job = worker.next()
    worker.next_job.begins(worker.now)
    assert worker.hand.session.has_pending_claim
    worker.hand.session.settle()  # as after a failure, or when something follows the end
    assert worker.hand.session.has_pending_claim
    worker.hand.finish(job)
    assert [*done, job.id, *(worker.run(0.00001) for _ in range(34))] == ids
    assert broken(valkey) == []


def test_long_jobs_are_claimed_one_by_one(valkey: redis.Redis, box: PrefetchedExecutions) -> None:
    ids = fill(valkey, 12)
    worker = Worker(valkey, box)
    assert [worker.run(1) for _ in range(10)] == ids[:10]
    assert worker.next().id == ids[10]
    assert valkey.lrange("rq:queue:default", 0, -1) == [ids[11].encode()]
    assert valkey.zcard("rq:wip:default") == 1


def test_after_a_rest_jobs_are_claimed_one_by_one_again(valkey: redis.Redis, box: PrefetchedExecutions) -> None:
    fill(valkey, 40)
    worker = Worker(valkey, box, one_by_one=False)
    for _ in range(7):
        worker.run(0.00001)
    worker.next_job.reset_batch()
    assert worker.next_job._new_executions() != []
    assert len(worker.next_job._new_executions()) <= 2


@pytest.mark.parametrize("said", [{"one_by_one": True}, {"strategy": DequeueStrategy.ROUND_ROBIN}])
def test_who_counts_or_takes_turns_claims_one_by_one(
    valkey: redis.Redis, box: PrefetchedExecutions, said: dict[str, object]
) -> None:
    fill(valkey, 20)
    worker = Worker(valkey, box, **said)  # type: ignore[arg-type]
    for number in range(8):
        worker.run(0.00001)
        assert valkey.llen("rq:queue:default") == 19 - number


def test_queues_in_turns(valkey: redis.Redis, box: PrefetchedExecutions) -> None:
    fill(valkey, 2, "a")
    fill(valkey, 2, "b")
    worker = Worker(valkey, box, ("a", "b"), strategy=DequeueStrategy.ROUND_ROBIN)
    assert [worker.run(0) for _ in range(4)] == ["a-0", "b-0", "a-1", "b-1"]


def test_what_the_parent_has_taken_the_horse_does_not_run(valkey: redis.Redis, box: PrefetchedExecutions) -> None:
    ids = fill(valkey, 30)
    worker = Worker(valkey, box)
    done = [worker.run(0.00001) for _ in range(5)]
    job = worker.next()
    worker.hand.begin(job)
    taken = box.take_all()
    recovery.give_back(valkey, taken)
    assert box.take() is None
    if worker.hand.session.has_pending_claim:  # it was under way, and is given back by the second time
        worker.hand.session.settle()
        recovery.give_back(valkey, taken)
    worker.hand.finish(job)
    done.append(job.id)
    while isinstance(found := worker.next_job.next(), Claimed):
        worker.next_job.begins(worker.now)
        worker.hand.begin(found)
        worker.hand.finish(found)
        done.append(found.id)
    assert sorted(done) == sorted(ids)
    assert valkey.zcard("rq:finished:default") == 30
    assert broken(valkey) == []


def test_a_box_hands_out_each_execution_once_and_in_order(box: PrefetchedExecutions) -> None:
    ids = [f"{number:032d}" for number in range(3)]
    assert box.take() is None
    box.put(ids)
    assert box.take() == ids[0]
    assert box.take_all() == ids[1:]
    assert box.take() is None


def test_a_box_is_shared_by_a_process_and_its_child(box: PrefetchedExecutions) -> None:
    ids = [f"{number:032d}" for number in range(100)]
    box.put(ids)
    pid = os.fork()
    if pid == 0:
        os._exit(len(box.take_all()))
    mine = box.take_all()
    theirs = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert box.take() is None
    assert len(mine) + theirs == len(ids)
    assert mine == [found for found in ids if found in mine]


def test_a_board_says_what_runs() -> None:
    board = SharedStatus()
    assert (board.running, board.begun, board.leaving, board.stop_ordered) == ([], 0, Leaving.DIED, False)
    began, ticks = time.monotonic(), board.ticks
    for number in range(3):  # each of the two texts
        board.show("queue", f"job-{number}", "execution", 7)
        [running] = board.running
        assert running == Running("queue", f"job-{number}", "execution", running.since, 7)
        assert began <= running.since <= time.monotonic()
        assert board.begun == number + 1
        assert board.ticks > ticks
        ticks = board.ticks
    board.clear()
    assert (board.running, board.begun) == ([], 3)
    assert board.ticks > ticks
    board.order_to_stop()
    board.leaving = Leaving.RECYCLED
    assert (board.stop_ordered, board.leaving) == (True, Leaving.RECYCLED)


def test_a_job_whose_names_do_not_fit_is_not_shown() -> None:
    board = SharedStatus()
    board.show("queue", "x" * (TEXT - 200), "execution", 7)
    with pytest.raises(ValueError, match="too long"):
        board.show("queue", "x" * TEXT, "execution", 7)
    assert board.begun == 1
    [running] = board.running
    assert len(running.job_id) == TEXT - 200


def test_a_board_is_shared_by_a_process_and_its_child() -> None:
    board = SharedStatus()
    pid = os.fork()
    if pid == 0:
        board.show("queue", "job", "execution", 7)
        board.leaving = Leaving.IDLE
        os._exit(0)
    os.waitpid(pid, 0)
    assert board.leaving is Leaving.IDLE
    assert board.begun == 1
    assert [running.job_id for running in board.running] == ["job"]


def test_a_board_has_a_place_for_each_job_that_runs() -> None:
    board = SharedStatus(3)
    board.show("queue", "first", "a", 7, 2)
    board.show("queue", "second", "b", 7, 0)
    ticks = board.ticks
    board.tick()
    assert board.ticks > ticks
    assert [running.job_id for running in board.running] == ["first", "second"]  # the oldest first
    board.clear(2)
    board.show("queue", "third", "c", 7, 2)
    assert [running.job_id for running in board.running] == ["second", "third"]
    assert board.begun == 3


def test_an_abort_is_meant_for_one_execution() -> None:
    board = SharedStatus(2)
    board.show("queue", "first", "a", 7, 1)
    board.show("queue", "second", "b", 7, 0)
    board.abort("none")
    assert board.aborted() == []
    board.abort("a")
    assert board.aborted() == [1]
    board.clear(1)
    board.show("queue", "third", "c", 7, 1)
    assert board.aborted() == []
