"""A worker's parent over its horse, in this process: it beats, limits, gives back and settles."""

import os
import threading
import time
import zlib
from base64 import b64decode
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest
import redis

from app.lifecycle import callback_processes, lost_workers, recovery
from app.settings import get_settings
from app.worker import horse_monitor as module
from app.worker.claimed import Claimed
from app.worker.horse_monitor import HorseMonitor
from app.worker.prefetched import PrefetchedExecutions
from app.worker.shared_status import Leaving, SharedStatus
from app.worker.wake import Wake
from tests.conftest import status, until
from tests.contents import changed, contents
from tests.invariants import broken
from tests.scripts.hand import Hand, put
from tests.scripts.test_life import fields
from tests.scripts.test_recover import attempts

FAILED, OK = 3, 0  # exit codes of a horse that looks at Redis
Life = Callable[[SharedStatus, PrefetchedExecutions], object]


@pytest.fixture
def hand(valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> Hand:
    monkeypatch.setattr(module, "CHECK_INTERVAL_SECONDS", 0.05)
    monkeypatch.setattr(module, "LEASE_RENEWAL_SECONDS", 0.1)
    monkeypatch.setenv("TIMEOUT_GRACE", "1")
    monkeypatch.setenv("SHUTDOWN_GRACE", "1")
    get_settings.cache_clear()
    return Hand(valkey)


@pytest.fixture
def wake() -> Iterator[Wake]:
    with Wake() as wake:
        yield wake


class Over:
    """A keeper over a horse of which the test says what it does."""

    def __init__(self, hand: Hand, wake: Wake, life: Life) -> None:
        def live(board: SharedStatus, box: PrefetchedExecutions, _: object) -> int:
            hand.connection.connection_pool.reset()  # it is forked: lines of its own
            found = life(board, box)
            return found if isinstance(found, int) else OK

        self.hand = hand
        self.monitor = HorseMonitor(hand.worker, wake, live)

    def watch(self) -> int:
        """Until it has ended; its exit code, or the number of its signal less than 0."""
        while not self.monitor.step():
            self.monitor.sleep()
        assert self.monitor.horse.settled
        assert broken(self.hand.connection) == []
        return os.waitstatus_to_exitcode(self.monitor.horse.status or 0)


def works_on(job: Claimed, timeout: float = 60) -> Life:
    def life(board: SharedStatus, _: PrefetchedExecutions) -> None:
        board.show(job.queue, job.id, job.execution_id, timeout)
        time.sleep(30)

    return life


def ask_to_stop(hand: Hand) -> None:
    """As its signal handler does."""
    hand.worker._stop_requested, hand.worker._shutdown_requested_date = True, datetime.now(UTC)


def sees(condition: Callable[[], object], seconds: float = 5) -> int:
    """In the horse: whether it comes to be so."""
    try:
        until(condition, seconds)
    except AssertionError:
        return FAILED
    return OK


def error(connection: redis.Redis, job_id: str) -> str:
    entry = connection.xrevrange(f"rq:results:{job_id}", count=1)[0][1]
    return zlib.decompress(b64decode(entry[b"exc_string"])).decode()


@pytest.mark.parametrize(
    ("retries", "left", "becomes"), [(None, None, "failed"), ([60], b"0", "scheduled"), ([0, 0], b"1", "queued")]
)
def test_a_job_that_outlives_its_timeout_is_killed_and_retried_as_any_failure(
    valkey: redis.Redis, hand: Hand, wake: Wake, retries: list[int] | None, left: bytes | None, becomes: str
) -> None:
    put(valkey, "job", retry_waits=retries)
    [job] = hand.run()
    began = time.monotonic()
    assert Over(hand, wake, works_on(job, timeout=1)).watch() == -9
    assert 1.9 < time.monotonic() - began < 5  # the timeout, and the grace
    assert status(valkey, "job") == becomes
    assert valkey.hget("rq:job:job", "retries_left") == left
    assert "JobTimeoutException: killed: it did not end within 1 s of its timeout, 1 s" in error(valkey, "job")
    assert attempts(valkey) == [b"2" if becomes == "failed" else b"4"]
    assert valkey.hget(hand.key, "failed_job_count") == b"1"


def test_an_idempotent_job_is_not_run_again_for_its_timeout(
    valkey: redis.Redis, hand: Hand, wake: Wake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery, "policy", lambda _: recovery.Outcome.AGAIN)
    put(valkey, "job")
    [job] = hand.run()
    Over(hand, wake, works_on(job, timeout=0.1)).watch()
    assert status(valkey, "job") == "failed"


def test_a_job_without_a_timeout_is_not_killed(valkey: redis.Redis, hand: Hand, wake: Wake) -> None:
    put(valkey, "job")
    [job] = hand.run()

    def life(board: SharedStatus, _: PrefetchedExecutions) -> None:
        board.show(job.queue, job.id, job.execution_id, -1)
        time.sleep(1.5)
        hand.finish(job, ran=1.5)
        board.clear()

    assert Over(hand, wake, life).watch() == OK
    assert status(valkey, "job") == "finished"


def test_a_job_is_stopped_on_request(valkey: redis.Redis, hand: Hand, wake: Wake) -> None:
    put(valkey, "job", retry_waits=[1])
    [job] = hand.run()
    over = Over(hand, wake, works_on(job))
    until(lambda: over.monitor.horse.status_board.running)
    assert over.monitor.stop("job")
    assert over.watch() == -9
    assert status(valkey, "job") == "stopped"
    assert error(valkey, "job") == "Job stopped by user, work-horse terminated."
    assert valkey.hget("rq:job:job", "retries_left") == b"1"


def test_a_stop_that_comes_too_late_stops_no_other_job(valkey: redis.Redis, hand: Hand, wake: Wake) -> None:
    put(valkey, "job")
    [job] = hand.run()

    def life(board: SharedStatus, _: PrefetchedExecutions) -> None:
        board.show(job.queue, job.id, job.execution_id, 60)
        time.sleep(0.5)
        hand.finish(job)
        board.clear()

    over = Over(hand, wake, life)
    until(lambda: over.monitor.horse.status_board.running)
    assert not over.monitor.stop("another")
    assert over.watch() == OK
    assert status(valkey, "job") == "finished"


def test_a_kill_is_meant_for_one_job_and_not_for_the_next(valkey: redis.Redis, hand: Hand, wake: Wake) -> None:
    def life(board: SharedStatus, _: PrefetchedExecutions) -> int:
        board.show("default", "first", "1" * 32, 60)
        until(lambda: board.stop_ordered)
        board.show("default", "second", "2" * 32, 60)
        board.leaving = Leaving.STOPPED
        time.sleep(0.3)
        return OK

    horse = Over(hand, wake, life).monitor.horse
    [first] = until(lambda: horse.status_board.running)
    horse.order_to_stop()
    until(lambda: horse.status_board.leaving is Leaving.STOPPED)
    assert not horse.kill_if_running(first)
    until(horse.ended)
    assert horse.status == 0
    assert horse.status_board.begun == 2


def test_a_horse_that_is_asked_to_stop_has_its_grace(valkey: redis.Redis, hand: Hand, wake: Wake) -> None:
    put(valkey, "job")
    [job] = hand.run()

    def life(board: SharedStatus, _: PrefetchedExecutions) -> int:
        board.show(job.queue, job.id, job.execution_id, 60)
        seen = sees(lambda: board.stop_ordered)
        time.sleep(0.3)
        hand.finish(job)
        board.clear()
        return seen

    ask_to_stop(hand)
    assert Over(hand, wake, life).watch() == OK
    assert status(valkey, "job") == "finished"
    assert valkey.hexists(hand.key, "shutdown_requested_date")


def test_when_the_grace_is_over_the_job_goes_back(valkey: redis.Redis, hand: Hand, wake: Wake) -> None:
    put(valkey, "job")
    put(valkey, "next")
    [job] = hand.run()
    ask_to_stop(hand)
    began = time.monotonic()
    assert Over(hand, wake, works_on(job)).watch() == -9
    assert 0.9 < time.monotonic() - began < 4
    assert valkey.lrange("rq:queue:default", 0, -1) == [b"job", b"next"]


def test_an_end_at_once_gives_the_job_back(valkey: redis.Redis, hand: Hand, wake: Wake) -> None:
    put(valkey, "job")
    [job] = hand.run()
    over = Over(hand, wake, works_on(job))
    until(lambda: over.monitor.horse.status_board.running)
    over.monitor.end()
    assert valkey.lrange("rq:queue:default", 0, -1) == [b"job"]
    over.monitor.end()  # there is nothing left to do


@pytest.mark.parametrize("retries", [None, [60]])
def test_what_a_dead_horse_held_is_settled(
    valkey: redis.Redis, hand: Hand, wake: Wake, retries: list[int] | None
) -> None:
    """The job at work by its policy, also if Redis has not heard yet that it began; the others go back in order."""
    put(valkey, "job", retry_waits=retries)
    for job_id in ("first", "second", "waits"):
        put(valkey, job_id)
    [job, *stowed] = hand.claim(3)
    valkey.hset(hand.key, "current_job", "job")

    def life(board: SharedStatus, box: PrefetchedExecutions) -> None:
        board.show(job.queue, job.id, job.execution_id, 60)
        box.put([one.execution_id for one in stowed])
        os.kill(os.getpid(), 9)

    over = Over(hand, wake, life)
    os.waitid(os.P_PID, over.monitor.horse.pid, os.WEXITED | os.WNOWAIT)  # before anyone can see that it is held up
    assert over.watch() == -9
    assert status(valkey, "job") == ("scheduled" if retries else "failed")
    if not retries:
        assert "signal 9 (SIGKILL): out of memory, or killed by hand" in error(valkey, "job")
    assert valkey.lrange("rq:queue:default", 0, -1) == [b"first", b"second", b"waits"]
    worker = fields(valkey, hand.key)
    assert worker["state"] == "idle"
    assert worker.get("current_job", "") == ""
    assert worker["failed_job_count"] == "1"


def test_a_claim_of_a_dead_horse_that_comes_late_takes_nothing(valkey: redis.Redis, hand: Hand, wake: Wake) -> None:
    put(valkey, "job")
    late = hand.session.claim_command(hand.queues, hand.session.new_executions(1))
    Over(hand, wake, lambda *_: None).watch()
    before = contents(valkey)
    hand.session._connection.send(late)
    assert hand.session._connection.read() == b"busy"
    assert changed(before, contents(valkey)) == {}


def test_what_a_held_up_horse_has_stowed_goes_back(
    valkey: redis.Redis, valkey_url: str, hand: Hand, wake: Wake
) -> None:
    for job_id in ("job", "first", "second"):
        put(valkey, job_id)
    job, *stowed = hand.claim(3)
    hand.begin(job)

    def life(board: SharedStatus, box: PrefetchedExecutions) -> int:
        board.show(job.queue, job.id, job.execution_id, 60)
        box.put([one.execution_id for one in stowed])
        seen = sees(lambda: hand.connection.lrange("rq:queue:default", 0, -1) == [b"first", b"second"])
        hand.finish(job)
        board.clear()
        return seen

    assert Over(hand, wake, life).watch() == OK


def test_a_claim_that_lands_after_its_job_was_given_back_is_given_back_too(
    valkey: redis.Redis, hand: Hand, wake: Wake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHECK_INTERVAL_SECONDS", 0.5)
    for job_id in ("job", "stowed"):
        put(valkey, job_id)
    job, stowed = hand.claim(2)
    hand.begin(job)
    [late] = hand.session.new_executions(1)

    def life(board: SharedStatus, box: PrefetchedExecutions) -> int:
        board.show(job.queue, job.id, job.execution_id, 60)
        box.put([stowed.execution_id, late])
        back = lambda: hand.connection.llen("rq:queue:default") == 1  # noqa: E731
        if sees(back):
            return FAILED
        hand.session._connection.connect()
        hand.session.claim(hand.queues, [late])
        seen = FAILED if back() else sees(back)
        hand.finish(job)
        board.clear()
        return seen

    assert Over(hand, wake, life).watch() == OK


def test_a_horse_that_takes_what_it_has_stowed_keeps_it(
    valkey: redis.Redis, hand: Hand, wake: Wake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HELD_UP_AFTER_SECONDS", 0.5)
    for number in range(8):
        put(valkey, str(number))
    claimed = hand.claim(8)

    def life(board: SharedStatus, box: PrefetchedExecutions) -> int:
        box.put([one.execution_id for one in claimed])
        hand.session._connection.connect()
        for one in claimed:
            if box.take() != one.execution_id:
                return FAILED
            board.show(one.queue, one.id, one.execution_id, 60)
            hand.begin(one)
            time.sleep(0.1)
            hand.finish(one)
            board.clear()
        return OK

    assert Over(hand, wake, life).watch() == OK
    assert valkey.zcard("rq:finished:default") == 8


def test_its_beats_keep_a_job_that_outlives_its_lease(valkey: redis.Redis, hand: Hand, wake: Wake) -> None:
    put(valkey, "job")
    [job] = hand.run()
    member = f"job:{job.execution_id}"
    valkey.zadd("rq:wip:default", {member: time.time() + 1})  # as if it had run for 89 of its 90 seconds
    beats = float(valkey.zscore("jobline:leases", "w") or 0)

    def life(board: SharedStatus, _: PrefetchedExecutions) -> int:
        board.show(job.queue, job.id, job.execution_id, 600)
        seen = sees(lambda: float(hand.connection.zscore("rq:wip:default", member)) > time.time() + 80)
        time.sleep(1.5)
        hand.finish(job, ran=1.5)
        board.clear()
        return seen

    assert Over(hand, wake, life).watch() == OK
    assert status(valkey, "job") == "finished"
    assert float(valkey.zscore("jobline:leases", "w") or 0) >= beats + 5
    worker = fields(valkey, hand.key)
    assert float(worker["current_job_working_time"]) > 0.5
    assert 400 < valkey.ttl(hand.key) <= hand.worker.worker_ttl + 60


def test_a_horse_whose_job_was_taken_is_killed(valkey: redis.Redis, hand: Hand, wake: Wake) -> None:
    put(valkey, "job")
    [job] = hand.run()
    recovery.give_back(valkey, [job.execution_id])
    before = time.monotonic()
    assert Over(hand, wake, works_on(job)).watch() == -9
    assert time.monotonic() - before < 4
    assert valkey.lrange("rq:queue:default", 0, -1) == [b"job"]
    assert attempts(valkey) == [b"4"]


def test_a_job_that_has_just_ended_does_not_look_taken(valkey: redis.Redis, hand: Hand, wake: Wake) -> None:
    """Its board still shows it, and the next one before the next beat."""
    put(valkey, "job")
    [job] = hand.run()
    hand.finish(job)
    over = Over(hand, wake, works_on(job))
    until(lambda: over.monitor.horse.status_board.running)
    over.monitor._beat()
    time.sleep(0.1)
    assert not over.monitor.horse.ended()
    over.monitor._beat()
    until(over.monitor.horse.ended)
    over.monitor.end()


def test_a_worker_that_was_forgotten_is_there_again(valkey: redis.Redis, hand: Hand, wake: Wake) -> None:
    lost_workers.forget(valkey, "w")

    def life(board: SharedStatus, _: PrefetchedExecutions) -> int:
        return sees(lambda: hand.connection.hexists(hand.key, "birth") and hand.connection.scard("rq:workers:default"))

    assert Over(hand, wake, life).watch() == OK
    assert valkey.smembers("rq:workers") == valkey.smembers("rq:workers:default") == {b"rq:worker:w"}
    assert valkey.hget(hand.key, "queues") == b"default"
    assert valkey.zscore("jobline:leases", "w")
    assert valkey.ttl(hand.key) > 0


def test_a_horse_that_stands_still_is_replaced(
    valkey: redis.Redis, hand: Hand, wake: Wake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STALLED_AFTER_SECONDS", 0.3)
    assert Over(hand, wake, lambda *_: time.sleep(30)).watch() == -9


@pytest.mark.parametrize("busy", [True, False])
def test_a_horse_that_moves_or_works_is_not(
    valkey: redis.Redis, hand: Hand, wake: Wake, monkeypatch: pytest.MonkeyPatch, busy: bool
) -> None:
    monkeypatch.setattr(module, "STALLED_AFTER_SECONDS", 0.6)
    put(valkey, "job")
    [job] = hand.run()

    def life(board: SharedStatus, _: PrefetchedExecutions) -> None:
        if busy:
            board.show(job.queue, job.id, job.execution_id, 60)
            time.sleep(1.2)
            hand.finish(job, ran=1.2)
            board.clear()
        for _ in range(12):
            board.clear()
            time.sleep(0.1)

    assert Over(hand, wake, life).watch() == OK
    assert valkey.hexists(hand.key, "horse_moved_at")


def test_what_it_does_is_done_when_redis_is_back(
    valkey: redis.Redis, hand: Hand, wake: Wake, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(valkey, "job")
    [job] = hand.run()
    away = [True]

    def fence(connection: redis.Redis, name: str) -> int:
        if away:
            away.pop()
            raise redis.ConnectionError
        return int(connection.hincrby(f"rq:worker:{name}", "fence", 1))

    monkeypatch.setattr(recovery, "fence", fence)
    over = Over(hand, wake, works_on(job))
    threading.Timer(0.3, over.monitor.horse.kill).start()
    assert over.watch() == -9
    assert status(valkey, "job") == "failed"


def test_a_sweep_goes_on_while_the_horse_works(
    valkey: redis.Redis, hand: Hand, wake: Wake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lost_workers, "SWEEP_INTERVAL_SECONDS", 0.05)
    put(valkey, "lost")
    Hand(valkey, "dead").run()

    def life(board: SharedStatus, _: PrefetchedExecutions) -> int:
        for _ in range(100):
            board.clear()
            if status(hand.connection, "lost") == "failed":
                return OK
            time.sleep(0.05)
        return FAILED

    assert Over(hand, wake, life).watch() == OK
    callback_processes.wait()


def test_a_worker_that_leaves_has_no_lease(valkey: redis.Redis, hand: Hand) -> None:
    """Else it would be given up, and taken for lost, some seconds after."""
    other = Hand(valkey, "other")
    hand.worker.register_death()
    assert valkey.zrange("jobline:leases", 0, -1) == [b"other"]
    other.worker.register_death()
    assert not valkey.exists("jobline:leases")
