"""What becomes of a job whose execution is lost, and which executions are."""

import time
import zlib
from base64 import b64decode
from collections.abc import Callable

import pytest
import redis
from rq.job import Callback, Dependency

from app.author.options import JOB_EVENTS, Webhook
from app.catalog.catalog import Catalog
from app.lifecycle import callback_processes, executions, lost_workers, recovery
from app.lifecycle.lost_workers import Sweeper
from app.lifecycle.recovery import LOST, Outcome
from app.rq_adapter.rq_parts import Queue, override_catalog
from app.settings import get_settings
from app.views import job_view
from app.worker.claimed import Claimed
from tests.conftest import status, until
from tests.invariants import broken
from tests.receiver import SECRET
from tests.scripts.hand import Hand, put
from tests.scripts.test_life import events, fields, listen, near


def recover(connection: redis.Redis, job: Claimed, to: Outcome) -> None:
    assert (
        recovery.recover(connection, executions.Execution(job.queue, job.id, job.execution_id), LOST, lambda _: to)
        is to
    )
    callback_processes.wait()
    assert broken(connection) == []
    assert connection.zcard(f"rq:wip:{job.queue}") == 0
    assert connection.keys("rq:execution*") == []


def lost(connection: redis.Redis, to: Outcome, **said: object) -> Claimed:
    """A job that ran for 5 s, and others behind it in its queue."""
    put(connection, "job", **said)
    hand = Hand(connection)
    [job] = hand.run()
    hand.beat(job)
    put(connection, "next")
    listen(connection)
    recover(connection, job, to)
    return job


def attempts(connection: redis.Redis) -> list[bytes]:
    return [entry[b"type"] for _, entry in connection.xrange("rq:results:job")]


@pytest.mark.parametrize(("outcome", "losses"), [(Outcome.RETURNED, None), (Outcome.AGAIN, b"1")])
def test_it_is_at_the_front_of_its_queue_again(valkey: redis.Redis, outcome: Outcome, losses: bytes | None) -> None:
    lost(valkey, outcome, ttl=60, retry_waits=[1])
    assert valkey.lrange("rq:queue:default", 0, -1) == [b"job", b"next"]
    said = fields(valkey, "rq:job:job")
    assert (said["status"], said["worker_name"], said["started_at"], said["retries_left"]) == ("queued", "", "", "1")
    assert valkey.hget("rq:job:job", "losses") == losses
    assert 58 <= valkey.ttl("rq:job:job") <= 60
    assert events(valkey) == [("job", "default", "queued")]
    assert attempts(valkey) == [b"4"]


@pytest.mark.parametrize("outcome", [Outcome.RETURNED, Outcome.AGAIN, Outcome.RETRIED])
def test_its_queue_is_known_again(valkey: redis.Redis, outcome: Outcome) -> None:
    put(valkey, "job", retry_waits=[0])
    [job] = Hand(valkey).run()
    valkey.srem("rq:queues", "rq:queue:default")  # as when somebody deleted it meanwhile
    recover(valkey, job, outcome)
    assert valkey.sismember("rq:queues", "rq:queue:default")


CALLBACKS = """
def failed(job, connection, *error):
    connection.rpush("called", f"failed {job.id} {error[1]}")


def stopped(job, connection):
    connection.rpush("called", f"stopped {job.id}")
"""


@pytest.mark.parametrize(
    ("outcome", "called"),
    [(Outcome.FAILED, [f"failed job {LOST}".encode()]), (Outcome.STOPPED, [b"stopped job"]), (Outcome.RETURNED, [])],
)
def test_its_callbacks_are_called_and_who_waits_for_a_failure_is_queued(
    valkey: redis.Redis, write_module: Callable[[str, str], None], outcome: Outcome, called: list[bytes]
) -> None:
    write_module("calls", CALLBACKS)
    queue = Queue("default", connection=valkey)
    parent = queue.enqueue(
        "jobs.demo.add", 1, 2, job_id="job",
        on_failure=Callback("jobs.calls.failed"), on_stopped=Callback("jobs.calls.stopped"),
    )  # fmt: skip
    queue.enqueue("jobs.demo.add", 1, 2, job_id="child", depends_on=Dependency([parent], allow_failure=True))
    [job] = Hand(valkey).run()
    with override_catalog(Catalog()):
        recovery.recover(valkey, executions.Execution("default", "job", job.execution_id), LOST, lambda _: outcome)
        callback_processes.wait()
    assert valkey.lrange("called", 0, -1) == called
    assert status(valkey, "child") == ("queued" if outcome is Outcome.FAILED else "deferred")


def test_each_loss_is_counted(valkey: redis.Redis) -> None:
    put(valkey, "job")
    hand = Hand(valkey)
    for count in (b"1", b"2"):
        [job] = hand.run()
        recover(valkey, job, Outcome.AGAIN)
        assert valkey.hget("rq:job:job", "losses") == count


def test_what_was_not_begun_has_no_attempt(valkey: redis.Redis) -> None:
    put(valkey, "job")
    [job] = Hand(valkey).claim()
    recover(valkey, job, Outcome.RETURNED)
    assert valkey.keys("rq:results:*") == []


@pytest.mark.parametrize(("at_front", "order"), [(None, [b"next", b"job"]), ("1", [b"job", b"next"])])
def test_it_is_retried_at_once(valkey: redis.Redis, at_front: str | None, order: list[bytes]) -> None:
    put(valkey, "job", retry_waits=[0, 0], ttl=60)
    if at_front:
        valkey.hset("rq:job:job", "enqueue_at_front_on_retry", at_front)
    hand = Hand(valkey)
    [job] = hand.run()
    put(valkey, "next")
    now = time.time()
    recover(valkey, job, Outcome.RETRIED)
    assert valkey.lrange("rq:queue:default", 0, -1) == order
    said = fields(valkey, "rq:job:job")
    assert (said["status"], said["retries_left"], said["worker_name"]) == ("queued", "1", "")
    assert abs(time.time() - now) < 60
    assert said["enqueued_at"] > said["created_at"]
    assert 58 <= valkey.ttl("rq:job:job") <= 60


def test_its_attempts_are_numbered_also_while_one_runs(valkey: redis.Redis) -> None:
    put(valkey, "job", retry_waits=[0, 0, 0])
    hand = Hand(valkey)
    for numbers in ([], [1], [2, 1]):
        [job] = hand.run()
        found = job_view.fetch(valkey, ["job"], history=True)[0]
        assert found
        assert (found["status"], found["attempts"]) == ("started", len(numbers) + 1)
        assert [attempt["attempt"] for attempt in found["history"]] == numbers
        recover(valkey, job, Outcome.RETRIED)


def test_it_is_retried_later(valkey: redis.Redis) -> None:
    lost(valkey, Outcome.RETRIED, retry_waits=[60, 90])
    assert abs(float(valkey.zscore("rq:scheduled:default", "job")) - time.time() - 60) <= 2
    assert valkey.hget("rq:job:job", "retries_left") == b"1"
    assert events(valkey) == [("job", "default", "scheduled")]
    assert attempts(valkey) == [b"4"]
    assert valkey.ttl("rq:results:job") > 0


@pytest.mark.parametrize(("failure_ttl", "left"), [(-1, -1), (600, 600)])
@pytest.mark.parametrize("outcome", [Outcome.AGAIN, Outcome.RETRIED])
def test_the_record_of_a_lost_attempt_is_kept_as_failures_are(
    valkey: redis.Redis, outcome: Outcome, failure_ttl: int, left: int
) -> None:
    valkey.xadd("rq:results:job", {"type": 4})
    valkey.expire("rq:results:job", 60)
    lost(valkey, outcome, retry_waits=[60], failure_ttl=failure_ttl)
    assert left - 2 <= valkey.ttl("rq:results:job") <= left


@pytest.mark.parametrize("outcome", [Outcome.RETRIED, Outcome.FAILED])
def test_what_is_kept_of_a_lost_job_that_does_not_say_how_long_goes_by_the_setting(
    valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch, outcome: Outcome
) -> None:
    for name, seconds in (("FAILURE_TTL", "1000"), ("RESULT_TTL", "10")):
        monkeypatch.setenv(name, seconds)
    get_settings.cache_clear()
    put(valkey, "job", retry_waits=[60])
    valkey.hdel("rq:job:job", "failure_ttl")
    [job] = Hand(valkey).run()
    execution = executions.Execution("default", "job", job.execution_id)
    assert recovery.recover(valkey, execution, LOST, lambda _: outcome) is outcome
    assert 998 <= valkey.ttl("rq:results:job") <= 1000
    assert outcome is Outcome.RETRIED or 998 <= valkey.ttl("rq:job:job") <= 1000


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.STOPPED])
def test_it_is_a_dead_letter(valkey: redis.Redis, outcome: Outcome) -> None:
    began = time.time()
    job = lost(valkey, outcome, failure_ttl=600)
    ended = time.time()
    said = fields(valkey, "rq:job:job")
    assert said["status"] == outcome.value
    assert near(said["started_at"], began) or began < ended
    [(_, entry)] = valkey.xrange("rq:results:job")
    assert zlib.decompress(b64decode(entry[b"exc_string"])).decode() == LOST
    assert (entry[b"type"], entry[b"worker_name"]) == (b"2", b"w")
    assert entry[b"execution_id"] == job.execution_id.encode()
    started_at, ended_at = float(entry[b"execution_started_at"]), float(entry[b"execution_ended_at"])
    assert began <= started_at <= ended_at <= ended
    assert near(said["started_at"], started_at)
    assert near(said["ended_at"], ended_at)
    assert 598 <= valkey.ttl("rq:job:job") <= 600
    assert 598 <= valkey.ttl("rq:results:job") <= 600
    assert events(valkey) == [("job", "default", outcome.value)]


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.STOPPED])
def test_a_dead_letter_may_be_kept_for_ever(valkey: redis.Redis, outcome: Outcome) -> None:
    valkey.xadd("rq:results:job", {"type": 4})
    valkey.expire("rq:results:job", 60)
    lost(valkey, outcome, failure_ttl=-1)
    assert valkey.ttl("rq:job:job") == valkey.ttl("rq:results:job") == -1


def test_what_hangs_on_a_dead_letter_expires_with_it(valkey: redis.Redis) -> None:
    put(valkey, "parent")
    hand = Hand(valkey)
    [parent] = hand.run()
    put(valkey, "job", depends_on=["parent"], failure_ttl=600)
    hand.finish(parent)
    [job] = hand.run()
    put(valkey, "child", depends_on=["job"])
    valkey.persist("rq:job::job:dependencies")
    recover(valkey, job, Outcome.FAILED)
    assert valkey.hget("rq:job:child", "status") == b"deferred"
    for key in ("rq:job:job", "rq:job:job:dependents", "rq:job::job:dependencies"):
        assert 598 <= valkey.ttl(key) <= 600


@pytest.mark.parametrize(
    ("outcome", "event"),
    [
        (Outcome.RETURNED, None), (Outcome.AGAIN, None), (Outcome.RETRIED, None),
        (Outcome.FAILED, "job.failed"), (Outcome.STOPPED, "job.stopped"),
    ],
)  # fmt: skip
def test_its_end_is_followed_by_what_it_asks_for(
    valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch, outcome: Outcome, event: str | None
) -> None:
    monkeypatch.setenv("WEBHOOK_SECRET", SECRET)
    put(valkey, "job", webhook=Webhook("https://example.com/hook", JOB_EVENTS), retry_waits=[0])
    [job] = Hand(valkey).run()
    recover(valkey, job, outcome)
    following = [job_id.decode() for job_id in valkey.lrange("rq:queue:webhooks", 0, -1)]
    told = [found["args"][1] for found in job_view.fetch(valkey, following) if found]
    assert [(message["type"], message["data"]["id"]) for message in told] == ([(event, "job")] if event else [])
    if event:
        assert told[0]["data"]["error"]["message"] == "the worker died while it ran this job"


def test_a_job_that_is_gone_is_no_job_again(valkey: redis.Redis) -> None:
    put(valkey, "job")
    [job] = Hand(valkey).run()
    valkey.delete("rq:job:job")
    listen(valkey)
    recover(valkey, job, Outcome.FAILED)
    assert (valkey.keys("*job:job*"), valkey.keys("rq:results:*"), events(valkey)) == ([], [], [])


def test_jobs_are_given_back_in_their_order(valkey: redis.Redis) -> None:
    for job_id in "abcd":
        put(valkey, job_id)
    put(valkey, "other", queue="other")
    mine, others = Hand(valkey), Hand(valkey, "other", ("other",))
    claimed, kept = mine.claim(2) + mine.claim(1), others.claim()
    recovery.give_back(valkey, [one.execution_id for one in claimed[:2]])
    assert valkey.lrange("rq:queue:default", 0, -1) == [b"a", b"b", b"d"]
    assert [execution[:2] for execution in executions.held_by(valkey, "w")] == [("default", "c")]
    assert [execution[:3] for execution in executions.held_by(valkey, "other")] == [
        ("other", "other", kept[0].execution_id)
    ]
    assert broken(valkey) == []


IDEMPOTENT = {b"data": zlib.compress(b'["jobs.patient.idempotent",null,[],{}]')}


class Options:
    idempotent = True


class Function:
    options = Options


@pytest.mark.parametrize(
    ("job", "outcome"),
    [
        ({}, Outcome.FAILED),
        ({b"status": b"queued"}, Outcome.RETURNED),
        ({b"status": b"queued", b"retries_left": b"1"}, Outcome.RETURNED),
        ({b"status": b"started", b"retries_left": b"1"}, Outcome.RETRIED),
        ({b"status": b"started", b"retries_left": b"1", **IDEMPOTENT}, Outcome.RETRIED),
        ({b"status": b"started", b"retries_left": b"0"}, Outcome.FAILED),
        ({b"status": b"started", b"retries_left": b"many"}, Outcome.FAILED),
        ({b"status": b"started", **IDEMPOTENT}, Outcome.AGAIN),
        ({b"status": b"started", b"losses": b"1", **IDEMPOTENT}, Outcome.AGAIN),
        ({b"status": b"started", b"losses": b"2", **IDEMPOTENT}, Outcome.FAILED),
        ({b"status": b"started", b"retries_left": b"0", b"losses": b"9", **IDEMPOTENT}, Outcome.FAILED),
    ],
    ids=str,
)
def test_the_policy(monkeypatch: pytest.MonkeyPatch, job: dict[bytes, bytes], outcome: Outcome) -> None:
    monkeypatch.setattr(recovery, "_function", lambda job: Function if b"data" in job else None)
    assert recovery.policy(job) is outcome


@pytest.mark.parametrize(
    ("intervals", "left", "wait"),
    [
        (b"[60,90]", b"2", 60), (b"[60,90]", b"1", 90), (b"[60,90]", b"5", 60), (b"[60]", b"3", 60),
        (b"[60]", b"1", 60), (b"[60,90]", b"0", 0), (b"[]", b"1", 0), (None, b"1", 0), (b"nothing", b"1", 0),
        (b'["a"]', b"1", 0),
    ],
)  # fmt: skip
def test_the_wait_before_a_retry(valkey: redis.Redis, intervals: bytes | None, left: bytes, wait: int) -> None:
    put(valkey, "job")
    hand = Hand(valkey)
    [job] = hand.run()
    valkey.hset("rq:job:job", mapping={"retries_left": left, "retry_intervals": intervals or b""})
    recovery.recover(
        valkey, executions.Execution("default", "job", job.execution_id), recovery.LOST, lambda _: Outcome.RETRIED
    )
    due = valkey.zscore("rq:scheduled:default", "job")
    assert (due is None) == (wait == 0)
    assert due is None or 0 < due - time.time() - wait + 1 < 2


@pytest.fixture
def sweeper(valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> Sweeper:
    monkeypatch.setattr(lost_workers, "SWEEP_INTERVAL_SECONDS", 0.0)
    return Sweeper(valkey)


def test_a_worker_that_beats_no_more_is_given_up(valkey: redis.Redis, sweeper: Sweeper) -> None:
    put(valkey, "job")
    put(valkey, "claimed")
    dead, alive = Hand(valkey, "dead", ("default", "other")), Hand(valkey, "alive")
    dead.run()
    dead.claim()
    for _ in range(lost_workers.LOOKS_BEFORE_LOST):
        alive.beat()
        sweeper.sweep()
        assert (status(valkey, "job"), valkey.zcard("rq:wip:default")) == ("started", 2)
    alive.beat()
    sweeper.sweep()
    assert status(valkey, "job") == "failed"
    assert valkey.lrange("rq:queue:default", 0, -1) == [b"claimed"]
    assert valkey.zrange("jobline:leases", 0, -1) == [b"alive"]
    assert valkey.smembers("rq:workers") == valkey.smembers("rq:workers:default") == {b"rq:worker:alive"}
    assert not valkey.exists("rq:worker:dead", "rq:workers:other")
    callback_processes.wait()
    assert broken(valkey) == []


def test_a_worker_that_beats_now_and_then_is_not_given_up(valkey: redis.Redis, sweeper: Sweeper) -> None:
    put(valkey, "job")
    hand = Hand(valkey)
    hand.run()
    for _ in range(4):
        for _ in range(lost_workers.LOOKS_BEFORE_LOST):
            sweeper.sweep()
        hand.beat()
        sweeper.sweep()
    assert status(valkey, "job") == "started"


def test_an_outage_gives_up_nobody(valkey: redis.Redis, sweeper: Sweeper, monkeypatch: pytest.MonkeyPatch) -> None:
    put(valkey, "job")
    Hand(valkey).run()
    for _ in range(lost_workers.LOOKS_BEFORE_LOST):
        sweeper.sweep()
    with monkeypatch.context() as patch:
        patch.setattr(sweeper.connection, "zrange", _away)
        with pytest.raises(redis.ConnectionError):
            sweeper.sweep()
    sweeper.sweep()
    assert status(valkey, "job") == "started"


def _away(*_: object, **__: object) -> None:
    raise redis.ConnectionError


def test_while_redis_takes_no_writes_nobody_can_beat_and_nobody_is_given_up(
    valkey: redis.Redis, sweeper: Sweeper
) -> None:
    put(valkey, "job")
    Hand(valkey).run()
    sweeper.sweep()
    valkey.config_set("min-replicas-to-write", 1)
    try:
        for _ in range(lost_workers.LOOKS_BEFORE_LOST):
            with pytest.raises(redis.RedisError, match="NOREPLICAS"):
                sweeper.sweep()
    finally:
        valkey.config_set("min-replicas-to-write", 0)
    sweeper.sweep()
    assert status(valkey, "job") == "started"


def test_a_new_fence_of_a_worker_that_was_forgotten_expires(valkey: redis.Redis) -> None:
    Hand(valkey)
    lost_workers.forget(valkey, "w")
    assert recovery.fence(valkey, "w") == 1
    assert 0 < valkey.ttl("rq:worker:w") <= 480


def test_looks_have_a_time_between_them(valkey: redis.Redis) -> None:
    put(valkey, "job")
    Hand(valkey).run()
    sweeper = Sweeper(valkey)
    for _ in range(lost_workers.LOOKS_BEFORE_LOST + 5):
        sweeper.sweep()
    assert status(valkey, "job") == "started"


def test_an_execution_of_no_live_worker_is_lost_when_its_lease_is_over(valkey: redis.Redis) -> None:
    for job_id in ("early", "late", "alive"):
        put(valkey, job_id)
    stock, ours = Hand(valkey, "stock"), Hand(valkey, "ours")
    early, late, alive = stock.run()[0], stock.run()[0], ours.run()[0]
    valkey.zrem("jobline:leases", "stock")
    valkey.delete("rq:worker:stock")  # RQ does not know it any more
    now = time.time()
    scores = ((early, now - 1), (late, now + 30), (alive, now - 1))
    valkey.zadd("rq:wip:default", {f"{job.id}:{job.execution_id}": score for job, score in scores})
    sweeper = Sweeper(valkey)
    sweeper.sweep()
    callback_processes.wait()
    assert [status(valkey, job_id) for job_id in ("early", "late", "alive")] == ["failed", "started", "started"]
    ours.beat(alive)
    assert float(valkey.zscore("rq:wip:default", f"alive:{alive.execution_id}")) > now + 60


def test_an_execution_of_a_stock_worker_that_may_live_is_lost_only_after_its_time(
    valkey: redis.Redis, sweeper: Sweeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no lease; a clock that has jumped makes its time look over."""
    put(valkey, "job")
    [job] = Hand(valkey, "stock").run()
    valkey.zrem("jobline:leases", "stock")
    member = f"job:{job.execution_id}"
    for _ in range(lost_workers.LOOKS_BEFORE_LOST + 2):
        valkey.zadd("rq:wip:default", {member: time.time() - 1})
        sweeper.sweep()
    monkeypatch.setattr(lost_workers, "EXECUTION_TTL_SECONDS", 0.0)
    assert status(valkey, "job") == "started"
    sweeper.sweep()
    callback_processes.wait()
    assert status(valkey, "job") == "failed"


def test_a_child_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callback_processes, "TIMEOUT_SECONDS", 1.0)
    began = time.monotonic()
    callback_processes.start(lambda: time.sleep(60))
    until(lambda: callback_processes.reap() or not callback_processes._deadlines, 10)
    assert time.monotonic() - began > 0.9


def test_a_job_that_cannot_be_read_is_set_aside(valkey: redis.Redis) -> None:
    put(valkey, "job")
    [job] = Hand(valkey).run()
    valkey.delete("rq:job:job")
    valkey.set("rq:job:job", "text")
    recovery.recover(valkey, executions.Execution("default", "job", job.execution_id), LOST, recovery.policy)
    callback_processes.wait()
    assert status(valkey, "job") == "failed"
    assert valkey.get("jobline:unreadable:job") == b"text"
    assert valkey.ttl("jobline:unreadable:job") > 0
    assert valkey.zcard("rq:wip:default") == 0


def test_a_registry_that_cannot_be_read_keeps_no_other_queue_from_recovery(
    valkey: redis.Redis, sweeper: Sweeper
) -> None:
    put(valkey, "job", queue="other")
    Hand(valkey, queues=("other",)).run()
    valkey.sadd("rq:queues", "rq:queue:default")
    valkey.set("rq:wip:default", "text")
    valkey.zadd("rq:wip:other", dict.fromkeys(valkey.zrange("rq:wip:other", 0, -1), 1.0))
    valkey.zrem("jobline:leases", "w")
    valkey.delete("rq:worker:w")
    sweeper.sweep()
    assert status(valkey, "job") == "failed"
    assert valkey.get("rq:wip:default") == b"text"


def test_an_id_may_have_a_colon(valkey: redis.Redis) -> None:
    put(valkey, "a:b")
    [job] = Hand(valkey).run()
    assert [execution[:3] for execution in executions.held_by(valkey, "w")] == [("default", "a:b", job.execution_id)]
    recovery.give_back(valkey, [job.execution_id])
    assert valkey.lrange("rq:queue:default", 0, -1) == [b"a:b"]
    assert broken(valkey) == []
