"""Waiting for a job: it is claimed the moment it is queued, by one bell alone, and never lost with a line."""

import select
import socket
import time
from collections.abc import Callable, Iterator

import pytest
import redis

from app.lifecycle import queues
from app.worker import idle_wait as module
from app.worker.claimed import Claimed, Nothing
from app.worker.idle_wait import IdleWait
from tests.conftest import until
from tests.invariants import broken
from tests.scripts.hand import Hand, put

QUEUES = ("high", "low")
Ring = Callable[[float], list[Claimed] | Nothing]


class Idle:
    """A worker that found nothing, and waits."""

    def __init__(self, connection: redis.Redis, parent: int) -> None:
        self.hand = Hand(connection, queues=QUEUES)
        self.idle_wait = IdleWait(connection, self.hand.session, list(QUEUES), parent)
        self.listen()

    def listen(self) -> None:
        assert self.hand.ask() is Nothing.EMPTY
        assert self.idle_wait.wait(0.01, list(QUEUES)) is Nothing.EMPTY

    def hears(self, seconds: float = 5) -> list[Claimed] | Nothing:
        """The first answer but for that there is nothing."""
        end, found = time.monotonic() + seconds, Nothing.EMPTY
        while found is Nothing.EMPTY and time.monotonic() < end:
            found = self.idle_wait.wait(0.2, list(QUEUES))  # type: ignore[assignment]
        return found


@pytest.fixture
def line() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


@pytest.fixture
def idle(valkey: redis.Redis, line: tuple[socket.socket, socket.socket]) -> Idle:
    return Idle(valkey, line[1].fileno())


def names(found: list[Claimed] | Nothing) -> list[bytes]:
    assert isinstance(found, list), found
    return [one.raw_id for one in found]


@pytest.mark.parametrize("queue", QUEUES)
def test_a_job_is_claimed_as_it_comes(valkey: redis.Redis, idle: Idle, queue: str) -> None:
    began = time.monotonic()
    put(valkey, "job", queue=queue)
    found = idle.hears()
    assert names(found) == [b"job"]
    assert [one.queue for one in found] == [queue]  # type: ignore[union-attr]
    assert time.monotonic() - began < 1
    assert broken(valkey) == []


def test_of_two_that_ring_at_once_one_claims(valkey: redis.Redis, idle: Idle) -> None:
    for job_id, queue in (("first", "low"), ("second", "high")):
        put(valkey, job_id, queue="elsewhere")
        valkey.hset(f"rq:job:{job_id}", "origin", queue)
    with valkey.pipeline() as pipeline:
        pipeline.delete("rq:queue:elsewhere").rpush("rq:queue:low", "first").rpush("rq:queue:high", "second")
        pipeline.sadd("rq:queues", "rq:queue:low", "rq:queue:high").execute()
    until(lambda: not valkey.execute_command("CLIENT", "LIST").count(b"cmd=blmove"))
    found = idle.hears()
    assert len(names(found)) == 1
    assert valkey.llen("rq:queue:low") + valkey.llen("rq:queue:high") == 1
    assert valkey.zcard("rq:wip:low") + valkey.zcard("rq:wip:high") == 1
    assert broken(valkey) == []


def test_while_a_job_is_at_work_no_bell_claims_another(valkey: redis.Redis, idle: Idle) -> None:
    """And the queue stays as it is."""
    valkey.hset(idle.hand.key, "state", "busy")
    ids = [b"first", b"second", b"third"]
    valkey.rpush("rq:queue:low", *ids)
    until(lambda: select.select([idle.idle_wait.watches[1]._connection], [], [], 0)[0])  # it has rung
    assert valkey.lrange("rq:queue:low", 0, -1) == ids
    assert idle.idle_wait.wait(2, list(QUEUES)) is Nothing.EMPTY
    assert valkey.lrange("rq:queue:low", 0, -1) == ids


def test_what_a_bell_claimed_on_a_line_that_breaks_is_given_back(valkey: redis.Redis, idle: Idle) -> None:
    put(valkey, "job", queue="low")
    until(lambda: valkey.zcard("rq:wip:low") == 1)
    fence = idle.hand.session.fence
    idle.idle_wait.watches[1]._connection._socket.recv(65536)  # the answer is lost
    valkey.client_kill_filter(_type="normal", skipme=True)
    with pytest.raises(redis.ConnectionError):
        idle.idle_wait.wait(5, list(QUEUES))
    assert valkey.lrange("rq:queue:low", 0, -1) == [b"job"]
    assert valkey.zcard("rq:wip:low") == 0
    assert idle.hand.session.fence == fence + 1  # a claim that is still on its way takes nothing
    assert names(idle.hand.ask()) == [b"job"]
    idle.hand.connection.delete("rq:wip:low")
    idle.listen()
    put(valkey, "next", queue="high")
    assert names(idle.hears()) == [b"next"]


def test_a_silent_line_is_given_up(valkey: redis.Redis, idle: Idle) -> None:
    idle.idle_wait.watches[0]._started_at -= module.BLOCK_SECONDS + module.SLACK_SECONDS - 1
    assert idle.idle_wait.wait(0.01, list(QUEUES)) is Nothing.EMPTY
    idle.idle_wait.watches[0]._started_at -= 2
    with pytest.raises(redis.ConnectionError, match="silent"):
        idle.idle_wait.wait(0.01, list(QUEUES))
    idle.listen()
    put(valkey, "job", queue="high")
    assert names(idle.hears()) == [b"job"]


def test_a_paused_queue_is_not_heard_and_the_others_are(valkey: redis.Redis, idle: Idle) -> None:
    queues.pause(valkey, "high")
    put(valkey, "held", queue="high")
    assert idle.hears() is Nothing.PAUSED
    assert [watch.is_muted for watch in idle.idle_wait.watches] == [True, False]
    put(valkey, "job", queue="low")
    assert names(idle.hears()) == [b"job"]
    idle.hand.finish(Claimed("low", "job", "none"))
    assert valkey.lrange("rq:queue:high", 0, -1) == [b"held"]
    valkey.hset(idle.hand.key, "state", "idle")
    queues.resume(valkey, "high")
    assert names(idle.hears(2 * module.PAUSE_CHECK_SECONDS + 2)) == [b"held"]


def test_a_queue_that_is_no_list_is_not_heard_for_a_while_and_the_others_are(
    valkey: redis.Redis, line: tuple[socket.socket, socket.socket]
) -> None:
    valkey.set("rq:queue:high", "text")
    idle = Idle(valkey, line[1].fileno())
    until(lambda: idle.idle_wait.wait(0.1, list(QUEUES)) is Nothing.EMPTY and idle.idle_wait.watches[0].is_muted)
    began = time.monotonic()
    assert idle.idle_wait.wait(0.3, list(QUEUES)) is Nothing.EMPTY
    assert time.monotonic() - began >= 0.3
    put(valkey, "job", queue="low")
    assert names(idle.hears()) == [b"job"]


def test_a_word_of_the_parent_ends_the_wait(
    valkey: redis.Redis, idle: Idle, line: tuple[socket.socket, socket.socket]
) -> None:
    line[0].send(b"!")
    began = time.monotonic()
    assert idle.idle_wait.wait(20, list(QUEUES)) is Nothing.EMPTY
    assert time.monotonic() - began < 5


def test_who_may_not_claim_listens_to_nothing(valkey: redis.Redis, line: tuple[socket.socket, socket.socket]) -> None:
    hand = Hand(valkey, queues=QUEUES)
    bells = IdleWait(valkey, hand.session, list(QUEUES), line[1].fileno())
    put(valkey, "job", queue="high")
    valkey.hset(hand.key, "state", "idle")
    began = time.monotonic()
    assert bells.wait(0.5, []) is Nothing.EMPTY
    assert time.monotonic() - began >= 0.5
    assert valkey.lrange("rq:queue:high", 0, -1) == [b"job"]
