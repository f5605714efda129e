"""Rates, concurrency and breakers to the very moment: by a clock that moves when told, and by claims made by hand."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis

from app import limits
from app.author.options import Limit
from app.catalog.catalog import Catalog
from app.enqueue import new_job, write
from app.enqueue.new_job import NewJob
from app.lifecycle import actions, change_job
from app.redis.keys import LEASES
from app.settings import Settings
from app.testing import Jobs, run_jobs
from app.worker.claimed import Claimed
from app.worker.redis_session import RedisSession
from tests.conftest import status, until

START = datetime(2027, 1, 1, tzinfo=UTC)
QUEUE = "rq:queue:default"
PUT_OFF_ONCE = ["queued", "scheduled", "queued", "started"]
"""The states of a job that waited: it is not taken from its queue again and again."""


SHOP = """
from app import Breaker, job


@job(breaker=Breaker(3, window=60, cool_down=30))
def breaks(message: str) -> None:
    raise RuntimeError(message)
"""


@pytest.fixture
def jobs(write_module: Callable[[str, str], None]) -> Iterator[Jobs]:
    write_module("shop", SHOP)
    with run_jobs(at=START) as found:
        found.redis.xadd("jobline:events", {"ids": ""})  # somebody listens
        yield found


def began(jobs: Jobs, *job_ids: str) -> list[float | None]:
    """Seconds after START."""
    starts = [jobs.get(job_id)["started_at"] for job_id in job_ids]
    return [at and round((datetime.fromisoformat(at) - START).total_seconds(), 3) for at in starts]


def told(jobs: Jobs, job_id: str) -> list[str]:
    entries = jobs.redis.xrange("jobline:events")
    return [raw[b"status"].decode() for _, raw in entries if job_id.encode() in raw[b"ids"].split()]


def put(jobs: Jobs, *job_ids: str, **said: Any) -> None:
    for job_id in job_ids:
        jobs.enqueue_with({"id": job_id, **said}, "demo.add", 1, 2)


def left(connection: redis.Redis) -> list[bytes]:
    return connection.keys("jobline:limit*") + connection.keys("jobline:breaker*")


def test_so_many_begin_in_a_window_and_the_next_ones_the_moment_it_is_over(jobs: Jobs) -> None:
    names = ["a", "b", "c", "d", "e"]
    put(jobs, *names, rate_limit="2/10s")
    put(jobs, "free")
    jobs.advance(seconds=9.999)
    assert began(jobs, *names, "free") == [0, 0, None, None, None, 0]
    jobs.advance(seconds=30)
    assert began(jobs, *names) == [0, 0, 10, 10, 20]
    assert [told(jobs, name)[:-1] for name in names[2:]] == [PUT_OFF_ONCE] * 3
    assert left(jobs.redis) == []


def test_the_window_slides(jobs: Jobs) -> None:
    put(jobs, "a", rate_limit="2/10s")
    jobs.advance(seconds=6)
    put(jobs, "b", rate_limit="2/10s")
    jobs.advance(seconds=1)
    put(jobs, "c", "d", "e", rate_limit="2/10s")
    jobs.advance(seconds=30)
    assert began(jobs, "a", "b", "c", "d", "e") == [0, 6, 10, 16, 20]


def test_a_rate_is_kept_as_long_as_its_window(jobs: Jobs) -> None:
    put(jobs, "a", rate_limit="1/h")
    jobs.run()
    [starts] = left(jobs.redis)
    assert 3600 <= jobs.redis.ttl(starts) <= 3601
    put(jobs, "b", rate_limit="1/h")
    jobs.run()
    due = jobs.redis.zscore("rq:scheduled:default", "b")
    assert due >= START.timestamp() + 3600  # nobody moves it before there is room
    jobs.advance(minutes=59)
    assert (began(jobs, "b"), jobs.redis.llen(QUEUE)) == ([None], 0)
    jobs.advance(minutes=1)
    assert began(jobs, "b") == [3600]


def test_each_value_of_a_key_is_counted_apart(jobs: Jobs) -> None:
    for job_id, value in (("a", 1), ("b", 1), ("c", 2), ("d", 2)):
        said = {"id": job_id, "rate_limit": {"most": "1/10s", "key": "{a}"}}
        jobs.enqueue_with(said, "demo.add", value, 2)
    jobs.advance(seconds=30)
    assert began(jobs, "a", "b", "c", "d") == [0, 10, 0, 10]


def test_a_queue_is_counted_over_its_functions(jobs: Jobs) -> None:
    limit = {"most": "1/10s", "by": "queue"}
    put(jobs, "a", "b", rate_limit=limit)
    jobs.enqueue_with({"id": "c", "rate_limit": limit}, "demo.sleep", 0)
    put(jobs, "d", rate_limit=limit, queue="low")
    put(jobs, "e")
    jobs.advance(seconds=60)
    assert began(jobs, "a", "b", "c", "d", "e") == [0, 10, 20, 0, 0]


def test_a_job_that_is_canceled_while_it_waits_takes_no_turn(jobs: Jobs) -> None:
    put(jobs, "a", "b", "c", rate_limit="1/10s")
    jobs.run()
    jobs.client.post("/api/v1/jobs/b/cancel")
    jobs.advance(seconds=60)
    assert began(jobs, "a", "b", "c") == [0, None, 10]
    assert left(jobs.redis) == []


def fail_at(jobs: Jobs, *moments: float) -> list[str]:
    """Enqueue jobs that fail at these moments, in seconds after START; run all up to the last."""
    names = []
    for number, moment in enumerate(moments):
        now = (datetime.now(UTC) - START).total_seconds()
        jobs.advance(seconds=moment - now)
        names.append(f"fail-{number}")
        jobs.enqueue_with({"id": names[-1]}, "shop.breaks", "no")
        jobs.run()
    return names


@pytest.mark.parametrize("moments", [(0, 1, 2), (0, 30, 59.99), (0, 50, 61, 62)])
def test_a_breaker_opens_after_so_many_failures_and_closes_when_it_has_cooled_down(
    jobs: Jobs, moments: tuple[float, ...]
) -> None:
    assert began(jobs, *fail_at(jobs, *moments)) == list(moments)
    jobs.enqueue_with({"id": "next"}, "shop.breaks", "no")
    jobs.run()
    due, closes = jobs.redis.zscore("rq:scheduled:default", "next"), moments[-1] + 30
    assert due == pytest.approx(START.timestamp() + closes, abs=0.01)
    jobs.advance(seconds=29.98)
    assert began(jobs, "next") == [None]
    jobs.advance(seconds=0.04)
    assert began(jobs, "next") == [pytest.approx(closes, abs=0.02)]
    assert told(jobs, "next")[:-1] == PUT_OFF_ONCE
    jobs.advance(minutes=3)
    assert left(jobs.redis) == []


@pytest.mark.parametrize("moments", [(0, 1), (0, 30, 60), (0, 59, 61), (0, 20, 70, 90, 140, 160)])
def test_a_breaker_stays_closed_while_the_failures_of_a_window_are_too_few(
    jobs: Jobs, moments: tuple[float, ...]
) -> None:
    fail_at(jobs, *moments)
    jobs.enqueue_with({"id": "next"}, "shop.breaks", "no")
    jobs.run()
    assert began(jobs, "next") == [moments[-1]]


def test_others_go_on_while_a_breaker_is_open(jobs: Jobs) -> None:
    fail_at(jobs, 0, 0, 0)
    put(jobs, "other")
    jobs.enqueue_with({"id": "next"}, "shop.breaks", "no")
    jobs.run()
    assert [jobs.get(name)["status"] for name in ("other", "next")] == ["finished", "scheduled"]


class Hands:
    """A worker by hand: it takes one job at a time, and says when one has ended."""

    def __init__(self, connection: redis.Redis) -> None:
        connection.zadd(LEASES, {"w": 0})
        self.connection, self.claims = connection, RedisSession(connection, "w", give_up=lambda: True)
        self.held: dict[str, Claimed] = {}

    def take(self) -> str | None:
        found = self.claims.claim(["default"], self.claims.new_executions(1))
        if not isinstance(found, list):
            return None
        job_id = found[0].id
        self.held[job_id] = found[0]
        return job_id

    def end(self, job_id: str) -> None:
        """As a job whose worker has let it go."""
        claimed = self.held.pop(job_id)
        self.connection.zrem("rq:wip:default", f"{job_id}:{claimed.execution_id}")
        self.claims.releases(claimed)
        self.claims.settle()

    def vanish(self, job_id: str) -> None:
        """As a job whose worker has died, once its execution is found to be lost."""
        self.connection.zrem("rq:wip:default", f"{job_id}:{self.held.pop(job_id).execution_id}")


@pytest.fixture
def hands(valkey: redis.Redis) -> Hands:
    return Hands(valkey)


def new(job_id: str, **said: Any) -> NewJob:
    return new_job.prepare(Catalog().get("demo.add"), Settings(), [1, 2], {}, id=job_id, **said)


def enqueue(connection: redis.Redis, *job_ids: str, most: int = 1, **said: Any) -> None:
    write.enqueue(connection, [new(job_id, concurrency=Limit(most), **said) for job_id in job_ids])


def look_now(connection: redis.Redis) -> float:
    """As the scheduler does when the time of each limit has come."""
    waiting = "jobline:limits:waiting"
    for limit in connection.zrange(waiting, 0, -1):
        connection.zadd(waiting, {limit: 0})
    return limits.sweep(connection)


def queued(connection: redis.Redis) -> list[str]:
    return [job_id.decode() for job_id in connection.lrange(QUEUE, 0, -1)]


def test_so_many_run_at_once_and_the_next_in_the_order_of_their_coming(valkey: redis.Redis, hands: Hands) -> None:
    enqueue(valkey, "a", "b", "c", "d", "e", most=2)
    assert [hands.take() for _ in range(3)] == ["a", "b", None]
    assert not valkey.exists("jobline:limit:slots:function:demo.add::starts")
    assert [status(valkey, name) for name in "cde"] == ["scheduled"] * 3
    for name in "cde":
        assert valkey.zscore("rq:scheduled:default", name) > time.time() + 500  # nobody moves them before
    hands.end("b")
    assert (queued(valkey), status(valkey, "d")) == (["c"], "scheduled")
    assert [hands.take(), hands.take()] == ["c", None]
    hands.end("a")
    hands.end("c")
    assert queued(valkey) == ["d", "e"]
    assert [hands.take(), hands.take(), hands.take()] == ["d", "e", None]
    for name in "de":
        hands.end(name)
    assert look_now(valkey) == 3600
    assert left(valkey) == []


def test_those_let_go_one_after_the_other_keep_their_order(valkey: redis.Redis, hands: Hands) -> None:
    names = [f"job-{number}" for number in range(9)]
    for name in names:
        enqueue(valkey, name, most=3, queue="default")
    enqueue(valkey, "free", most=9, at_front=False)
    valkey.hdel("rq:job:free", "limits")
    assert [hands.take() for _ in range(4)] == [*names[:3], "free"]
    for name in names[:3]:
        hands.end(name)
    assert queued(valkey) == names[3:6]
    assert hands.take() == names[3]
    hands.end(names[3])
    assert queued(valkey) == names[4:7]
    actions.cancel(valkey, names[5])
    until(lambda: limits.sweep(valkey) and names[7] in queued(valkey), 5)
    assert queued(valkey) == [names[4], names[6], names[7]]


def test_the_place_of_a_job_that_was_let_go_is_kept_for_it(valkey: redis.Redis, hands: Hands) -> None:
    enqueue(valkey, "a", "b")
    assert [hands.take(), hands.take()] == ["a", None]
    hands.end("a")
    enqueue(valkey, "new", at_front=True)
    assert queued(valkey) == ["new", "b"]
    assert hands.take() == "b"
    assert status(valkey, "new") == "scheduled"


def test_a_job_that_was_let_go_and_is_refused_again_keeps_its_turn(valkey: redis.Redis, hands: Hands) -> None:
    enqueue(valkey, "a", "b")
    assert [hands.take(), hands.take()] == ["a", None]
    hands.end("a")
    enqueue(valkey, "wide", most=5, at_front=True)
    assert hands.take() == "wide"  # in whose eyes there is room
    enqueue(valkey, "c", at_front=True)
    assert hands.take() is None  # first c, then b
    assert [status(valkey, name) for name in "bc"] == ["scheduled"] * 2
    hands.end("wide")  # in whose eyes there is room for both
    assert queued(valkey) == ["b", "c"]


def test_the_turn_of_a_job_that_is_gone_is_the_next_one_s(valkey: redis.Redis, hands: Hands) -> None:
    enqueue(valkey, *"abcde")
    assert [hands.take(), hands.take()] == ["a", None]
    actions.cancel(valkey, "b")
    actions.delete(valkey, "c")
    hands.end("a")
    assert queued(valkey) == ["d"]
    actions.cancel(valkey, "d")  # which was let go
    until(lambda: limits.sweep(valkey) > 3000 or queued(valkey) == ["e"], 5)
    assert hands.take() == "e"
    hands.end("e")
    assert look_now(valkey) == 3600
    assert left(valkey) == []


def test_the_place_of_an_execution_that_is_lost_is_found_to_be_free(valkey: redis.Redis, hands: Hands) -> None:
    enqueue(valkey, "a", "b", "c")
    assert [hands.take(), hands.take()] == ["a", None]
    assert 0 < limits.sweep(valkey) <= 1
    assert queued(valkey) == []
    hands.vanish("a")
    until(lambda: limits.sweep(valkey) >= 0 and queued(valkey), 5)
    assert queued(valkey) == ["b"]


def test_what_one_limit_refuses_uses_up_no_other(valkey: redis.Redis, hands: Hands) -> None:
    both: dict[str, Any] = {"rate_limit": Limit("2/h"), "concurrency": Limit(1)}
    write.enqueue(valkey, [new(name, **both) for name in "abc"])
    assert [hands.take(), hands.take()] == ["a", None]
    assert valkey.llen("jobline:limit:rate:function:demo.add::starts") == 1
    hands.end("a")
    assert hands.take() == "b"
    hands.end("b")
    assert hands.take() is None  # two have begun in this hour
    assert valkey.scard("jobline:limit:slots:function:demo.add::held") == 0
    assert valkey.zscore("rq:scheduled:default", "c") > time.time() + 3500
    assert look_now(valkey) > 3000


def test_the_end_of_one_execution_frees_the_place_of_no_other(valkey: redis.Redis, hands: Hands) -> None:
    enqueue(valkey, "a", "b", "c", most=2)
    assert [hands.take(), hands.take(), hands.take()] == ["a", "b", None]
    claimed = hands.held["a"]
    hands.end("a")
    assert hands.take() == "c"
    hands.claims.releases(claimed)  # said twice
    hands.claims.settle()
    enqueue(valkey, "d", most=2)
    assert hands.take() is None


def test_who_waits_first_wakes_the_scheduler(valkey: redis.Redis, hands: Hands) -> None:
    with valkey.pubsub(ignore_subscribe_messages=True) as heard:
        heard.subscribe("jobline:scheduler:wake")
        heard.get_message(timeout=1)
        enqueue(valkey, "a", "b")
        assert [hands.take(), hands.take()] == ["a", None]
        assert until(lambda: heard.get_message(timeout=0.1))


def test_a_job_that_comes_to_its_queue_by_itself_keeps_its_turn(valkey: redis.Redis, hands: Hands) -> None:
    """As by the mover of a stock scheduler, when what should let it go has not come for long."""
    enqueue(valkey, "a", "b", "c")
    assert [hands.take(), hands.take()] == ["a", None]
    later = datetime.now(UTC) + timedelta(hours=1)
    assert actions.move_due(valkey, later) == (2, [])
    assert (queued(valkey), hands.take()) == (["b", "c"], None)
    assert valkey.lrange("jobline:limit:slots:function:demo.add::waiting", 0, -1) == [b"b", b"c"]
    hands.end("a")
    assert [hands.take(), hands.take()] == ["b", None]


def an_hour_later(connection: redis.Redis) -> None:
    """What has begun by the rate of demo.add, began an hour before."""
    starts = "jobline:limit:rate:function:demo.add::starts"
    for number, began_at in enumerate(connection.lrange(starts, 0, -1)):
        connection.lset(starts, number, float(began_at) - 3600)


def test_nobody_overtakes_those_that_wait_though_there_is_room(valkey: redis.Redis, hands: Hands) -> None:
    write.enqueue(valkey, [new(name, rate_limit=Limit("1/h")) for name in "ab"])
    assert [hands.take(), hands.take()] == ["a", None]
    an_hour_later(valkey)
    write.enqueue(valkey, [new("c", rate_limit=Limit("1/h"))])
    assert [hands.take(), hands.take()] == ["b", None]  # c was looked at first
    assert status(valkey, "c") == "scheduled"


def test_a_place_that_is_given_up_is_seen_before_the_window_is_over(valkey: redis.Redis, hands: Hands) -> None:
    write.enqueue(valkey, [new(name, rate_limit=Limit("1/h")) for name in "abc"])
    assert [hands.take(), hands.take()] == ["a", None]
    an_hour_later(valkey)
    assert look_now(valkey) <= 1
    assert queued(valkey) == ["b"]
    actions.cancel(valkey, "b")
    look_now(valkey)
    assert queued(valkey) == ["c"]


def test_a_failure_that_is_sent_again_counts_once(valkey: redis.Redis) -> None:
    """An answer that was lost opens no breaker."""
    keys = ["jobline:breaker:f:failures", "jobline:breaker:f:open"]
    for token in ("one", "two", "one", "two"):
        limits.COUNT_FAILURE(valkey, function_name="f", most=3, window=60, cool_down=30, token=token)
    assert not valkey.exists(keys[1])
    limits.COUNT_FAILURE(valkey, function_name="f", most=3, window=60, cool_down=30, token="three")
    assert 29_000 < valkey.pttl(keys[1]) <= 30_000
    assert 85 < valkey.ttl(keys[0]) <= 90


def test_a_job_that_was_canceled_while_it_waited_and_is_requeued_waits_again(valkey: redis.Redis, hands: Hands) -> None:
    enqueue(valkey, "a", "b")
    assert [hands.take(), hands.take()] == ["a", None]
    actions.cancel(valkey, "b")
    hands.end("a")
    enqueue(valkey, "c")
    assert hands.take() == "c"
    actions.requeue(valkey, "b")
    assert hands.take() is None
    hands.end("c")
    assert queued(valkey) == ["b"]


def test_a_job_that_was_requeued_and_delayed_by_hand_is_not_let_go_before_its_time(
    valkey: redis.Redis, hands: Hands
) -> None:
    enqueue(valkey, "a", "b")
    assert [hands.take(), hands.take()] == ["a", None]
    actions.cancel(valkey, "b")
    actions.requeue(valkey, "b")
    change_job.update_before_start(valkey, "b", delay=3600.0)
    hands.end("a")
    look_now(valkey)
    assert status(valkey, "b") == "scheduled"
    assert valkey.zscore("rq:scheduled:default", "b") > time.time() + 3500


def test_a_job_that_a_breaker_refuses_waits_in_no_list_of_another_limit(valkey: redis.Redis, hands: Hands) -> None:
    job = new("b", concurrency=Limit(1))
    job.limits = [["breaker", "demo.add"], *job.limits]
    write.enqueue(valkey, [new("a", concurrency=Limit(1)), job])
    assert [hands.take(), hands.take()] == ["a", None]
    valkey.zadd("rq:scheduled:default", {"b": 1})
    actions.move_due(valkey, datetime.now(UTC))  # it keeps its turn
    valkey.set("jobline:breaker:demo.add:open", 1, px=60_000)
    assert hands.take() is None
    assert valkey.hget("rq:job:b", "waits_for") == b"breaker:function:demo.add"
    assert valkey.keys("jobline:limit:*:waiting") == []
