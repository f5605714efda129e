"""What a claim takes, from where, and when it takes nothing."""

import time

import pytest
import redis
from rq.suspension import suspend

from app.author.options import Limit, Unique
from app.errors import Conflict
from app.lifecycle import lost_workers, queues
from app.worker.claimed import Nothing
from app.worker.redis_session import EXECUTION_TTL_SECONDS
from tests.contents import changed, contents
from tests.invariants import broken
from tests.scripts.hand import Hand, put


def ids(found: object) -> list[str]:
    assert isinstance(found, list), found
    return [one.id for one in found]


def waiting(connection: redis.Redis, queue: str = "default") -> list[str]:
    return [job_id.decode() for job_id in connection.lrange(f"rq:queue:{queue}", 0, -1)]


def test_jobs_come_in_their_order_with_what_their_hash_says(valkey: redis.Redis) -> None:
    for job_id in "abc":
        put(valkey, job_id, ttl=60, retry_waits=[1], timeout=7)
    hand = Hand(valkey)
    first, second = hand.claim(2)
    assert (first.id, second.id, waiting(valkey)) == ("a", "b", ["c"])
    assert first.execution_id != second.execution_id
    assert first.queue == "default"
    fields = valkey.hgetall("rq:job:a")
    for name in ("data", "created_at", "timeout", "result_ttl", "ttl"):
        assert getattr(first, name) == fields[name.encode()]
    for name in ("success_callback_name", "failure_callback_name", "stopped_callback_name", "group_id"):
        assert not getattr(first, name)
    for name in ("webhooks", "repeats_left", "attempts", "dependency_ids", "limits", "workflow", "webhook"):
        assert getattr(first, name) is None
    leases = dict(valkey.zrange("rq:wip:default", 0, -1, withscores=True))
    assert set(leases) == {f"{one.id}:{one.execution_id}".encode() for one in (first, second)}
    assert all(abs(score - time.time() - EXECUTION_TTL_SECONDS) <= 2 for score in leases.values())
    assert valkey.hget(hand.key, "state") == b"busy"
    assert broken(valkey) == []


def test_the_first_queue_that_has_a_job_is_claimed_from_and_no_other(valkey: redis.Redis) -> None:
    put(valkey, "low", queue="low")
    put(valkey, "high", queue="high")
    hand = Hand(valkey, queues=("empty", "high", "low"))
    assert [(one.id, one.queue) for one in hand.claim(5)] == [("high", "high")]
    assert ids(hand.ask(5)) == ["low"]
    assert hand.ask(5) is Nothing.EMPTY


@pytest.mark.parametrize(("workers", "jobs", "taken"), [(1, 4, 3), (2, 4, 2), (2, 5, 2), (3, 2, 1), (2, 8, 3)])
def test_no_worker_takes_more_than_its_share(valkey: redis.Redis, workers: int, jobs: int, taken: int) -> None:
    for number in range(jobs):
        put(valkey, str(number))
    hands = [Hand(valkey, f"w{number}") for number in range(workers)]
    assert len(hands[0].claim(3)) == taken


def test_a_claimed_job_does_not_run_out(valkey: redis.Redis) -> None:
    put(valkey, "job", ttl=60)
    assert valkey.ttl("rq:job:job") > 0
    Hand(valkey).claim()
    assert valkey.ttl("rq:job:job") == -1


def test_what_is_gone_is_left_out(valkey: redis.Redis) -> None:
    for job_id in ("deleted", "job"):
        put(valkey, job_id)
    valkey.delete("rq:job:deleted")
    hand = Hand(valkey)
    assert ids(hand.ask(2)) == ["job"]
    assert valkey.zcard("rq:wip:default") == 1
    valkey.rpush("rq:queue:default", "deleted")
    assert hand.ask() is Nothing.EMPTY


def test_what_cannot_be_read_is_claimed_all_the_same(valkey: redis.Redis) -> None:
    """So that it is set aside, and nothing is lost."""
    valkey.hset("rq:job:bare", "origin", "default")
    valkey.set("rq:job:text", "text")
    valkey.rpush("rq:queue:default", "bare", "text")
    hand = Hand(valkey)
    assert [(one.id, one.data) for one in (*hand.claim(), *hand.claim())] == [("bare", None), ("text", None)]
    assert valkey.zcard("rq:wip:default") == 2


def test_a_queue_that_is_no_list_is_passed_over(valkey: redis.Redis) -> None:
    valkey.set("rq:queue:broken", "text")
    put(valkey, "job")
    assert ids(Hand(valkey, queues=("broken", "default")).ask(3)) == ["job"]


def test_nothing_is_taken_from_a_paused_queue(valkey: redis.Redis) -> None:
    put(valkey, "held", queue="held")
    put(valkey, "job")
    queues.pause(valkey, "held")
    queues.pause(valkey, "empty")
    hand = Hand(valkey, queues=("held", "default"))
    assert ids(hand.ask(2)) == ["job"]
    assert hand.ask() is Nothing.PAUSED
    assert valkey.hget(hand.key, "state") == b"idle"
    assert waiting(valkey, "held") == ["held"]
    assert Hand(valkey, "v", queues=("empty", "default")).ask() is Nothing.EMPTY
    queues.resume(valkey, "held")
    assert ids(hand.ask()) == ["held"]


def test_nothing_is_taken_while_all_is_suspended(valkey: redis.Redis) -> None:
    put(valkey, "job")
    hand = Hand(valkey)
    suspend(valkey)
    assert hand.ask() is Nothing.SUSPENDED
    assert valkey.hget(hand.key, "state") == b"suspended"
    assert waiting(valkey) == ["job"]


def test_a_worker_that_was_given_up_takes_nothing(valkey: redis.Redis) -> None:
    put(valkey, "job")
    hand = Hand(valkey)
    valkey.hset(hand.key, "state", "busy")
    valkey.zrem("jobline:leases", "w")
    assert hand.ask() is Nothing.UNLEASED
    assert valkey.hget(hand.key, "state") == b"started"
    assert waiting(valkey) == ["job"]


@pytest.mark.parametrize("suspended", [True, False])
def test_a_claim_makes_no_hash_of_a_worker_that_was_forgotten(valkey: redis.Redis, suspended: bool) -> None:
    hand = Hand(valkey)
    lost_workers.forget(valkey, "w")
    if suspended:
        suspend(valkey)
    assert hand.ask() is (Nothing.SUSPENDED if suspended else Nothing.UNLEASED)
    assert not valkey.exists(hand.key)


def test_a_worker_that_finds_nothing_is_idle(valkey: redis.Redis) -> None:
    put(valkey, "job")
    hand = Hand(valkey)
    hand.finish(hand.run()[0])
    assert valkey.hget(hand.key, "current_job") == b"job"
    assert hand.ask() is Nothing.EMPTY
    assert valkey.hget(hand.key, "state") == b"idle"
    assert not valkey.hexists(hand.key, "current_job")


def send(hand: Hand, only_if_idle: bool = False) -> object:
    """A claim as the bells send it, on a line of its own."""
    sent = hand.session.claim_command(hand.queues, hand.session.new_executions(1), only_if_idle)
    line = hand.connection.connection_pool.get_connection()
    line.send_packed_command([sent])
    answer = line.read_response()
    hand.connection.connection_pool.release(line)
    return answer


def test_only_an_idle_worker_claims_by_a_bell(valkey: redis.Redis) -> None:
    put(valkey, "first")
    put(valkey, "second")
    hand = Hand(valkey)
    hand.claim()
    before = contents(valkey)
    assert send(hand, only_if_idle=True) == b"busy"
    assert changed(before, contents(valkey)) == {}
    valkey.hset(hand.key, "state", "idle")
    assert [one[1] for one in send(hand, only_if_idle=True)] == [b"second"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("only_if_idle", [False, True], ids=["asked", "by a bell"])
def test_a_claim_from_before_the_fence_takes_nothing(valkey: redis.Redis, only_if_idle: bool) -> None:
    put(valkey, "job")
    hand = Hand(valkey)
    valkey.hset(hand.key, "state", "idle")
    late = hand.session.fence
    hand.session.give_back([])
    assert hand.session.fence == late + 1
    now, hand.session.fence = hand.session.fence, late
    before = contents(valkey)
    assert send(hand, only_if_idle) == b"busy"
    assert changed(before, contents(valkey)) == {}
    hand.session.fence = now
    assert [one[1] for one in send(hand, only_if_idle)] == [b"job"]  # type: ignore[attr-defined]


def test_a_limited_job_is_claimed_alone_and_keeps_its_place(valkey: redis.Redis) -> None:
    put(valkey, "first")
    put(valkey, "limited", concurrency=Limit(1))
    put(valkey, "last")
    hand = Hand(valkey)
    assert ids(hand.ask(3)) == ["first"]
    assert waiting(valkey) == ["limited", "last"]
    assert ids(hand.ask(3)) == ["limited"]
    assert waiting(valkey) == ["last"]
    assert broken(valkey) == []


def test_many_that_are_put_off_do_not_hold_redis_up(valkey: redis.Redis) -> None:
    for number in range(204):
        put(valkey, str(number), concurrency=Limit(1))
    put(valkey, "plain")
    hand = Hand(valkey)
    assert ids(hand.ask()) == ["0"]
    assert hand.ask() is Nothing.AGAIN
    assert (valkey.zcard("rq:scheduled:default"), waiting(valkey)) == (200, ["201", "202", "203", "plain"])
    assert ids(hand.ask()) == ["plain"]
    assert broken(valkey) == []


def test_a_job_that_was_claimed_does_not_give_way_to_another_though_it_has_not_begun(valkey: redis.Redis) -> None:
    rule = Unique(on_conflict="replace")
    put(valkey, "first", unique=rule)
    put(valkey, "second", unique=rule)
    assert waiting(valkey) == ["second"]
    hand = Hand(valkey)
    [job] = hand.claim()
    before = contents(valkey)
    with pytest.raises(Conflict, match="Job second is started: it cannot be replaced"):
        put(valkey, "third", unique=rule)
    assert changed(before, contents(valkey)) == {}
    hand.begin(job)
    hand.finish(job)
    put(valkey, "third", unique=rule)
    assert waiting(valkey) == ["third"]
    assert broken(valkey) == []
