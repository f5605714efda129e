"""When a delayed job is due, by the clock of Redis."""

import math
import time

import pytest
import redis

from app.lifecycle import executions, recovery
from app.lifecycle.recovery import LOST, Outcome
from app.redis.keys import CLOCK, CLOCK_JUMP_SECONDS
from tests.scripts.hand import Hand, put


def delayed(connection: redis.Redis) -> None:
    put(connection, "job", delay=60)


def retried(connection: redis.Redis) -> None:
    put(connection, "job", retry_waits=[60])
    [job] = Hand(connection).run()
    recovery.recover(
        connection, executions.Execution("default", "job", job.execution_id), LOST, lambda _: Outcome.RETRIED
    )


@pytest.mark.parametrize("put_off", [delayed, retried])
@pytest.mark.parametrize("ahead", [None, -100, CLOCK_JUMP_SECONDS - 1, 100])
def test_a_delay_counts_from_the_noted_time_while_the_clock_is_behind_it(
    valkey: redis.Redis, put_off: object, ahead: float | None
) -> None:
    """The scheduler takes from all due times as much as the clock was put back, once it has seen that."""
    assert callable(put_off)
    now = time.time()
    if ahead is not None:
        valkey.set(CLOCK, repr(now + ahead))
    put_off(valkey)
    begins = now if ahead is None or ahead < CLOCK_JUMP_SECONDS else now + ahead + CLOCK_JUMP_SECONDS
    due = valkey.zscore("rq:scheduled:default", "job")
    assert 0 <= due - math.ceil(begins + 60) <= 2
