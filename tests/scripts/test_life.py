"""A job begins, its worker beats, and it finishes: what each step leaves in Redis, and what it leaves alone."""

import time
from base64 import b64decode
from collections.abc import Callable
from datetime import datetime

import pytest
import redis

from app.author.options import JOB_EVENTS, Webhook
from app.lifecycle import actions
from app.redis.keys import ended_key
from app.worker.redis_session import EXECUTION_TTL_SECONDS
from tests.contents import changed, contents
from tests.invariants import broken
from tests.scripts.hand import Hand, put


def events(connection: redis.Redis) -> list[tuple[str, str, str]]:
    told = [entry for _, entry in connection.xrange("jobline:events")]
    return [tuple(entry[name].decode() for name in (b"ids", b"queue", b"status")) for entry in told]  # type: ignore[misc]


def listen(connection: redis.Redis) -> None:
    connection.xadd("jobline:events", {"ids": "", "queue": "", "status": ""}, maxlen=1)
    connection.xtrim("jobline:events", maxlen=0)


def fields(connection: redis.Redis, key: str) -> dict[str, str]:
    return {name.decode(): value.decode(errors="replace") for name, value in connection.hgetall(key).items()}


def near(moment: str | bytes, at: float) -> bool:
    text = moment.decode() if isinstance(moment, bytes) else moment
    return abs(datetime.fromisoformat(text).timestamp() - at) < 0.001


def test_a_beginning(valkey: redis.Redis) -> None:
    put(valkey, "job", queue="high")
    hand = Hand(valkey, queues=("high",))
    [job] = hand.claim()
    listen(valkey)
    began = time.time()
    hand.begin(job, began)
    said = fields(valkey, "rq:job:job")
    assert (said["status"], said["worker_name"], said["attempts"]) == ("started", "w", "1")
    assert near(said["started_at"], began)
    assert near(said["last_heartbeat"], began)
    worker = fields(valkey, hand.key)
    assert (worker["current_job"], worker["current_job_working_time"]) == ("job", "0")
    assert events(valkey) == [("job", "high", "started")]
    assert broken(valkey) == []


def test_each_attempt_counts_once(valkey: redis.Redis) -> None:
    put(valkey, "job")
    first = Hand(valkey)
    [job] = first.run()
    first.begin(job)
    assert valkey.hget("rq:job:job", "attempts") == b"1"
    first.session.give_back([job.execution_id])
    second = Hand(valkey, "v")
    second.run()
    assert valkey.hget("rq:job:job", "attempts") == b"2"
    assert valkey.hget("rq:job:job", "worker_name") == b"v"


def test_an_end(valkey: redis.Redis) -> None:
    put(valkey, "job", result_ttl=500)
    hand = Hand(valkey)
    [job] = hand.run()
    listen(valkey)
    finished = hand.finish(job, b'{"a":1}', ran=2.5)
    said = fields(valkey, "rq:job:job")
    assert said["status"] == "finished"
    assert near(said["ended_at"], finished.ended_at)
    assert near(said["last_heartbeat"], finished.ended_at)
    [(_, entry)] = valkey.xrange("rq:results:job")
    assert b64decode(entry.pop(b"return_value")) == b'{"a":1}'
    assert float(entry.pop(b"execution_started_at")) == pytest.approx(finished.started_at, abs=1e-4)
    assert float(entry.pop(b"execution_ended_at")) == pytest.approx(finished.ended_at, abs=1e-4)
    assert entry == {b"type": b"1", b"worker_name": b"w", b"execution_id": job.execution_id.encode()}
    assert valkey.zscore("rq:finished:default", "job") == int(finished.ended_at) + 500
    worker = fields(valkey, hand.key)
    assert worker["successful_job_count"] == "1"
    assert float(worker["total_working_time"]) == pytest.approx(2.5, abs=0.01)
    assert events(valkey) == [("job", "default", "finished")]
    assert valkey.zcard("rq:wip:default") == 0
    assert broken(valkey) == []


def test_an_end_without_a_result(valkey: redis.Redis) -> None:
    put(valkey, "job")
    hand = Hand(valkey)
    hand.finish(hand.run()[0], None)
    [(_, entry)] = valkey.xrange("rq:results:job")
    assert b"return_value" not in entry
    assert {b"type", b"worker_name", b"execution_id", b"execution_started_at", b"execution_ended_at"} == set(entry)
    assert broken(valkey) == []


def test_a_job_that_is_kept_for_ever(valkey: redis.Redis) -> None:
    put(valkey, "job", result_ttl=-1, ttl=60)
    hand = Hand(valkey)
    valkey.xadd("rq:results:job", {"type": 4})
    valkey.expire("rq:results:job", 60)
    [job] = hand.run()
    valkey.expire("rq:job:job", 60)
    hand.finish(job)
    assert valkey.ttl("rq:job:job") == valkey.ttl("rq:results:job") == -1
    assert valkey.zscore("rq:finished:default", "job") == float("inf")


def test_the_result_comes_after_those_of_earlier_attempts(valkey: redis.Redis) -> None:
    put(valkey, "job")
    valkey.xadd("rq:results:job", {"type": 4})
    hand = Hand(valkey)
    hand.finish(hand.run()[0])
    assert [entry[b"type"] for _, entry in valkey.xrange("rq:results:job")] == [b"4", b"1"]
    assert broken(valkey) == []


def test_the_result_is_kept_whatever_stands_in_its_place(valkey: redis.Redis) -> None:
    put(valkey, "job")
    valkey.set("rq:results:job", "text")
    hand = Hand(valkey)
    hand.finish(hand.run()[0])
    assert [entry[b"type"] for _, entry in valkey.xrange("rq:results:job")] == [b"1"]
    assert broken(valkey) == []


def test_the_record_of_a_long_job_goes_with_its_end(valkey: redis.Redis) -> None:
    put(valkey, "job")
    hand = Hand(valkey)
    [job] = hand.run()
    hand.beat(job, ran=1.2)
    assert valkey.exists(f"rq:execution:job:{job.execution_id}", "rq:executions:job") == 2
    hand.finish(job, ran=1.2)
    assert valkey.exists(f"rq:execution:job:{job.execution_id}", "rq:executions:job") == 0


def test_a_job_that_was_deleted_while_it_ran_leaves_nothing(valkey: redis.Redis) -> None:
    put(valkey, "job")
    hand = Hand(valkey)
    [job] = hand.run()
    listen(valkey)
    valkey.delete("rq:job:job")
    hand.finish(job)
    assert valkey.keys("*job:job*") == valkey.keys("rq:results:*") == valkey.keys("rq:finished:*") == []
    assert events(valkey) == []
    assert broken(valkey) == []


def test_what_asks_for_it_gets_the_result(valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBHOOK_SECRET", "whsec_" + "QUJD" * 8)
    put(valkey, "job", webhook=Webhook("https://example.com/hook", JOB_EVENTS))
    put(valkey, "silent")
    hand = Hand(valkey)
    hand.finish(hand.run()[0], b"3")
    hand.finish(hand.run()[0], b"4")
    [(_, entry)] = valkey.xrange("jobline:outbox")
    assert (entry[b"job_id"], entry[b"type"], b64decode(entry[b"return_value"])) == (b"job", b"1", b"3")
    assert (entry[b"status"], entry[b"ended_at"]) == (b"finished", valkey.hget("rq:job:job", "ended_at"))


def test_the_dependents_of_a_job_are_queued_where_they_belong(valkey: redis.Redis) -> None:
    put(valkey, "job")
    put(valkey, "back", depends_on=["job"])
    put(valkey, "front", depends_on=["job"], at_front=True)
    put(valkey, "other", depends_on=["job"], queue="other", ttl=60)
    hand = Hand(valkey)
    [job] = hand.run()
    put(valkey, "between")
    valkey.srem("rq:queues", "rq:queue:other")
    valkey.expire("rq:job:other", 20)  # its ttl counts from when it is queued
    listen(valkey)
    finished = hand.finish(job)
    assert valkey.lrange("rq:queue:default", 0, -1) == [b"front", b"between", b"back"]
    assert valkey.lrange("rq:queue:other", 0, -1) == [b"other"]
    assert 58 <= valkey.ttl("rq:job:other") <= 60
    for job_id in ("back", "front", "other"):
        said = fields(valkey, f"rq:job:{job_id}")
        assert said["status"] == "queued"
        assert near(said["enqueued_at"], finished.ended_at)
    told = events(valkey)
    assert told[0] == ("job", "default", "finished")
    assert sorted(told[1:]) == [
        ("back", "default", "queued"),
        ("front", "default", "queued"),
        ("other", "other", "queued"),
    ]
    assert not valkey.exists("rq:job:job:dependents")
    assert broken(valkey) == []


def settle(hand: Hand, connection: redis.Redis, parent: str, state: str) -> None:
    """The parent is in a state before the other one ends."""
    if state == "gone":
        connection.delete(f"rq:job:{parent}")
    else:
        connection.hset(f"rq:job:{parent}", "status", state)


@pytest.mark.parametrize("allow_failure", [False, True], ids=["needs success", "allows failure"])
@pytest.mark.parametrize(
    "state", ["gone", "finished", "failed", "stopped", "canceled", "queued", "started", "deferred", "scheduled"]
)
@pytest.mark.parametrize("parents", [["first", "second"], ["second", "first"]], ids=["after it", "before it"])
def test_a_job_with_two_parents_waits_for_both(
    valkey: redis.Redis, state: str, allow_failure: bool, parents: list[str]
) -> None:
    for parent in ("first", "second"):
        put(valkey, parent)
    put(valkey, "child", depends_on=parents)
    if allow_failure:
        valkey.hset("rq:job:child", "allow_dependency_failures", 1)
    hand = Hand(valkey)
    [first] = hand.run()
    settle(hand, valkey, "second", state)
    hand.finish(first)
    begins = state in ("gone", "finished") or (state == "failed" and allow_failure)
    assert valkey.hget("rq:job:child", "status") == (b"queued" if begins else b"deferred")
    assert (valkey.zscore("rq:deferred:default", "child") is None) is begins
    assert (valkey.lpos("rq:queue:default", "child") is not None) is begins
    if not begins:  # it is kept as long as the job that it came after
        assert valkey.smembers("rq:job:first:dependents") == {b"child"}
        assert abs(valkey.ttl("rq:job:first:dependents") - valkey.ttl("rq:job:first")) <= 1


def test_what_a_job_depended_on_is_forgotten_with_it(valkey: redis.Redis) -> None:
    put(valkey, "parent", result_ttl=100)
    put(valkey, "child", depends_on=["parent"], result_ttl=200)
    hand = Hand(valkey)
    hand.finish(hand.run()[0])
    hand.finish(hand.run()[0])
    assert 198 <= valkey.ttl("rq:job::child:dependencies") <= 200
    assert broken(valkey) == []


@pytest.mark.parametrize("state", ["canceled", "queued", "finished", None])
def test_a_dependent_that_waits_no_more_is_left_alone(valkey: redis.Redis, state: str | None) -> None:
    put(valkey, "parent")
    put(valkey, "child", depends_on=["parent"])
    if state:
        valkey.hset("rq:job:child", "status", state)
    else:
        valkey.delete("rq:job:child")
    hand = Hand(valkey)
    [parent] = hand.run()
    before = contents(valkey)
    hand.finish(parent)
    assert not any("child" in key for key in changed(before, contents(valkey)))
    assert valkey.llen("rq:queue:default") == 0


def test_a_beat(valkey: redis.Redis) -> None:
    put(valkey, "job")
    hand = Hand(valkey)
    [job] = hand.run()
    member, now = f"job:{job.execution_id}", time.time() + 50
    count = valkey.zscore("jobline:leases", "w")
    assert hand.beat(job, ran=50, now=now) == [1, 1]
    assert valkey.zscore("jobline:leases", "w") == count + 1
    assert float(valkey.zscore("rq:wip:default", member)) == pytest.approx(now + EXECUTION_TTL_SECONDS, abs=0.01)
    worker = fields(valkey, hand.key)
    assert near(worker["last_heartbeat"], now)
    assert near(worker["horse_moved_at"], now)
    assert float(worker["current_job_working_time"]) == 50
    assert 478 <= valkey.ttl(hand.key) <= 480
    record = fields(valkey, f"rq:execution:{member}")
    assert float(record["created_at"]) == pytest.approx(now - 50, abs=0.01)
    assert (record["id"], record["worker_name"]) == (job.execution_id, "w")
    assert float(record["last_heartbeat"]) == pytest.approx(now, abs=0.01)
    assert EXECUTION_TTL_SECONDS - 2 <= valkey.ttl(f"rq:execution:{member}") <= EXECUTION_TTL_SECONDS
    assert float(valkey.zscore("rq:executions:job", job.execution_id)) == pytest.approx(
        now + EXECUTION_TTL_SECONDS + 60, abs=0.01
    )
    assert EXECUTION_TTL_SECONDS + 58 <= valkey.ttl("rq:executions:job") <= EXECUTION_TTL_SECONDS + 60
    assert near(valkey.hget("rq:job:job", "last_heartbeat"), now)
    assert broken(valkey) == []
    began = record["created_at"]
    hand.beat(job, ran=53, now=now + 4)
    assert fields(valkey, f"rq:execution:{member}")["created_at"] == began


def test_a_short_job_has_its_lease_and_no_record(valkey: redis.Redis) -> None:
    put(valkey, "job")
    hand = Hand(valkey)
    [job] = hand.run()
    now = time.time() + 20
    assert hand.beat(job, ran=0.9, now=now) == [1, 1]
    assert float(valkey.zscore("rq:wip:default", f"job:{job.execution_id}")) == pytest.approx(
        now + EXECUTION_TTL_SECONDS, abs=0.01
    )
    assert valkey.keys("rq:execution*") == []


def test_a_beat_without_a_job(valkey: redis.Redis) -> None:
    hand = Hand(valkey)
    before, moved = contents(valkey), valkey.hget(hand.key, "horse_moved_at")
    assert moved is None
    assert hand.beat() == [1]
    assert set(changed(before, contents(valkey))) == {hand.key, "jobline:leases"}


def test_a_worker_whose_record_is_gone_is_told_so(valkey: redis.Redis) -> None:
    hand = Hand(valkey)
    valkey.delete(hand.key)
    assert hand.beat() == [0]
    assert valkey.ttl(hand.key) > 0


def test_a_beat_makes_no_deleted_job_anew(valkey: redis.Redis) -> None:
    put(valkey, "job")
    hand = Hand(valkey)
    [job] = hand.run()
    valkey.delete("rq:job:job")
    assert hand.beat(job) == [1, 1]
    assert not valkey.exists("rq:job:job")


def test_a_job_that_another_worker_had_begun_is_this_workers_now(valkey: redis.Redis) -> None:
    """It was queued again with the state of its last attempt."""
    put(valkey, "job")
    valkey.hset("rq:job:job", mapping={"status": "started", "worker_name": "stock", "attempts": 1})
    hand = Hand(valkey)
    hand.run()
    assert valkey.hmget("rq:job:job", "worker_name", "attempts") == [b"w", b"2"]


@pytest.mark.parametrize(("end", "said"), [(actions.cancel, b"canceled"), (actions.delete, b"deleted")])
def test_who_waits_for_a_job_is_told_of_an_end_without_a_result(
    valkey: redis.Redis, end: Callable[[redis.Redis, str], None], said: bytes
) -> None:
    put(valkey, "job", delay=60)
    end(valkey, "job")
    assert [entry for _, entry in valkey.xrange(ended_key("job"))] == [{b"status": said}]
    assert 58 <= valkey.ttl(ended_key("job")) <= 60
    assert broken(valkey) == []


def test_nothing_of_its_end_is_left_of_a_job_that_is_requeued(valkey: redis.Redis) -> None:
    put(valkey, "job")
    assert actions.apply(valkey, "job", "cancel", "too late") == b"ok"
    assert valkey.hget("rq:job:job", "reason") == b"too late"
    actions.requeue(valkey, "job")
    assert not valkey.exists(ended_key("job"))
    said = fields(valkey, "rq:job:job")
    assert (said["status"], said["started_at"], said["ended_at"], said["worker_name"]) == ("queued", "", "", "")
    assert not {"reason", "exc_info"} & said.keys()
    assert broken(valkey) == []
