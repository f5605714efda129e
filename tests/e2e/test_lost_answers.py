"""A connection that breaks after Redis did what it was told, and before it could say so: nothing is done twice."""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from redis.connection import AbstractConnection

from app.queueing import enqueue, prepare
from app.redis import connect
from app.schedules import manage
from app.settings import Settings
from tests.e2e.test_scheduler import NOON, SECOND, Time, act


@pytest.fixture
def world(valkey: redis.Redis) -> Iterator[Time]:
    """On a connection as every process has it, which tries again by itself."""
    connection = connect(Settings())
    yield Time(connection)
    connection.close()


class Answers:
    """Those of Redis, of which one is lost."""

    def __init__(self, lost: int) -> None:
        self.left = lost

    @contextlib.contextmanager
    def read(self) -> Iterator[None]:
        read = AbstractConnection.read_response

        def read_or_lose(connection: AbstractConnection, *args: Any, **options: Any) -> Any:
            self.left -= 1
            answer = read(connection, *args, **options)
            if self.left == -1:
                connection.disconnect()
                raise redis.ConnectionError
            return answer

        with pytest.MonkeyPatch.context() as patch, contextlib.suppress(redis.RedisError):
            patch.setattr(AbstractConnection, "read_response", read_or_lose)
            yield


def each_lost(world: Time) -> Iterator[Answers]:
    """For each answer in its turn, on an empty Redis; at last none is."""
    number = 0
    while True:
        world.valkey.flushdb()
        world.clock.now = NOON
        answers = Answers(number)
        yield answers
        if answers.left >= 0:
            break
        number += 1
    assert number >= 1


def test_a_due_moment_is_run_once(world: Time) -> None:
    for answers in each_lost(world):
        world.put(interval=10)
        scheduler = world.scheduler()
        world.clock.now += 10 * SECOND
        with answers.read():
            act(scheduler)
        act(scheduler)
        assert world.due() == [10]


def test_a_trigger_is_run_once(world: Time) -> None:
    for answers in each_lost(world):
        world.put(interval=60)
        with answers.read():
            manage.trigger(world.valkey, "s", world.catalog, Settings(), NOON)
        assert len(world.runs()) <= 1


def test_a_job_is_queued_once(world: Time) -> None:
    for answers in each_lost(world):
        job = prepare(world.catalog.get("demo.add"), Settings(), [1, 2], {})
        with answers.read():
            enqueue(world.valkey, [job])
        assert len(world.runs()) <= 1
