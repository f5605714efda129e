"""The test kit: what it promises to authors of jobs."""

import importlib
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest

from app.schedules import cron
from app.schedules.rule import Schedule
from app.testing import Jobs, Refused, run_jobs
from tests.conftest import ROOT

SOURCE = """
import asyncio
import time
from datetime import UTC, date, datetime

from rq.timeouts import JobTimeoutException

from app import Discard, Retry, job, progress

ran = []


@job(retry=Retry(max=2, intervals=(60, 600), on=(ConnectionError,)))
def flaky(error: str = "") -> int:
    ran.append(datetime.now(UTC))
    if error == "discard":
        raise Discard("of no use")
    if error == "bug":
        raise KeyError("a bug")
    if len(ran) < 3:
        raise ConnectionError("away")
    return len(ran)


def weekday(day: date) -> str:
    return f"{day:%A}"


async def later() -> str:
    return "awaited"


def big() -> str:
    return "x" * 2_000_000


@job(timeout=1)
def stuck() -> None:
    time.sleep(20)


def count() -> None:
    for _ in progress.track(range(3)):
        pass


@job(timeout=1)
async def patient(busy: bool = False) -> str:
    try:
        while busy:
            pass
        await asyncio.sleep(20)
    except JobTimeoutException:
        await asyncio.sleep(0)
        return "a part of it"


loops = []


async def on_a_loop() -> int:
    loops.append(asyncio.get_running_loop())
    return len(set(loops))
"""
START = datetime(2027, 1, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _kinds(write_module: Callable[[str, str], None]) -> None:
    write_module("kinds", SOURCE)


@pytest.fixture
def jobs() -> Iterator[Jobs]:
    with run_jobs(at=START) as found:
        yield found


def test_nothing_runs_before_it_is_told_to(jobs: Jobs) -> None:
    job = jobs.enqueue("demo.add", 1, b=2)
    assert (job.status, job.result) == ("queued", None)
    jobs.run()
    assert (job.status, job.result) == ("finished", 3)
    assert jobs.get(job.id)["started_at"] == "2027-01-01T00:00:00.000000Z"


def test_a_delayed_job_runs_at_its_time_by_a_clock_that_moves_when_told(jobs: Jobs) -> None:
    job = jobs.enqueue_with({"delay": "1h"}, "demo.add", 1, 2)
    jobs.run()
    jobs.advance(minutes=59)
    assert job.status == "scheduled"
    jobs.advance(minutes=10)
    assert jobs.get(job.id)["ended_at"] == "2027-01-01T01:00:00.000000Z"
    assert datetime.now(UTC).minute == 9


def test_retries_follow_the_function_s_waits(jobs: Jobs) -> None:
    job = jobs.enqueue("kinds.flaky")
    jobs.run(raise_errors=True)
    assert job.status == "scheduled"
    jobs.advance(hours=1)
    assert (job.status, job.result, jobs.get(job.id)["attempts"]) == ("finished", 3, 3)
    ran = importlib.import_module("jobs.kinds").ran
    assert [(moment - START).total_seconds() for moment in ran] == [0, 60, 660]


@pytest.mark.parametrize(("error", "kind"), [("discard", "Discard"), ("bug", "KeyError")])
def test_what_is_not_to_be_retried_fails_at_once(jobs: Jobs, error: str, kind: str) -> None:
    job = jobs.enqueue("kinds.flaky", error)
    jobs.run()
    assert job.status == "failed"
    assert job.error
    assert job.error["type"].endswith(kind)


def test_what_a_job_raises_is_raised_only_on_request(jobs: Jobs) -> None:
    jobs.enqueue("demo.fail", "first")
    jobs.enqueue("demo.fail", "second")
    jobs.run()
    jobs.enqueue("demo.fail", "third")
    with pytest.raises(RuntimeError, match="third"):
        jobs.run(raise_errors=True)
    jobs.enqueue_with({"delay": 60}, "demo.fail", "fourth")
    with pytest.raises(RuntimeError, match="fourth"):
        jobs.advance(minutes=1, raise_errors=True)


def test_arguments_are_typed_coroutines_awaited_and_large_results_refused(jobs: Jobs) -> None:
    day, awaited, big = (
        jobs.enqueue("kinds.weekday", "2027-01-01"),
        jobs.enqueue("kinds.later"),
        jobs.enqueue("kinds.big"),
    )
    jobs.run()
    assert (day.result, awaited.result) == ("Friday", "awaited")
    assert big.error
    assert big.error["type"].endswith("ResultTooLarge")


@pytest.mark.parametrize(
    ("function", "args", "said"),
    [("demo.add", [1, "x"], "#/args/1"), ("demo.nothing", [], "No function 'demo.nothing'")],
)
def test_a_call_that_the_api_would_refuse_is_refused(jobs: Jobs, function: str, args: list[object], said: str) -> None:
    with pytest.raises(Refused, match=said):
        jobs.enqueue(function, *args)


def test_a_dependent_runs_after_its_parent(jobs: Jobs) -> None:
    parent = jobs.enqueue_with({"queue": "a-queue-of-its-own", "delay": 5}, "demo.add", 1, 2)
    child = jobs.enqueue_with({"depends_on": [parent.id]}, "demo.add", 3, 4)
    jobs.run()
    assert child.status == "deferred"
    jobs.advance(seconds=5)
    assert child.result == 7


def test_workflows_run_to_their_end(jobs: Jobs) -> None:
    graph = [
        {"name": "one", "function": "demo.add", "args": [1, 2]},
        {"name": "two", "function": "demo.add", "args": [{"$result": "one"}, 3], "after": ["one"], "delay": "1h"},
    ]
    path = jobs.client.post("/api/v1/workflows", json={"jobs": graph}).get_json()["links"]["self"]
    jobs.run(raise_errors=True)
    assert jobs.client.get(path).get_json()["counts"]["finished"] == 1
    jobs.advance(hours=1)
    workflow = jobs.client.get(path).get_json()
    assert (workflow["status"], workflow["jobs"][1]["result"]) == ("finished", 6)


def test_the_client_is_on_the_same_redis_and_a_wait_runs_the_jobs(jobs: Jobs) -> None:
    ended = jobs.client.post("/api/v1/functions/demo.add/jobs", json={"a": 1, "b": 2}, headers={"Prefer": "wait=5"})
    assert (ended.status_code, ended.get_json()["result"]) == (200, 3)
    assert datetime.now(UTC) == START
    late = jobs.client.post(
        "/api/v1/jobs", json={"function": "demo.add", "args": [1, 2], "delay": 60}, headers={"Prefer": "wait=5"}
    )
    assert late.status_code == 202
    assert (datetime.now(UTC) - START).total_seconds() == pytest.approx(5, abs=0.1)


def test_limits_hold_by_the_clock(jobs: Jobs) -> None:
    called = [jobs.enqueue_with({"rate_limit": "1/m"}, "demo.add", n, 0) for n in range(3)]
    jobs.run()
    assert [job.status for job in called] == ["finished", "scheduled", "scheduled"]
    jobs.advance(minutes=3)
    assert [jobs.get(job.id)["started_at"][14:19] for job in called] == ["00:00", "01:00", "02:00"]


def test_schedules_make_their_runs(jobs: Jobs) -> None:
    rule = {"function": "kinds.count", "cron": "0 2 * * *", "timezone": "Europe/Berlin"}
    assert jobs.client.put("/api/v1/schedules/nightly", json=rule).status_code == 201
    jobs.advance(days=3)
    nightly = jobs.client.get("/api/v1/schedules/nightly").get_json()
    assert nightly["counts"]["runs"] == 3
    assert nightly["last_runs"][0]["scheduled_for"] == "2027-01-03T01:00:00Z"


def test_declared_schedules_make_their_runs() -> None:
    twice = cron("0 2,14 * * *", "demo.add", name="twice", args=[1, 2])
    with run_jobs(at=START, schedules=[twice]) as jobs:
        jobs.advance(hours=20)
        runs = jobs.client.get("/api/v1/jobs?status=finished").get_json()["jobs"]
        assert [(run["schedule"], run["result"]) for run in runs] == [("twice", 3)] * 2


def test_a_workflow_that_stops_for_a_failure_runs_nothing_more(jobs: Jobs) -> None:
    graph = [
        {"name": "bad", "function": "demo.add", "args": [1, 2], "delay": 60, "queue": "high"},
        {"name": "late", "function": "demo.add", "args": [1, 2], "delay": 120},
    ]
    said = {"jobs": graph, "on_error": "stop"}
    workflow = jobs.client.post("/api/v1/workflows", json=said).get_json()["id"]
    jobs.client.post(f"/api/v1/jobs/{workflow}-bad/cancel")
    jobs.run()
    assert jobs.get(f"{workflow}-late")["status"] == "canceled"
    assert jobs.client.get(f"/api/v1/workflows/{workflow}").get_json()["status"] == "failed"


def test_what_is_kept_for_a_time_is_gone_after_it(jobs: Jobs) -> None:
    job = jobs.enqueue_with({"result_ttl": "1h"}, "demo.add", 1, 2)
    jobs.run()
    jobs.advance(hours=2)
    with pytest.raises(KeyError, match=job.id):
        jobs.get(job.id)


def test_a_timeout_counts_real_seconds_and_leaves_the_test_s_alarm(jobs: Jobs) -> None:
    rang: list[int] = []
    signal.signal(signal.SIGALRM, lambda number, _: rang.append(number))
    signal.setitimer(signal.ITIMER_REAL, 60)
    try:
        job = jobs.enqueue("kinds.stuck")
        jobs.run()
        assert job.error
        assert job.error["type"].endswith("JobTimeoutException")
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 0
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)


def test_it_works_in_another_thread_too() -> None:
    results: list[object] = []

    def test() -> None:
        with run_jobs() as jobs:
            job = jobs.enqueue("demo.add", 1, 2)
            jobs.run()
            results.append(job.result)

    thread = threading.Thread(target=test)
    thread.start()
    thread.join(30)
    assert results == [3]


@pytest.mark.parametrize("busy", [False, True])
def test_a_timeout_is_raised_where_a_coroutine_awaits_in_any_thread(jobs: Jobs, busy: bool) -> None:
    results: list[object] = []

    def test(*_: object) -> None:
        with run_jobs() as found:
            job = found.enqueue("kinds.patient", busy)
            found.run()
            results.append(job.result)

    thread = threading.Thread(target=test)
    thread.start()
    thread.join(30)
    job = jobs.enqueue("kinds.patient", busy)
    jobs.run()
    assert [*results, job.result] == ["a part of it"] * 2


def test_coroutines_run_on_one_loop_until_the_test_ends(jobs: Jobs) -> None:
    for _ in range(3):
        job = jobs.enqueue("kinds.on_a_loop")
        jobs.run()
        assert job.result == 1


def test_two_tests_share_nothing() -> None:
    with run_jobs() as one:
        one.enqueue("demo.add", 1, 2)
    with run_jobs() as other:
        assert other.client.get("/api/v1/jobs").get_json()["jobs"] == []


@pytest.mark.parametrize("missing", ["fakeredis", "lupa", "time_machine"])
def test_what_it_needs_is_said(missing: str) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None; import app.testing"
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False).stderr
    assert "app.testing needs fakeredis[lua] and time-machine" in said


def test_time_may_be_told_in_parts_of_a_second(jobs: Jobs) -> None:
    """Each run is late by its jitter, which is no whole number of seconds, and begins at that moment."""
    rule = {"function": "demo.add", "args": [1, 2], "interval": 60, "jitter": 30}
    jobs.client.put("/api/v1/schedules/s", json=rule)
    jobs.advance(minutes=5, seconds=30)
    runs = jobs.client.get("/api/v1/schedules/s").get_json()["last_runs"]
    assert len(runs) == 5
    for run in runs:
        job = jobs.get(run["job_id"])
        due, began = (datetime.fromisoformat(job[name]) for name in ("scheduled_for", "started_at"))
        late = Schedule(name="s", **rule).jittered(due) - began.timestamp()
        assert abs(late) < 0.00001
