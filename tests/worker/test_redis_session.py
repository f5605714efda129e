"""The horse's line to Redis, when it breaks: nothing is lost, and nothing is said twice."""

import time

import pytest
import redis

from app.redis.keys import LEASES
from app.worker.claimed import Claimed, Finished, Nothing
from app.worker.redis_session import RedisSession
from tests.conftest import Server, until
from tests.contents import changed, contents
from tests.invariants import broken
from tests.scripts.hand import Hand, put


def lose_answers(session: RedisSession) -> None:
    """What was sent is carried out, and its answers never come."""
    session._connection._socket.recv(65536)
    session._connection.cut()


def test_what_a_lost_answer_had_claimed_is_given_back(valkey: redis.Redis) -> None:
    for job_id in "abc":
        put(valkey, job_id)
    hand = Hand(valkey)
    executions, fence = hand.session.new_executions(2), hand.session.fence
    hand.session.request_claim(hand.queues, executions)
    late = hand.session.claim_command(hand.queues, hand.session.new_executions(1))
    hand.session._send()
    until(lambda: valkey.zcard("rq:wip:default") == 2)
    lose_answers(hand.session)
    assert hand.session.claim_answer() is None
    assert not hand.session.has_pending_claim
    assert valkey.lrange("rq:queue:default", 0, -1) == [b"a", b"b", b"c"]
    assert hand.session.fence == fence + 1
    before = contents(valkey)
    hand.session._connection.send(late)  # it was on its way when the line was given up
    assert hand.session._connection.read() == b"busy"
    assert changed(before, contents(valkey)) == {}
    assert [one.id for one in hand.claim(2)] == ["a", "b"]
    assert broken(valkey) == []


def test_a_claim_is_asked_again_until_it_is_answered(valkey: redis.Redis) -> None:
    put(valkey, "job")
    hand = Hand(valkey)
    hand.session._connection.cut()
    assert [one.id for one in hand.claim()] == ["job"]
    assert valkey.zcard("rq:wip:default") == 1


@pytest.mark.parametrize("carried_out", [True, False])
def test_what_was_not_answered_is_said_again_and_counts_once(valkey: redis.Redis, carried_out: bool) -> None:
    put(valkey, "first")
    put(valkey, "second")
    hand = Hand(valkey)
    [first], [second] = hand.run(), hand.claim()
    hand.session.ended(Finished(first, b"3", 500, 1000.0, 1001.0))
    if carried_out:
        hand.session.begins(second, 1002.0)
        until(lambda: valkey.hget("rq:job:second", "status") == b"started")
        lose_answers(hand.session)
    else:
        hand.session._connection.cut()
        hand.session.begins(second, 1002.0)
    hand.session.settle()
    assert valkey.hmget("rq:job:first", "status", "attempts") == [b"finished", b"1"]
    assert valkey.hmget("rq:job:second", "status", "attempts") == [b"started", b"1"]
    assert valkey.xlen("rq:results:first") == 1
    assert valkey.hget(hand.key, "successful_job_count") == b"1"
    assert not hand.session._unanswered


def test_a_report_that_redis_refuses_holds_up_no_other(valkey: redis.Redis) -> None:
    put(valkey, "bad")
    put(valkey, "good")
    hand = Hand(valkey)
    [bad], [good] = hand.claim(), hand.claim()
    valkey.set("rq:job:bad", "text")
    hand.session.begins(bad, 1000.0)
    hand.begin(good)
    assert valkey.hget("rq:job:good", "status") == b"started"


def test_a_redis_that_is_full_for_a_while_is_asked_again(valkey: redis.Redis) -> None:
    put(valkey, "job")
    hand = Hand(valkey)
    [job] = hand.claim()
    waits: list[float] = []

    def give_up() -> bool:
        waits.append(time.monotonic())
        if len(waits) == 3:
            valkey.config_set("maxmemory", 0)
        return len(waits) > 10

    hand.session.give_up = give_up
    valkey.config_set("maxmemory", 1)
    try:
        hand.begin(job)
    finally:
        valkey.config_set("maxmemory", 0)
    assert len(waits) == 3
    assert waits[1] - waits[0] >= 0.05
    assert waits[2] - waits[1] >= 0.1  # each pause is twice as long as the one before
    assert valkey.hmget("rq:job:job", "status", "attempts") == [b"started", b"1"]


def test_it_is_given_up_when_it_is_time_to(server: Server) -> None:
    server.start()
    put(server.connection, "job")
    asked: list[bool] = []

    def give_up() -> bool:
        asked.append(True)
        return len(asked) == 2

    Hand(server.connection)
    session = RedisSession(server.connection, "w", give_up)
    server.kill()
    with pytest.raises(redis.ConnectionError):
        session.claim(["default"], session.new_executions(1))
    assert len(asked) == 2


def test_scripts_that_redis_has_forgotten_are_loaded_again(valkey: redis.Redis) -> None:
    put(valkey, "job")
    hand = Hand(valkey)
    valkey.script_flush()
    assert [one.id for one in hand.claim()] == ["job"]


def test_executions_say_whose_they_are(valkey: redis.Redis) -> None:
    mine, others = Hand(valkey), Hand(valkey, "other")
    ids = mine.session.new_executions(20)
    assert len(set(ids)) == 20
    assert {len(one) for one in ids} == {32}  # as long as RQ's
    assert len({one[:12] for one in ids} | {others.session.new_executions(1)[0][:12]}) == 2


def test_every_answer_is_understood(valkey: redis.Redis) -> None:
    claims = Hand(valkey).session
    for nothing in Nothing:
        assert claims.parse_claim([], nothing.value) is nothing
    assert claims.parse_claim(["a"], []) is Nothing.EMPTY
    found = claims.parse_claim(["a", "b"], [[2, b"id", b"execution", b"data"]])
    assert found == [Claimed("b", "id", "execution", b"data")]
    assert LEASES == "jobline:leases"
