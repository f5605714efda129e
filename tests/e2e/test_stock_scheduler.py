"""What rq-scheduler 0.14 does wrong, shown on it, and that ours does not do it."""

import inspect
import itertools
import json
import os
import signal
import time
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import redis
import rq
import time_machine
from pydantic import SecretStr, ValidationError
from redis.connection import AbstractConnection
from rq.exceptions import DeserializationError
from rq.serializers import JSONSerializer
from rq_scheduler import Scheduler as Stock
from rq_scheduler.utils import get_next_scheduled_time

from app.lifecycle.leftovers import LeftoverRemover
from app.redis.client import connect
from app.schedules.rule import Schedule
from app.settings import Settings
from tests.conftest import Project, free_port, until
from tests.e2e.test_scheduler import KEY, NOON, SECOND, Clock, Time, act
from tests.e2e.test_scheduler_process import knocked

QUEUE, LOCK = "rq:queue:default", "rq:scheduler_lock"
PAST = datetime(2026, 1, 1)  # naive, as it asks for
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:rq_scheduler")
NEW_YORK = ZoneInfo("America/New_York")


@pytest.fixture
def stock(valkey: redis.Redis) -> Stock:
    return Stock(connection=valkey, interval=1)


@pytest.fixture
def ours(valkey: redis.Redis, valkey_url: str) -> Iterator[Time]:
    """On a database of its own: each takes the other's entries for foreign ones."""
    connection = connect(Settings(redis_url=SecretStr(valkey_url.removesuffix("/0") + "/1")))
    yield Time(connection)
    connection.close()


@pytest.fixture
def _signals_kept() -> Iterator[None]:
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


def queued(connection: redis.Redis) -> list[str]:
    return [job_id.decode() for job_id in connection.lrange(QUEUE, 0, -1)]


def come_due(stock: Stock, job: rq.job.Job) -> None:
    """The time of its next run is here."""
    stock.connection.zadd(KEY, {job.id: 0}, xx=True)
    stock.enqueue_jobs()


class Died(BaseException):
    """As if by SIGKILL."""


@pytest.mark.usefixtures("_signals_kept")
@pytest.mark.parametrize(("before", "runs", "schedules"), [("zrem", 2, 1), ("zadd", 1, 0)])
def test_stock_doubles_a_run_or_loses_a_schedule_when_it_is_stopped(
    stock: Stock, valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch, before: str, runs: int, schedules: int
) -> None:
    stock.schedule(PAST, "os.getcwd", interval=3600)
    with monkeypatch.context() as patch:
        patch.setattr(valkey, before, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(SystemExit):
            stock.run()
    Stock(connection=valkey).run(burst=True)
    assert (valkey.llen(QUEUE), valkey.zcard(KEY)) == (runs, schedules)


def test_ours_doubles_and_loses_nothing_before_whichever_command_it_dies(
    ours: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LeftoverRemover, "sweep", lambda _: None)  # it sends many commands, none of a schedule
    ours.put(interval=10, catch_up="all")
    send, left = AbstractConnection.send_packed_command, 0

    def send_or_die(connection: AbstractConnection, *args: Any, **options: Any) -> None:
        nonlocal left
        left -= 1
        if left == -1:
            raise Died
        send(connection, *args, **options)

    for deaths in itertools.count():
        ours.clock.now += 10 * SECOND
        left = deaths
        with monkeypatch.context() as patch:
            patch.setattr(AbstractConnection, "send_packed_command", send_or_die)
            try:
                act(ours.scheduler())
                break
            except Died:
                ours.valkey.connection_pool.disconnect()
        ours.valkey.delete(LOCK)  # it ran out
    assert deaths > 5
    assert ours.due() == [10 * number for number in range(1, deaths + 2)]


def test_one_job_that_cannot_be_read_stops_every_schedule_of_stock_and_none_of_ours(
    stock: Stock, valkey: redis.Redis, ours: Time
) -> None:
    valkey.hset(stock.schedule(PAST, "os.getcwd").key, "data", b"no pickle")
    stock.schedule(PAST + SECOND, "os.getcwd", interval=1)
    for one in (stock, Stock(connection=valkey)):
        with pytest.raises(DeserializationError):
            one.enqueue_jobs()
    assert queued(valkey) == []

    ours.put(name="bad", interval=1)
    ours.put(name="good", interval=2)
    ours.valkey.hset("jobline:schedule:bad", "rule", "{")
    ours.pass_by(ours.scheduler(), 4)
    assert [run["schedule"] for run in ours.runs()] == ["good", "good"]


def test_stock_writes_pickles_and_ours_writes_json(stock: Stock, valkey: redis.Redis, ours: Time) -> None:
    assert "serializer" not in inspect.signature(Stock).parameters
    data = valkey.hget(stock.schedule(PAST, "os.getcwd").key, "data")
    with pytest.raises(ValueError, match="decode"):
        json.loads(zlib.decompress(data))

    ours.put(interval=1)
    ours.pass_by(ours.scheduler(), 1)
    for job_id in ("schedule-s", ours.runs()[0]["id"]):
        data = ours.valkey.hget(f"rq:job:{job_id}", "data")
        assert json.loads(zlib.decompress(data)) == ["jobs.demo.add", None, [1, 2], {}]


def test_to_delete_a_run_of_stock_deletes_its_schedule_and_a_run_of_ours_does_not(
    stock: Stock, valkey: redis.Redis, ours: Time
) -> None:
    come_due(stock, stock.schedule(PAST, "os.getcwd", interval=10))
    rq.job.Job.fetch(queued(valkey)[0], connection=valkey).delete()
    assert list(stock.get_jobs()) == []
    assert valkey.zcard(KEY) == 0

    ours.put(interval=10)
    scheduler = ours.scheduler()
    ours.pass_by(scheduler, 10)
    rq.job.Job.fetch(queued(ours.valkey)[0], connection=ours.valkey, serializer=JSONSerializer).delete()
    ours.pass_by(scheduler, 20)
    assert ours.due() == [20, 30]


def test_runs_of_stock_are_one_job_and_runs_of_ours_are_jobs_of_their_own(
    stock: Stock, valkey: redis.Redis, ours: Time
) -> None:
    job = stock.schedule(PAST, "os.getcwd", interval=10)
    come_due(stock, job)
    rq.SimpleWorker(["default"], connection=valkey).work(burst=True)
    for _ in range(3):
        come_due(stock, job)
    assert queued(valkey) == [job.id] * 3
    job.refresh()
    assert (job.get_status(), job.ended_at is None) == ("queued", False)  # that of its first run

    ours.put(interval=10)
    ours.pass_by(ours.scheduler(), 30)
    assert len(set(queued(ours.valkey))) == 3


@pytest.mark.parametrize(("kept", "queues"), [({"result_ttl": 0}, ["default"]), ({"ttl": 1}, ["another"])])
def test_stock_forgets_a_schedule_when_its_run_expires_and_ours_does_not(
    stock: Stock, valkey: redis.Redis, ours: Time, kept: dict[str, int], queues: list[str]
) -> None:
    job = stock.schedule(PAST, "os.getcwd", interval=10, **kept)
    come_due(stock, job)
    rq.SimpleWorker(queues, connection=valkey).work(burst=True)
    until(lambda: not valkey.exists(job.key))
    come_due(stock, job)
    assert valkey.zcard(KEY) == 0

    ours.put(interval=10)
    scheduler = ours.scheduler()
    ours.pass_by(scheduler, 10)
    ours.valkey.delete(QUEUE, *ours.valkey.keys("rq:job:*"))  # as if all of them had expired
    ours.pass_by(scheduler, 10)
    assert ours.due() == [20]


@pytest.mark.parametrize("host", ["UTC", "America/New_York", "Asia/Tokyo"])
def test_stock_takes_the_hosts_zone_whatever_is_asked_for_and_ours_takes_the_one_that_is_named(
    ours: Time, host: str
) -> None:
    with time_machine.travel(datetime(2026, 7, 1, tzinfo=ZoneInfo(host)), tick=False):
        for local in (False, True):
            due = get_next_scheduled_time("0 2 * * *", use_local_timezone=local)
            assert due == datetime(2026, 7, 1, 2, tzinfo=ZoneInfo(host))
        ours.put(cron="0 2 * * *", timezone="Europe/Berlin")
        due = ours.state().due
        assert due
        assert due.astimezone(ZoneInfo("Europe/Berlin")).hour == 2


@pytest.mark.parametrize(
    ("day", "cron", "stocks", "right"),
    [
        (datetime(2026, 3, 8, tzinfo=NEW_YORK), "30 2 * * *", 31, 1),
        (datetime(2026, 3, 8, tzinfo=NEW_YORK), "0 2 * * *", 61, 1),
        (datetime(2026, 3, 8, tzinfo=NEW_YORK), "15 * * * *", 68, 23),
        (datetime(2026, 11, 1, tzinfo=NEW_YORK), "15 * * * *", 24, 25),
    ],
)
def test_when_the_clock_is_changed_stock_runs_too_often_or_too_rarely_and_ours_as_often_as_it_should(
    stock: Stock, valkey: redis.Redis, ours: Time, day: datetime, cron: str, stocks: int, right: int
) -> None:
    begin = day.astimezone(UTC)
    hours = (datetime(day.year, day.month, day.day + 1, tzinfo=NEW_YORK).astimezone(UTC) - begin) // timedelta(hours=1)
    with time_machine.travel(day, tick=False) as traveller:
        stock.cron(cron, "os.getcwd", use_local_timezone=True)
        for minute in range(60 * hours):
            traveller.move_to((begin + timedelta(minutes=minute)).astimezone(NEW_YORK))
            stock.enqueue_jobs()
    assert valkey.llen(QUEUE) == stocks

    ours.clock = Clock(begin)
    ours.put(cron=cron, timezone="America/New_York", catch_up="all")
    ours.pass_by(ours.scheduler(), 3600 * hours - 1, step=900)
    assert len(ours.runs()) == right


def test_an_interval_of_stock_drifts_and_one_of_ours_does_not(stock: Stock, valkey: redis.Redis, ours: Time) -> None:
    with time_machine.travel(NOON, tick=False) as traveller:
        stock.schedule(NOON + 10 * SECOND, "os.getcwd", interval=10)
        for _ in range(10):
            traveller.shift(7)
            stock.enqueue_jobs()
    assert valkey.llen(QUEUE) == 5

    ours.put(interval=10)
    ours.pass_by(ours.scheduler(), 70, step=7)
    assert ours.due() == [10, 20, 30, 40, 50, 60, 70]


@pytest.mark.usefixtures("_signals_kept")
def test_stock_sleeps_a_minute_whatever_is_due_and_ours_until_it_is(
    valkey: redis.Redis, ours: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        raise Died

    stock = Stock(connection=valkey)
    stock.enqueue_in(2 * SECOND, "os.getcwd")
    with monkeypatch.context() as patch:
        patch.setattr(time, "sleep", sleep)
        with pytest.raises(Died):
            stock.run()
    assert 50 < slept[0] <= 60

    ours.put(interval=0.2)
    assert ours.scheduler().step() == pytest.approx(0.2)


def test_stock_runs_up_to_a_second_early_and_ours_to_the_millisecond(
    stock: Stock, valkey: redis.Redis, ours: Time
) -> None:
    at = NOON + timedelta(seconds=0.999)
    with time_machine.travel(NOON, tick=False):
        stock.enqueue_at(at, "os.getcwd")
        stock.enqueue_jobs()
    assert valkey.llen(QUEUE) == 1

    ours.put(at=at)
    scheduler = ours.scheduler()
    ours.pass_by(scheduler, 0.998, step=0.998)
    assert ours.due() == []
    ours.pass_by(scheduler, 0.001, step=0.001)
    assert ours.due() == [0.999]


def test_stock_takes_a_moment_without_a_zone_for_utc_and_ours_refuses_it(stock: Stock, valkey: redis.Redis) -> None:
    with time_machine.travel(datetime(2026, 7, 1, tzinfo=NEW_YORK), tick=False):
        job = stock.enqueue_at(datetime(2026, 7, 1, 2), "os.getcwd")
    assert valkey.zscore(KEY, job.id) == datetime(2026, 7, 1, 2, tzinfo=UTC).timestamp()

    with pytest.raises(ValidationError, match="should have a time zone"):
        Schedule.model_validate({"name": "s", "function": "demo.add", "at": "2026-07-01T02:00:00"})


def test_stock_never_renews_its_lock_and_releases_anothers(stock: Stock, valkey: redis.Redis) -> None:
    other, third = Stock(connection=valkey, interval=1), Stock(connection=valkey, interval=1)
    assert stock.acquire_lock()
    valkey.pexpire(LOCK, 50)
    stock.heartbeat()  # in the middle of a long pass
    until(lambda: not valkey.exists(LOCK))
    assert other.acquire_lock()
    stock.remove_lock()
    assert third.acquire_lock()  # while the other is at work


def test_ours_renews_its_lease_and_leaves_that_of_another_alone(ours: Time) -> None:
    lease, other = ours.scheduler().lease, ours.scheduler().lease
    assert lease.hold()
    ours.valkey.pexpire(LOCK, 1000)
    lease._next_at = 0
    assert lease.hold()
    assert ours.valkey.pttl(LOCK) > 5000
    ours.valkey.delete(LOCK)  # it ran out
    assert other.hold()
    lease.release()
    assert ours.valkey.get(LOCK) == other.token
    lease._next_at = 0
    assert not lease.hold()


def test_an_error_of_redis_ends_stock_and_not_ours(project: Project) -> None:
    port = free_port()
    url = f"redis://127.0.0.1:{port}/0"
    stock = project.start("-c", "from rq_scheduler.scripts.rqscheduler import main; main()", "--url", url)
    output, _ = stock.communicate(timeout=20)
    assert stock.returncode == 1
    assert b"redis.exceptions.ConnectionError" in output

    process = project.start("scheduler.py", REDIS_URL=url, LOG_LEVEL="ERROR")
    try:
        knocked(port)
        knocked(port)
        assert process.poll() is None
    finally:
        process.kill()
        process.communicate()


def test_rqs_own_delayed_jobs_wait_for_ever_with_stock_and_are_queued_by_ours(
    stock: Stock, valkey: redis.Redis, ours: Time
) -> None:
    for connection in (valkey, ours.valkey):
        rq.Queue(connection=connection, serializer=JSONSerializer).enqueue_at(NOON, "jobs.demo.add", 1, 2, job_id="j")
    stock.enqueue_jobs()
    assert queued(valkey) == []
    act(ours.scheduler())
    assert queued(ours.valkey) == ["j"]
