"""How long an exception asks to wait, and that no attempt begins before."""

import math
import urllib.error
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.message import Message
from email.utils import format_datetime
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import rq
import time_machine

from app.author.options import Retry
from app.catalog.catalog import Function
from app.lifecycle import executions, recovery
from app.rq_adapter import retry_after
from app.rq_adapter.rq_parts import Job, Queue, catalog
from app.testing import Jobs, run_jobs

START = datetime(2026, 1, 31, 12, 0, 0, 700_000, tzinfo=UTC)


def of_urllib(said: str) -> Exception:
    headers = Message()
    headers["retry-after"] = said
    return urllib.error.HTTPError("http://example.com", 503, "busy", headers, None)


def of_httpx(said: str) -> Exception:
    request = httpx.Request("GET", "http://example.com")
    response = httpx.Response(503, headers={"retry-after": said}, request=request)
    try:
        response.raise_for_status()
    except httpx.HTTPStatusError as error:
        return error
    raise AssertionError


def of_requests(said: str) -> Exception:
    """As requests.HTTPError: `response.headers` knows a name in any case."""
    error = OSError("503")
    error.response = SimpleNamespace(headers=httpx.Headers({"Retry-After": said}))  # type: ignore[attr-defined]
    return error


def of_aiohttp(said: str) -> Exception:
    """As aiohttp.ClientResponseError: `headers` of its own."""
    error = RuntimeError("503")
    error.headers = httpx.Headers({"Retry-After": said})  # type: ignore[attr-defined]
    return error


def of_a_plain_dictionary(said: str) -> Exception:
    error = RuntimeError("503")
    error.headers = {"retry-after": said}  # type: ignore[attr-defined]
    return error


CLIENTS = [of_urllib, of_httpx, of_requests, of_aiohttp, of_a_plain_dictionary]


@pytest.fixture
def clock() -> Iterator[None]:
    with time_machine.travel(START, tick=False):
        yield


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(
    ("said", "seconds"),
    [("4", 4), ("0", 0), ("-5", 0), ("999999999", 86_400), ("soon", None), ("nan", None), ("inf", None), ("", None)],
)
def test_the_header_in_seconds(client: Callable[[str], Exception], said: str, seconds: float | None) -> None:
    assert retry_after.of(client(said)) == seconds


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(
    "form", ["%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %d %H:%M:%S %Y"],
    ids=["IMF-fixdate", "RFC 850", "asctime"],
)  # fmt: skip
def test_the_header_as_a_date(clock: None, client: Callable[[str], Exception], form: str) -> None:
    later = START.replace(microsecond=0) + timedelta(seconds=60)
    assert retry_after.of(client(later.strftime(form))) == pytest.approx(59.3)
    assert retry_after.of(client((later - timedelta(days=1)).strftime(form))) == 0
    assert retry_after.of(client((later + timedelta(days=9)).strftime(form))) == 86_400


@pytest.mark.parametrize(
    ("own", "seconds"),
    [(90, 90), (0.5, 0.5), (timedelta(minutes=3), 180), (10**400, 4), ("soon", 4), (None, 4)],
    ids=["whole", "fraction", "timedelta", "too large", "text", "none"],
)
def test_an_attribute_of_the_exception_comes_before_the_header(own: Any, seconds: float) -> None:
    error = of_httpx("4")
    error.retry_after = own  # type: ignore[attr-defined]
    assert retry_after.of(error) == seconds


def test_an_exception_that_cannot_be_read_says_nothing() -> None:
    class Odd(Exception):
        @property
        def response(self) -> object:
            raise RuntimeError("there is none")

    class Headers(Exception):
        headers = "Retry-After: 4"

    for error in (Odd(), Headers(), ValueError(), httpx.ConnectError("no")):
        assert retry_after.of(error) is None


def raises(kind: str) -> object:
    date = format_datetime(datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=5), usegmt=True)
    if kind == "returned":
        return Retry(1, intervals=(4,))
    raise {"seconds": of_httpx("4"), "date": of_urllib(date), "none": ValueError()}[kind]


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Jobs]:
    monkeypatch.setitem(catalog().refresh().functions, "demo.fail", Function("demo.fail", raises))
    with run_jobs(at=START) as found:
        yield found


@pytest.mark.parametrize("kind", ["seconds", "date", "none", "returned"])
def test_no_retry_is_due_before_its_time(jobs: Jobs, kind: str) -> None:
    queue = rq.Queue("default", connection=jobs.redis, serializer=Queue("x", connection=jobs.redis).serializer)
    queue.enqueue("jobs.demo.fail", kind, job_id="job", retry=rq.Retry(1, 4))
    jobs.run()
    due = jobs.redis.zscore("rq:scheduled:default", "job")
    earliest = START.timestamp() + (4.3 if kind == "date" else 4)
    assert due is not None
    assert earliest <= due < earliest + 1


def test_a_lost_job_is_not_retried_before_its_time(jobs: Jobs) -> None:
    said = {"status": "started", "retries_left": "1", "retry_intervals": "[4]", "origin": "default"}
    jobs.redis.hset("rq:job:lost", mapping=said)
    jobs.redis.zadd("rq:wip:default", {"lost:execution": 1})
    recovery.recover(jobs.redis, executions.Execution("default", "lost", "execution"), "lost", recovery.policy)
    assert jobs.redis.zscore("rq:scheduled:default", "lost") == math.ceil(START.timestamp() + 4)


def test_a_delay_in_a_workflow_is_no_shorter_than_said(jobs: Jobs) -> None:
    graph = [
        {"name": "first", "function": "demo.add", "args": [1, 2]},
        {"name": "then", "function": "demo.add", "args": [1, 2], "after": ["first"], "delay": 4},
    ]
    workflow = jobs.client.post("/api/v1/workflows", json={"jobs": graph}).get_json()["id"]
    jobs.run()
    assert jobs.redis.zscore("rq:scheduled:default", f"{workflow}-then") == math.ceil(START.timestamp() + 4)


@pytest.mark.parametrize("pipelined", [True, False])
def test_what_is_scheduled_is_never_early(jobs: Jobs, pipelined: bool) -> None:
    queue = Queue("default", connection=jobs.redis)
    job = Job.create("jobs.demo.add", (1, 2), id="job", connection=jobs.redis, origin="default")
    with jobs.redis.pipeline() as pipeline:
        queue.schedule_job(job, START + timedelta(seconds=4), pipeline if pipelined else None)
        pipeline.execute()
    assert jobs.redis.zscore("rq:scheduled:default", "job") == math.ceil(START.timestamp() + 4)


def test_waits_are_rounded_up() -> None:
    assert Retry(3, intervals=(0, 0.4, 1.5)).waits() == [0, 1, 2]
    assert Retry(2, initial=0.2, jitter=0).waits() == [1, 1]
    assert Retry(2, initial=0, jitter=1).waits() == [0, 0]
