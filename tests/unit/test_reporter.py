"""Progress: what is reported of it, and that no report fails a job or waits for Redis."""

import math
import os
import threading
import time
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
import redis

from app.author import progress
from app.events import stream
from app.serializer import JSON
from app.views import job_view
from app.worker import reporter
from app.worker.claimed import Claimed
from app.worker.reporter import Reporter
from tests.conftest import Server, until


class Odd:
    def __str__(self) -> str:
        raise RuntimeError("no")

    __float__ = __str__  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("said", "percent"),
    [
        ((1, 3), 33.3), ((3, 3), 100.0), ((4, 3), 100.0), ((-1, 3), 0.0), ((1, 0), None), ((0, 0), None),
        ((1, -2), None), ((1, None), None), ((1, math.nan), None), ((1, math.inf), None), ((1, "many"), None),
        ((Decimal(1), Decimal(4)), 25.0), ((10**400, 10**401), None), ((2**70, 2**71), 50.0), ((1e308, 1e308), 100.0),
        ((True, 2), 50.0),
    ],
)  # fmt: skip
def test_percent_is_from_0_to_100_or_not_known(said: tuple[Any, Any], percent: float | None) -> None:
    report = progress.report(*said, None)
    assert (report["percent"] if report else None) == percent
    JSON.dumps(report)


@pytest.mark.parametrize("current", [math.nan, math.inf, None, "some", object(), 10**400])
def test_what_is_no_number_is_no_report(current: Any) -> None:
    assert progress.report(current, 3, "") is None


@pytest.mark.parametrize(
    ("message", "text"), [(None, None), (7, "7"), (b"x", "b'x'"), ("\ud800", "?"), ("x" * 10_000, "x" * 4096)]
)
def test_a_message_is_text_of_a_bounded_length(message: Any, text: str | None) -> None:
    report = progress.report(1, 2, message)
    assert report
    assert report["message"] == text


@pytest.fixture
def claimed(valkey: redis.Redis) -> Claimed:
    valkey.hset("rq:job:job", mapping={"status": "started", "attempts": 1, "meta": JSON.dumps({"tags": ["red"]})})
    valkey.zadd("rq:wip:default", {"job:execution": 1})
    return Claimed("default", "job", "execution")


@pytest.fixture
def reporting(valkey: redis.Redis, claimed: Claimed) -> Iterator[Reporter]:
    found = Reporter(valkey)
    found.running[0] = claimed
    yield found
    found.close()


def meta(connection: redis.Redis) -> Any:
    return JSON.loads(connection.hget("rq:job:job", "meta"))


def test_the_latest_report_is_kept_beside_what_else_the_meta_has(valkey: redis.Redis, reporting: Reporter) -> None:
    for number in range(1000):
        reporting.update(number, 1000, "counting")
    reporting.settle()
    assert meta(valkey) == {
        "tags": ["red"], "progress": {"current": 999, "total": 1000, "percent": 99.9, "message": "counting"},
    }  # fmt: skip


def test_a_report_that_no_other_follows_is_sent_all_the_same(valkey: redis.Redis, reporting: Reporter) -> None:
    for number in range(3):
        reporting.update(number)
        until(lambda: meta(valkey).get("progress", {}).get("current") == number, 3)  # noqa: B023 - called at once


def test_no_report_is_missed_whenever_it_comes(valkey: redis.Redis, reporting: Reporter, monkeypatch: Any) -> None:
    monkeypatch.setattr(reporter, "SEND_INTERVAL_SECONDS", 0.001)
    for number in range(300):
        reporting.update(number)
        time.sleep(number % 7 / 2000)  # at other moments of the thread
    until(lambda: meta(valkey)["progress"]["current"] == 299, 3)


def test_what_the_job_itself_writes_into_its_meta_stays(valkey: redis.Redis, reporting: Reporter) -> None:
    reporting.update(1)
    reporting.settle()
    valkey.hset("rq:job:job", "meta", JSON.dumps({**meta(valkey), "mine": 7}))
    reporting.update(2)
    reporting.settle()
    found = meta(valkey)
    assert (found["tags"], found["mine"], found["progress"]["current"]) == (["red"], 7, 2)


def test_whoever_listens_hears_of_it(valkey: redis.Redis, reporting: Reporter) -> None:
    valkey.xadd(stream.EVENTS, {"ids": ""})
    reporting.update(1, 2)
    reporting.settle()
    place, raw = valkey.xrevrange(stream.EVENTS, count=1)[0]
    [event] = stream._events(place, raw)
    assert (event.job_id, event.queue, event.status) == ("job", "default", "progress")
    assert event.progress == {"current": 1, "total": 2, "percent": 50.0, "message": None}


def test_a_late_report_of_an_attempt_changes_nothing_of_the_next(valkey: redis.Redis, reporting: Reporter) -> None:
    valkey.zrem("rq:wip:default", "job:execution")
    valkey.hset("rq:job:job", "attempts", 2)
    reporting.update(1)
    reporting.settle()
    assert "progress" not in meta(valkey)


def test_a_deleted_job_is_not_made_anew(valkey: redis.Redis, reporting: Reporter) -> None:
    valkey.delete("rq:job:job")
    reporting.update(1)
    reporting.settle()
    assert not valkey.exists("rq:job:job")


@pytest.mark.parametrize("said", [(math.nan,), (Odd(),), (1, 2, Odd()), (1, Odd()), ("x", "y", "z"), (None,)])
def test_whatever_is_said_breaks_nothing(valkey: redis.Redis, reporting: Reporter, said: tuple[Any, ...]) -> None:
    reporting.update(*said)
    reporting.settle()
    reporting.update(5)
    reporting.settle()
    assert meta(valkey)["progress"]["current"] == 5


def test_after_the_job_nothing_is_reported(valkey: redis.Redis, reporting: Reporter) -> None:
    del reporting.running[0]
    reporting.update(1)
    reporting.settle()
    assert "progress" not in meta(valkey)


def test_a_process_that_the_job_forks_reports_too(valkey: redis.Redis, reporting: Reporter) -> None:
    reporting.update(1)
    reporting.settle()
    pid = os.fork()
    if pid == 0:
        reporting.update(2)
        reporting.settle()
        os._exit(0)
    os.waitpid(pid, 0)
    assert meta(valkey)["progress"]["current"] == 2
    reporting.update(3)
    reporting.settle()
    assert meta(valkey)["progress"]["current"] == 3


def test_no_update_waits_for_a_redis_that_is_away(server: Server, claimed: Claimed) -> None:
    server.start()
    reporting = Reporter(server.connection)
    reporting.running[0] = claimed
    server.connection.hset("rq:job:job", mapping={"status": "started", "attempts": 1})
    reporting.update(1)
    reporting.settle()
    server.kill()
    began = time.monotonic()
    for number in range(10_000):
        reporting.update(number)
    assert time.monotonic() - began < 1
    reporting.settle()
    assert time.monotonic() - began < 3
    server.start()
    until(lambda: (job_view.fetch(server.connection, ["job"])[0] or {})["progress"]["current"] == 9999)
    reporting.close()
    until(lambda: not any(thread.name == "progress" for thread in threading.enumerate()))


def test_the_job_s_own_save_of_its_meta_does_not_lose_it(valkey: redis.Redis, reporting: Reporter) -> None:
    from app.rq_adapter.rq_parts import Job

    valkey.hset("rq:job:job", "data", JSON.dumps(["jobs.demo.add", None, [], {}]))
    job = Job.fetch("job", connection=valkey)
    reporting.update(1)
    reporting.settle()
    job.meta["mine"] = 7
    job.save_meta()
    assert meta(valkey)["mine"] == 7
    assert meta(valkey)["progress"]["current"] == 1
