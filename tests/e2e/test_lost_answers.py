"""A connection that breaks after Redis did what it was told, and before it could say so: all is done, and done once."""

import contextlib
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest
import redis
from redis.connection import AbstractConnection

from app.author.options import Unique
from app.enqueue.idempotency import Receipt
from app.enqueue.new_job import NewJob, prepare
from app.enqueue.unique import Lock
from app.enqueue.write import enqueue
from app.lifecycle import actions
from app.redis.client import connect
from app.redis.pipelined import PipelinedConnection
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
    """Those of Redis, of which one is lost: the one with this number on any connection, or on any wire."""

    def __init__(self, where: str, lost: int) -> None:
        self.where, self.left = where, lost
        self.was_lost = False

    @contextlib.contextmanager
    def read(self) -> Iterator[None]:
        """While it is so. What is done may give up with redis.RedisError."""
        from_connection, from_wire = AbstractConnection.read_response, PipelinedConnection.read

        def read_or_lose(connection: AbstractConnection, *args: Any, **options: Any) -> Any:
            answer = from_connection(connection, *args, **options)
            if self._is_lost("connection"):
                connection.disconnect()
                raise redis.ConnectionError
            return answer

        def read_wire_or_lose(wire: PipelinedConnection) -> Any:
            answer = from_wire(wire)
            if self._is_lost("wire"):
                wire.cut()
                raise redis.ConnectionError
            return answer

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(AbstractConnection, "read_response", read_or_lose)
            patch.setattr(PipelinedConnection, "read", read_wire_or_lose)
            yield

    def _is_lost(self, where: str) -> bool:
        if where != self.where:
            return False
        self.left -= 1
        self.was_lost = self.was_lost or self.left == -1
        return self.left == -1


def each_lost(world: Time, *wanted: str) -> Iterator[Answers]:
    """For each answer in its turn, on an empty Redis. `wanted`: where some of them are to be lost."""
    for where in ("connection", "wire"):
        for number in count():
            world.valkey.flushdb()
            world.valkey = connect(Settings())  # not connected yet: those answers may be lost too
            world.clock.now = NOON
            answers = Answers(where, number)
            yield answers
            if not answers.was_lost:
                break
        assert number > 0 or where not in wanted


def test_a_due_moment_is_run_once(world: Time) -> None:
    for answers in each_lost(world, "connection", "wire"):
        world.put(interval=10)
        scheduler = world.scheduler()
        world.clock.now += 10 * SECOND
        with answers.read(), contextlib.suppress(redis.RedisError):
            act(scheduler)
        act(scheduler)
        assert world.due() == [10]


def test_a_trigger_is_run_once(world: Time) -> None:
    for answers in each_lost(world, "connection"):
        world.put(interval=60)
        with answers.read():
            manage.trigger(world.valkey, "s", world.catalog, Settings(), NOON)
        assert len(world.runs()) == 1


def plain(world: Time) -> NewJob:
    return prepared(world)


def named(world: Time) -> NewJob:
    return prepared(world, id="job")


def unique(world: Time) -> NewJob:
    job = prepared(world)
    job.lock = Lock("jobline:unique:test", Unique(on_conflict="reject"))
    return job


def prepared(world: Time, **said: Any) -> NewJob:
    return prepare(world.catalog.get("demo.add"), Settings(), [1, 2], {}, **said)


@pytest.mark.parametrize("idempotent", [False, True])
@pytest.mark.parametrize("make", [plain, named, unique])
def test_a_job_is_queued_once(world: Time, make: Callable[[Time], NewJob], idempotent: bool) -> None:
    for answers in each_lost(world, "wire"):
        job = make(world)
        with answers.read():
            made = enqueue(world.valkey, [job], Receipt.of("me", "key", b"request") if idempotent else None)
        assert (made.ids, made.replayed) == ([job.id], None)
        assert [run["id"] for run in world.runs()] == [job.id]


@pytest.mark.parametrize("action", ["cancel", "requeue", "delete"])
def test_a_change_is_made_once(world: Time, action: actions.Action) -> None:
    for answers in each_lost(world, "wire"):
        enqueue(world.valkey, [prepared(world, id="job")])
        if action == "requeue":
            actions.cancel(world.valkey, "job")
        with answers.read():
            actions.apply(world.valkey, "job", action)
        places = [world.valkey.lrange("rq:queue:default", 0, -1), world.valkey.zrange("rq:canceled:default", 0, -1)]
        assert places == {"cancel": [[], [b"job"]], "requeue": [[b"job"], []], "delete": [[], []]}[action]
