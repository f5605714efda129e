"""What a worker says of a job that was taken from it, or deleted, changes nothing."""

from collections.abc import Callable

import pytest
import redis

from app.lifecycle import actions, callback_processes, executions, recovery
from app.lifecycle.recovery import Outcome
from app.worker.claimed import Claimed
from tests.contents import changed, contents
from tests.scripts.hand import Hand, put


def to_another(connection: redis.Redis, job: Claimed) -> None:
    """Given back, and claimed and begun by another worker."""
    recovery.give_back(connection, [job.execution_id])
    Hand(connection, "other").run()


def back_to_its_queue(connection: redis.Redis, job: Claimed) -> None:
    recovery.give_back(connection, [job.execution_id])


def to_its_end(connection: redis.Redis, job: Claimed) -> None:
    recovery.recover(
        connection, executions.Execution("default", job.id, job.execution_id), recovery.LOST, lambda _: Outcome.FAILED
    )
    callback_processes.wait()


def out_of_redis(connection: redis.Redis, job: Claimed) -> None:
    recovery.give_back(connection, [job.execution_id])
    actions.delete(connection, job.id)


def begins(hand: Hand, job: Claimed) -> None:
    hand.begin(job)


def finishes(hand: Hand, job: Claimed) -> None:
    hand.finish(job, ran=5)


def beats(hand: Hand, job: Claimed) -> None:
    assert hand.beat(job) == [1, 0]


def is_recovered(hand: Hand, job: Claimed) -> None:
    assert not recovery.recover(
        hand.connection,
        executions.Execution("default", job.id, job.execution_id),
        recovery.LOST,
        lambda _: Outcome.RETRIED,
    )


def is_given_back(hand: Hand, job: Claimed) -> None:
    hand.session.give_back([job.execution_id])


Taken = Callable[[redis.Redis, Claimed], None]
Said = Callable[[Hand, Claimed], None]
SAID = [begins, finishes, beats, is_recovered, is_given_back]


@pytest.mark.parametrize("begun", [True, False], ids=["begun", "not begun"])
@pytest.mark.parametrize("said", SAID)
@pytest.mark.parametrize("taken", [to_another, back_to_its_queue, to_its_end, out_of_redis])
def test_it_changes_nothing(
    valkey: redis.Redis,
    taken: Callable[[redis.Redis, Claimed], None],
    said: Callable[[Hand, Claimed], None],
    begun: bool,
) -> None:
    put(valkey, "job")
    hand = Hand(valkey)
    [job] = hand.run() if begun else hand.claim()
    taken(valkey, job)
    before = contents(valkey)
    said(hand, job)
    own = {beats: {hand.key, "jobline:leases"}, is_given_back: {hand.key}}.get(said, set())  # its beat; its fence
    assert set(changed(before, contents(valkey))) <= own


def test_a_job_that_was_deleted_before_it_began_does_not_begin(valkey: redis.Redis) -> None:
    put(valkey, "job")
    hand = Hand(valkey)
    [job] = hand.claim()
    valkey.delete("rq:job:job")
    before = contents(valkey)
    hand.begin(job)
    assert changed(before, contents(valkey)) == {}
