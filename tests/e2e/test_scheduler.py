"""Time: schedulers on a real Valkey. A clock that the test sets, and the real process."""

import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import Mock

import pytest
import redis
import rq
import structlog
from rq_scheduler import Scheduler as Stock

from app.catalog.catalog import Catalog
from app.catalog.fields import SCHEDULE_ID_PREFIX
from app.enqueue.new_job import prepare
from app.enqueue.write import enqueue
from app.errors import Conflict, Invalid
from app.lifecycle.orphans import PUT_BACK
from app.redis.keys import breaker_key
from app.schedules import clock, cron, every, manage, once, store
from app.schedules.lease import LEASE_SECONDS
from app.schedules.process import Scheduler
from app.schedules.rule import Schedule
from app.schedules.state import State
from app.settings import Settings
from app.views import health, job_view
from tests.conftest import Project, until

KEY = "rq:scheduler:scheduled_jobs"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


class Clock:
    def __init__(self, now: datetime = NOON) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now.timestamp()


class Time:
    """Schedulers on one clock."""

    def __init__(self, valkey: redis.Redis) -> None:
        self.valkey, self.clock, self.catalog = valkey, Clock(), Catalog()

    def scheduler(self, *declared: dict[str, Any]) -> Scheduler:
        return Scheduler(self.valkey, Settings(), self.catalog, declared, self.clock)

    def put(self, **said: Any) -> Schedule:
        schedule = Schedule.model_validate({"name": "s", "function": "demo.add", "args": [1, 2], **said})
        manage.put(self.valkey, self.catalog, Settings(), schedule, self.clock.now, declared=False)
        return schedule

    def pass_by(self, scheduler: Scheduler, seconds: float, step: float = 1) -> None:
        """The clock goes on, and the scheduler acts after each step."""
        end = self.clock.now + timedelta(seconds=seconds)
        while self.clock.now < end:
            self.clock.now += timedelta(seconds=step)
            act(scheduler)

    def runs(self) -> list[dict[str, Any]]:
        """The jobs that are queued."""
        jobs = job_view.fetch(
            self.valkey, [job_id.decode() for job_id in self.valkey.lrange("rq:queue:default", 0, -1)]
        )
        assert all(jobs)
        return [job for job in jobs if job]

    def due(self) -> list[float]:
        """Seconds after noon of each run."""
        return [(datetime.fromisoformat(run["scheduled_for"]) - NOON).total_seconds() for run in self.runs()]

    def state(self, name: str = "s") -> State:
        return store.get(self.valkey, name)


def act(scheduler: Scheduler) -> None:
    """Until nothing is due."""
    scheduler._next_maintenance_at = 0.0
    while scheduler.step() == 0.0:
        pass


@pytest.fixture
def world(valkey: redis.Redis) -> Time:
    return Time(valkey)


def finish(valkey: redis.Redis, job: dict[str, Any], outcome: str = "finished") -> None:
    """As a worker would."""
    valkey.lrem("rq:queue:default", 0, job["id"])
    valkey.hset(f"rq:job:{job['id']}", "status", outcome)


def test_declared_schedules_are_reconciled(world: Time) -> None:
    first = world.scheduler(
        every("demo.add", name="same", minutes=1, args=[1, 2]),
        every("demo.add", name="changed", minutes=1, args=[1, 2]),
        every("demo.add", name="gone", minutes=1, args=[1, 2]),
    )
    act(first)
    first.lease.release()
    before = dict(world.valkey.zrange(KEY, 0, -1, withscores=True))
    world.clock.now += 10 * SECOND
    act(
        world.scheduler(
            every("demo.add", name="same", minutes=1, args=[3, 4]),
            cron("0 2 * * *", "demo.add", name="changed", args=[1, 2]),
        )
    )
    after = dict(world.valkey.zrange(KEY, 0, -1, withscores=True))
    assert set(after) == {b"schedule-same", b"schedule-changed"}
    assert after[b"schedule-same"] == before[b"schedule-same"]
    assert world.state("same").schedule.args == [3, 4]
    assert after[b"schedule-changed"] == datetime(2026, 3, 2, 2, tzinfo=UTC).timestamp()


def test_what_is_paused_stays_so_when_it_is_declared_again(world: Time) -> None:
    first = world.scheduler(every("demo.add", name="s", minutes=1, args=[1, 2]))
    act(first)
    manage.pause(world.valkey, "s")
    first.lease.release()
    act(world.scheduler(every("demo.add", name="s", minutes=2, args=[1, 2])))
    assert (world.state().paused, world.state().due) == ("on request", None)
    assert world.valkey.zcard(KEY) == 0


def test_a_declared_schedule_wins(world: Time) -> None:
    act(world.scheduler(every("demo.add", name="s", minutes=1, args=[1, 2])))
    with pytest.raises(Conflict):
        world.put(interval=5)
    with pytest.raises(Conflict):
        manage.delete(world.valkey, "s")


def test_a_bad_entry_stops_no_other(world: Time) -> None:
    scheduler = world.scheduler(
        cron("x", "demo.add", name="expression"),
        cron("@daily", "demo.nothing"),
        every("demo.add", name="arguments", hours=1),
        cron("@daily", "demo.add", name="zone", timezone="Mars/Base", args=[1, 2]),
        {"name": "nothing said"},
        every("demo.add", name="good", seconds=1, args=[1, 2]),
    )
    world.put(name="unreadable", interval=1)
    world.valkey.hset("jobline:schedule:unreadable", "rule", "{")
    world.valkey.zadd(KEY, {"schedule-gone": 1, b"\xff\xfe": 1})
    act(scheduler)
    world.pass_by(scheduler, 2)
    assert [run["schedule"] for run in world.runs()] == ["good", "good"]
    assert world.state("arguments").broken
    assert world.state("demo.nothing").broken == "No function 'demo.nothing'"
    assert [entry["id"] for entry in store.quarantined(world.valkey)] == ["\ufffd\ufffd"]


def test_what_plain_rq_scheduler_wrote_is_not_run_and_is_named(world: Time) -> None:
    stock = Stock(connection=world.valkey)
    job = stock.schedule(NOON.replace(tzinfo=None), "os.getcwd", interval=10)
    scheduler = world.scheduler()
    act(scheduler)
    assert world.runs() == []
    assert world.valkey.zcard(KEY) == 0
    assert store.quarantined(world.valkey)[0]["id"] == job.id
    assert world.valkey.exists(f"rq:job:{job.id}") == 1


def test_rq_schedulers_tools_see_our_schedules(world: Time) -> None:
    world.put(interval=60)
    assert "schedule-s" in Stock(connection=world.valkey)
    [(job, due)] = Stock(connection=world.valkey).get_jobs(with_times=True)
    assert (job.id, job.description) == ("schedule-s", "jobs.demo.add(1, 2)")
    assert due.replace(tzinfo=UTC) == NOON + 60 * SECOND


def test_rq_schedulers_tools_see_declared_schedules_and_do_not_drop_them(world: Time) -> None:
    act(world.scheduler(every("demo.add", name="declared", seconds=60, args=[1, 2])))
    [job] = Stock(connection=world.valkey).get_jobs()
    assert (job.id, job.description) == ("schedule-declared", "jobs.demo.add(1, 2)")
    assert world.valkey.zrange(KEY, 0, -1) == [b"schedule-declared"]


def test_a_run_is_a_fresh_job_and_nothing_that_happens_to_it_touches_the_schedule(world: Time) -> None:
    world.put(interval=10, queue="default", timeout=7, retry={"max": 2})
    scheduler = world.scheduler()
    world.pass_by(scheduler, 10)
    [run] = world.runs()
    assert (run["schedule"], run["scheduled_for"], run["timeout"], run["retries_left"]) == (
        "s",
        "2026-03-01T12:00:10Z",
        7,
        2,
    )
    rq.job.Job.fetch(run["id"], connection=world.valkey, serializer=rq.serializers.JSONSerializer).delete()
    world.pass_by(scheduler, 10)
    [other] = world.runs()
    assert other["id"] != run["id"]


def test_many_schedulers_run_a_due_moment_once(world: Time) -> None:
    world.put(interval=1, catch_up="all")
    many = [world.scheduler() for _ in range(3)]
    for number in range(30):
        world.clock.now += SECOND
        for one in many:
            act(one)
        if number % 7 == 6:
            many[number % 3].lease.release()
            for one in many:
                one.lease._next_at = 0.0
    assert world.due() == list(range(1, 31))


def test_a_scheduler_that_wakes_up_with_a_stale_lease_runs_nothing(world: Time) -> None:
    world.put(interval=1)
    slept, other = world.scheduler(), world.scheduler()
    world.pass_by(slept, 3)
    world.valkey.delete("rq:scheduler_lock")  # it ran out
    world.pass_by(other, 3)
    assert slept.lease.held
    slept.runner.lease._next_at = time.monotonic() + 60  # it believes that it leads
    before = world.due()
    world.clock.now += SECOND
    assert slept.step() > 0
    assert world.due() == before == [1, 2, 3, 4, 5, 6]
    assert not slept.lease.held


def test_a_standby_takes_over(world: Time) -> None:
    dead, standby = world.scheduler(), world.scheduler()
    act(dead)
    began = time.monotonic()
    until(lambda: standby.lease.hold())
    assert time.monotonic() - began < 10
    assert LEASE_SECONDS < 9


def test_an_interval_does_not_drift(world: Time) -> None:
    world.put(interval=1)
    world.pass_by(world.scheduler(), 10.5, step=0.7)
    assert world.due() == list(range(1, 11))


def test_an_interval_goes_on_by_elapsed_time_when_the_clock_is_put_back(world: Time) -> None:
    world.put(interval=60)
    scheduler = world.scheduler()
    world.pass_by(scheduler, 200, step=10)
    world.clock.now -= timedelta(hours=1)  # from 12:03:20, 40 seconds before the next run
    act(scheduler)
    world.pass_by(scheduler, 30, step=10)
    assert world.due() == [60, 120, 180]
    world.pass_by(scheduler, 80, step=10)
    assert world.due() == [60, 120, 180, 240 - 3600, 300 - 3600]


def test_a_successor_notices_that_the_clock_was_put_back(world: Time) -> None:
    world.put(interval=60)
    first = world.scheduler()
    world.pass_by(first, 200, step=10)
    first.lease.release()
    world.clock.now -= timedelta(hours=1)
    second = world.scheduler()
    act(second)
    assert world.state().due == NOON + timedelta(seconds=240) - timedelta(hours=1)


def test_what_was_moved_is_not_moved_again_if_the_scheduler_died_meanwhile(
    world: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.put(interval=60)
    scheduler = world.scheduler()
    world.pass_by(scheduler, 200, step=10)
    world.clock.now -= timedelta(hours=1)
    with monkeypatch.context() as patch:
        patch.setattr(clock, "SHIFT_DUE_TIMES", Mock(side_effect=redis.ConnectionError))
        with pytest.raises(redis.ConnectionError):
            act(scheduler)
    scheduler.lease.release()
    act(world.scheduler())
    assert world.state().due == NOON + timedelta(seconds=240) - timedelta(hours=1)


@pytest.mark.parametrize(
    ("rule", "before", "after"),
    [
        ({"cron": "*/5 * * * *"}, 12 * 60 + 5, 11 * 60 + 5),  # for every hour: it goes on
        ({"cron": "30 12 * * *"}, 12 * 60 + 30, 12 * 60 + 30),  # has a time of its own
        ({"at": NOON + timedelta(minutes=30)}, 12 * 60 + 30, 12 * 60 + 30),
        ({"interval": 600, "start": NOON + timedelta(minutes=30)}, 12 * 60 + 30, 12 * 60 + 30),
    ],
)
def test_what_has_a_time_of_its_own_goes_by_the_clock(
    world: Time, rule: dict[str, Any], before: int, after: int
) -> None:
    world.put(**rule)
    scheduler = world.scheduler()
    world.pass_by(scheduler, 60, step=10)

    def due() -> int:
        found = world.state().due
        assert found
        return found.hour * 60 + found.minute

    assert due() == before
    world.clock.now -= timedelta(hours=1)
    world.pass_by(scheduler, 10, step=10)
    assert due() == after


def test_a_scheduler_that_fails_at_every_step_does_not_seem_to_move(
    world: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = world.scheduler()
    act(scheduler)
    before = world.valkey.hget(scheduler.key, "last_heartbeat")
    with monkeypatch.context() as patch:
        patch.setattr(scheduler.runner, "close_ended_runs", Mock(side_effect=redis.ResponseError))
        scheduler._next_heartbeat_at = 0.0
        with pytest.raises(redis.ResponseError):
            act(scheduler)
    assert world.valkey.hget(scheduler.key, "last_heartbeat") == before
    scheduler._next_heartbeat_at = 0.0
    act(scheduler)
    assert world.valkey.hget(scheduler.key, "last_heartbeat") != before


def test_no_moment_of_the_wall_clock_runs_twice(world: Time) -> None:
    world.put(cron="2 12 * * *")
    scheduler = world.scheduler()
    world.pass_by(scheduler, 180, step=30)
    world.clock.now -= timedelta(seconds=150)
    world.pass_by(scheduler, 210, step=30)
    assert world.due() == [120]


def test_delayed_jobs_go_on_by_elapsed_time_when_the_clock_is_put_back(world: Time) -> None:
    scheduler = world.scheduler()
    world.pass_by(scheduler, 10, step=10)
    due = {"delayed": 100, "fixed": 100, "attempts": 160, "waits_for": 100, "wait": 100}
    for name, seconds in due.items():
        world.valkey.zadd("rq:scheduled:low", {name: NOON.timestamp() + seconds})
        world.valkey.hset(f"rq:job:{name}", mapping={"status": "scheduled", name: 1})
    world.valkey.sadd("rq:queues", "rq:queue:low")
    world.clock.now -= timedelta(hours=1)
    act(scheduler)
    seen = {
        name.decode(): score - NOON.timestamp()
        for name, score in world.valkey.zrange("rq:scheduled:low", 0, -1, withscores=True)
    }
    moved = {name: -3600 + seconds for name, seconds in due.items() if name != "fixed"}
    assert seen == pytest.approx({**moved, "fixed": 100}, abs=1)
    assert all(seen[name] >= when for name, when in moved.items())  # none is early


@pytest.mark.parametrize("hours", [1, -1])
def test_a_clock_that_jumps_is_logged_once(world: Time, hours: int) -> None:
    scheduler = world.scheduler()
    act(scheduler)
    world.clock.now += timedelta(hours=hours)
    with structlog.testing.capture_logs() as lines:
        act(scheduler)
        act(scheduler)
    assert [(line["event"], line["log_level"], round(line["seconds"])) for line in lines] == [
        ("the clock has jumped", "warning", 3600 * hours),
        ("the clock was put back: delayed jobs, retries and intervals go on by elapsed time", "warning", 3600),
    ][: 1 if hours > 0 else 2]


def test_overlapping_runs_are_skipped(world: Time) -> None:
    world.put(interval=10, overlap="skip")
    scheduler = world.scheduler()
    world.pass_by(scheduler, 30)
    assert world.due() == [10]
    finish(world.valkey, world.runs()[0])
    world.pass_by(scheduler, 10)
    assert world.due() == [40]
    assert world.state().skips == 2


def test_one_overlapping_run_waits_for_the_last(world: Time) -> None:
    world.put(interval=10, overlap="buffer_one")
    scheduler = world.scheduler()
    world.pass_by(scheduler, 35)
    [first] = world.runs()
    finish(world.valkey, first)
    world.pass_by(scheduler, 1)
    assert world.due() == [20]
    assert world.state().skips == 1


def test_the_run_that_waited_for_the_last_runs_once(world: Time) -> None:
    world.put(interval=100, overlap="buffer_one")
    scheduler = world.scheduler()
    world.pass_by(scheduler, 205)
    for expected in ([200], []):
        finish(world.valkey, world.runs()[0])
        world.pass_by(scheduler, 5)
        assert world.due() == expected
    assert world.state().buffered is None


def test_the_run_that_waited_for_the_last_does_not_run_while_the_schedule_is_paused(world: Time) -> None:
    world.put(interval=100, overlap="buffer_one")
    scheduler = world.scheduler()
    world.pass_by(scheduler, 205)
    manage.pause(world.valkey, "s")
    finish(world.valkey, world.runs()[0])
    world.pass_by(scheduler, 5)
    assert world.due() == []


def test_the_run_that_waited_does_not_run_beside_one_that_was_triggered(world: Time) -> None:
    world.put(interval=100, overlap="buffer_one")
    scheduler = world.scheduler()
    world.pass_by(scheduler, 205)
    triggered = manage.trigger(world.valkey, "s", world.catalog, Settings(), world.clock.now)
    [first, second] = world.runs()
    assert second["id"] == triggered
    finish(world.valkey, first)
    world.pass_by(scheduler, 5)
    assert [run["id"] for run in world.runs()] == [triggered]
    finish(world.valkey, second)
    world.pass_by(scheduler, 5)
    assert world.due() == [200]


def test_runs_that_are_missed_add_up(world: Time) -> None:
    world.put(interval=10)
    scheduler = world.scheduler()
    for missed in (3, 5):
        world.clock.now += timedelta(seconds=10 * missed + 9.9)
        world.clock.now -= timedelta(seconds=world.clock.now.timestamp() % 10)
        act(scheduler)
    state = world.state()
    assert state.misses + state.runs == (world.clock.now - NOON).total_seconds() / 10
    assert state.misses > 5


def test_jitter_puts_a_run_off_by_its_share(world: Time) -> None:
    """The scheduler sleeps until then, and does not look at it in vain."""
    schedule = world.put(interval=100, jitter=60)
    due = NOON + timedelta(seconds=100)
    assert world.valkey.zscore(store.DUE_SCHEDULES, f"{SCHEDULE_ID_PREFIX}s") == pytest.approx(schedule.jittered(due))
    late = schedule.jittered(due) - due.timestamp()
    scheduler = world.scheduler()
    world.pass_by(scheduler, 100 + int(late))
    assert world.due() == []
    world.pass_by(scheduler, 1)
    assert world.due() == [100]


def test_nothing_is_left_of_a_schedule_that_is_deleted_but_its_runs(world: Time) -> None:
    world.put(interval=10)
    world.pass_by(world.scheduler(), 11)
    [run] = world.runs()
    manage.delete(world.valkey, "s")
    assert world.valkey.keys("*schedule*:s") + world.valkey.keys("*schedule-s*") == []
    assert world.valkey.zcard(store.DUE_SCHEDULES) == 0
    assert world.runs() == [run]


def test_a_schedule_is_paused_after_its_failures(world: Time) -> None:
    world.put(interval=10, pause_on_failure=2)
    scheduler = world.scheduler()
    for outcome in ("failed", "finished", "failed", "failed"):
        world.pass_by(scheduler, 10)
        finish(world.valkey, world.runs()[-1], outcome)
    world.pass_by(scheduler, 30)
    assert world.due() == []
    state = world.state()
    assert (state.paused, state.failures) == ("paused after 2 failures in a row", 3)
    assert [run.outcome for run in state.last_runs] == ["failed", "failed", "finished", "failed"]
    manage.resume(world.valkey, "s", world.clock.now)
    world.pass_by(scheduler, 10)
    assert len(world.due()) == 1


def test_once_and_a_number_of_runs(world: Time) -> None:
    scheduler = world.scheduler(
        once("2026-03-01T12:00:05Z", "demo.add", name="once", args=[1, 2]),
        every("demo.add", name="thrice", seconds=2, args=[1, 2], max_runs=3),
    )
    act(scheduler)
    world.pass_by(scheduler, 20)
    assert sorted(world.due()) == [2, 4, 5, 6]
    scheduler.lease.release()
    again = world.scheduler(*scheduler.declared)
    world.pass_by(again, 20)
    assert len(world.due()) == 4


def test_trigger_does_not_move_the_clock(world: Time) -> None:
    world.put(interval=60)
    scheduler = world.scheduler()
    world.pass_by(scheduler, 20)
    manage.trigger(world.valkey, "s", world.catalog, Settings(), world.clock.now)
    world.pass_by(scheduler, 40)
    assert world.due() == [20, 60]


def test_what_could_never_run_is_refused_when_it_is_put(world: Time) -> None:
    with pytest.raises(Invalid, match="No function"):
        world.put(interval=1, function="demo.nothing")
    with pytest.raises(Invalid):
        world.put(interval=1, args=["x", 2])
    assert world.valkey.keys() == []


def test_a_queued_job_of_an_empty_queue_is_put_back(world: Time) -> None:
    past = datetime.now(UTC) - timedelta(minutes=5)
    job = prepare(world.catalog.get("demo.add"), Settings(), [1, 2], {}, id="lost", created_at=past)
    enqueue(world.valkey, [job])
    world.valkey.delete("rq:queue:default")
    orphans, now = world.scheduler().orphans, datetime.now(UTC)
    assert orphans.sweep(now) == []
    orphans._seen = dict.fromkeys(orphans._seen, 0.0)
    assert orphans.sweep(now) == ["lost"]
    assert world.valkey.lrange("rq:queue:default", 0, -1) == [b"lost"]


def test_a_queued_job_in_no_list_is_put_back(world: Time) -> None:
    function = world.catalog.get("demo.add")
    past = datetime.now(UTC) - timedelta(minutes=1)
    lost, kept = (prepare(function, Settings(), [1, 2], {}, id=name, created_at=past) for name in ("lost", "kept"))
    enqueue(world.valkey, [lost, kept])
    world.valkey.lrem("rq:queue:default", 0, "lost")
    world.valkey.hset("rq:job:kept", "enqueued_at", datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"))
    scheduler = world.scheduler()
    orphans, now = scheduler.orphans, datetime.now(UTC)
    assert orphans.sweep(now) == []
    orphans._seen = dict.fromkeys(orphans._seen, 0.0)
    assert orphans.sweep(now) == ["lost"]
    assert world.valkey.lrange("rq:queue:default", 0, -1) == [b"kept", b"lost"]


@pytest.mark.parametrize(
    ("place", "requeued"),
    [
        ("none", True),
        ("rq:queue:default", False),
        ("rq:queue:default:intermediate", False),
        ("rq:wip:default", False),
        ("another in rq:wip:default", True),
        ("started", False),
    ],
)
def test_a_job_is_put_back_only_if_it_is_queued_and_nowhere(world: Time, place: str, requeued: bool) -> None:
    valkey = world.valkey
    valkey.hset("rq:job:a", mapping={"status": "started" if place == "started" else "queued", "origin": "default"})
    if place.startswith("rq:queue"):
        valkey.rpush(place, "a")
    elif place.endswith("wip:default"):
        valkey.zadd("rq:wip:default", {"a-b:1" if place.startswith("another") else "a:1": 1})
    before = valkey.lrange("rq:queue:default", 0, -1)
    assert PUT_BACK(valkey, id="a") == requeued
    assert valkey.lrange("rq:queue:default", 0, -1) == ([b"a"] if requeued else before)
    assert valkey.sismember("rq:queues", "rq:queue:default") == requeued


def test_a_schedule_that_has_had_all_its_runs_is_over_also_when_it_is_resumed(world: Time) -> None:
    world.put(interval=10, max_runs=2)
    world.pass_by(world.scheduler(), 35)
    assert world.due() == [10, 20]
    manage.pause(world.valkey, "s")
    manage.resume(world.valkey, "s", world.clock.now)
    assert (world.state().paused, world.state().due) == ("", None)
    assert world.valkey.zcard(KEY) == 0


def test_an_interval_goes_on_in_step_after_a_pause(world: Time) -> None:
    world.put(interval=100)
    world.pass_by(world.scheduler(), 130, step=10)
    manage.pause(world.valkey, "s")
    world.clock.now += 125 * SECOND
    manage.resume(world.valkey, "s", world.clock.now)
    assert world.state().due == NOON + 300 * SECOND


def test_a_schedule_that_was_set_aside_and_can_run_goes_on(world: Time) -> None:
    world.put(interval=100)
    store.change(world.valkey, "s", lambda state: state.set_aside("its function is gone"))
    assert store.unrunnable(world.valkey) == {"s": "its function is gone"}
    assert world.valkey.zcard(KEY) == 0
    act(world.scheduler())
    assert (world.state().broken, world.state().due) == ("", NOON + 100 * SECOND)
    assert world.valkey.zcard(KEY) == 1
    assert store.unrunnable(world.valkey) == {}


BREAKERS = """
from app import Breaker, job


@job(breaker=Breaker(3, window=60, cool_down=30))
def breaks() -> None: ...
"""


@pytest.mark.parametrize(("left", "then"), [(3630, 30), (12, 12)])
def test_a_breaker_stays_open_no_longer_when_the_clock_is_put_back(
    world: Time, write_module: Callable[[str, str], None], left: int, then: int
) -> None:
    write_module("breakers", BREAKERS)
    scheduler, key = world.scheduler(), breaker_key("breakers.breaks", "open")
    act(scheduler)
    world.valkey.set(key, 1, ex=left)
    world.clock.now -= timedelta(hours=1)
    act(scheduler)
    assert then - 5 < world.valkey.ttl(key) <= then


def test_a_scheduler_that_leaves_makes_room_for_another(world: Time) -> None:
    first, second = world.scheduler(), world.scheduler()
    act(first)
    assert 50 < world.valkey.ttl(first.key) <= 60
    assert not second.lease.hold()
    first._shut_down()
    second.lease._next_at = 0.0
    assert second.lease.hold()
    assert world.valkey.hexists(first.key, "death")
    first._shut_down()
    second.lease._next_at = 0.0
    assert second.lease.hold()
    assert world.valkey.get(second.lease.key) == second.lease.token


def test_the_process_is_on_time_and_stops_at_once(project: Project, valkey: redis.Redis) -> None:
    enqueue(
        valkey,
        [prepare(Catalog().get("demo.add"), Settings(), [1, 2], {}, id="later", at=datetime.now(UTC) + SECOND)],
    )
    schedule = Schedule(name="s", function="demo.add", args=[1, 2], interval=0.25)
    manage.put(valkey, Catalog(), Settings(), schedule, datetime.now(UTC), declared=False)
    process = project.start("scheduler.py")
    until(lambda: valkey.llen("rq:queue:default") > 12)
    health.check_scheduler(valkey)
    assert (health.scheduler_age(valkey) or 9) < 3
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(5) == 0
    assert time.monotonic() - began < 2
    assert valkey.get("rq:scheduler_lock") is None
    with pytest.raises(health.Unhealthy):
        health.check_scheduler(valkey)
    ids = [job_id.decode() for job_id in valkey.lrange("rq:queue:default", 0, -1)]
    jobs = {job["id"]: job for job in job_view.fetch(valkey, ids) if job}
    later = jobs.pop("later")
    assert 1 <= lateness(later) < 3  # it was meant a second later, and RQ keeps whole seconds
    late = sorted(lateness(job) for job in jobs.values())[: len(jobs) * 9 // 10]  # the first had to wait for the start
    assert late[-1] < 0.1


def test_a_schedule_that_is_put_at_run_time_is_on_time_at_once(project: Project, valkey: redis.Redis) -> None:
    process = project.start("scheduler.py", LOG_LEVEL="ERROR")
    try:
        until(lambda: valkey.pubsub_numsub("jobline:scheduler:wake")[0][1])
        for number in range(20):
            at = datetime.now(UTC) + timedelta(seconds=0.05)
            schedule = Schedule(name=f"s{number}", function="demo.add", args=[1, 2], at=at)
            manage.put(valkey, Catalog(), Settings(), schedule, datetime.now(UTC), declared=False)
            until(lambda: valkey.llen("rq:queue:default") == number + 1)  # noqa: B023 - called at once
    finally:
        process.terminate()
        process.communicate(timeout=5)
    ids = [job_id.decode() for job_id in valkey.lrange("rq:queue:default", 0, -1)]
    late = sorted(lateness(job) for job in job_view.fetch(valkey, ids) if job)
    assert late[-3] < 0.25


def lateness(job: dict[str, Any]) -> float:
    """Seconds between the moment for which it was meant and the one when it was queued."""
    meant = datetime.fromisoformat(job["scheduled_for"] or job["created_at"])
    return (datetime.fromisoformat(job["enqueued_at"]) - meant).total_seconds()
