"""Real workers on a real Valkey: what a job may be, and what no job can do to a worker."""

import zlib
from collections.abc import Callable

import pytest
import redis
import rq
from rq.serializers import JSONSerializer

from app.redis.keys import job_key, queue_key
from app.serializer import JSON
from app.views import job_view
from tests.conftest import RQ_WORKER, Project, status, until

pytestmark = pytest.mark.concurrency(1, 20)
of_stock_rq = pytest.mark.one_at_a_time("a stock worker runs the jobs")


def put(connection: redis.Redis, job_id: str, path: str, *args: object, **kwargs: object) -> None:
    queue = rq.Queue("default", connection=connection, serializer=JSONSerializer)
    queue.enqueue(path, args=args, kwargs=kwargs, job_id=job_id, failure_ttl=1000)


def state(connection: redis.Redis, job_id: str) -> dict[str, object]:
    job = job_view.fetch(connection, [job_id])[0]
    assert job is not None
    return job


TYPED = """
import asyncio, datetime, decimal, enum, uuid
from dataclasses import dataclass
from os.path import join
from pydantic import BaseModel
from app import Discard, Retry, job

class Colour(enum.Enum):
    red = "red"

@dataclass
class Point:
    x: int

class Order(BaseModel):
    total: decimal.Decimal

def kinds(
    day: datetime.date, id: uuid.UUID, colour: Colour, point: Point, order: Order, *rest: int, key: bool = True
) -> list[str]:
    return [type(v).__name__ for v in (day, id, colour, point, order, *rest, key)]

async def later(n: int) -> int:
    await asyncio.sleep(0)
    return n + 1

def unserialisable() -> object:
    return object()

@job(retry=Retry(max=3, initial=0, on=(ConnectionError,)))
def picky(kind: str) -> None:
    raise {"transient": ConnectionError, "other": ValueError, "discard": Discard}[kind]("no")

def _hidden() -> None: ...
"""


def test_arguments_arrive_as_their_types(project: Project, valkey: redis.Redis) -> None:
    project.write("typed", TYPED)
    put(
        valkey,
        "kinds",
        "jobs.typed.kinds",
        "2026-01-31",
        "12345678-1234-5678-1234-567812345678",
        "red",
        {"x": 1},
        {"total": "1.5"},
        7,
        key=False,
    )
    put(valkey, "later", "jobs.typed.later", 1)
    project.work()
    assert state(valkey, "kinds")["result"] == ["date", "UUID", "Colour", "Point", "Order", "int", "bool"]
    assert state(valkey, "later")["result"] == 2


@pytest.mark.parametrize(
    ("path", "args", "error"),
    [
        ("os.getcwd", [], "NotFound"),
        ("jobs.typed.join", ["a", "b"], "NotFound"),
        ("jobs.typed._hidden", [], "NotFound"),
        ("jobs.demo.add", ["x", 1], "ValidationError"),
        ("jobs.demo.add", [1, 2, 3], "ValidationError"),
        ("jobs.typed.unserialisable", [], "TypeError"),
    ],
)
def test_what_cannot_run_fails_with_a_reason(
    project: Project, valkey: redis.Redis, path: str, args: list[object], error: str
) -> None:
    project.write("typed", TYPED)
    put(valkey, "job", path, *args)
    project.work()
    job = state(valkey, "job")
    assert job["status"] == "failed"
    assert str(job["error"]["type"]).endswith(error)  # type: ignore[index]


def test_only_what_the_filter_names_is_retried(project: Project, valkey: redis.Redis) -> None:
    project.write("typed", TYPED)
    queue = rq.Queue("default", connection=valkey, serializer=JSONSerializer)
    for kind in ("transient", "other", "discard"):
        queue.enqueue("jobs.typed.picky", kind, job_id=kind, retry=rq.Retry(3))
    project.work()
    assert {kind: state(valkey, kind)["attempts"] for kind in ("transient", "other", "discard")} == {
        "transient": 4,
        "other": 1,
        "discard": 1,
    }


def a_bad_date(connection: redis.Redis) -> bytes:
    put(connection, "poison", "jobs.demo.add", 1, 2)
    connection.hset(job_key("poison"), "created_at", "yesterday")
    return b"poison"


def a_bad_timeout(connection: redis.Redis) -> bytes:
    put(connection, "poison", "jobs.demo.add", 1, 2)
    connection.hset(job_key("poison"), "timeout", "soon")
    return b"poison"


def no_hash(connection: redis.Redis) -> bytes:
    connection.set(job_key("poison"), "text")
    connection.rpush(queue_key("default"), "poison")
    return b"poison"


def garbage(connection: redis.Redis) -> bytes:
    put(connection, "poison", "jobs.demo.add", 1, 2)
    connection.hset(job_key("poison"), "data", b"\x80\x04garbage")
    return b"poison"


def no_utf8(connection: redis.Redis) -> bytes:
    call = zlib.compress(JSON.dumps(["jobs.demo.add", None, [1, 2], {}]))
    connection.hset(b"rq:job:\xff\xfe", mapping={"data": call, "origin": "default"})
    connection.rpush(queue_key("default"), b"\xff\xfe")
    return b"_xff_xfe"


@pytest.mark.parametrize("poison", [a_bad_date, a_bad_timeout, no_hash, garbage, no_utf8])
@pytest.mark.parametrize("queues", [["default"], ["high", "default"]])
def test_a_poison_job_ends_in_the_failed_registry_and_the_worker_goes_on(
    project: Project, valkey: redis.Redis, poison: Callable[[redis.Redis], bytes], queues: list[str]
) -> None:
    job_id = poison(valkey)
    put(valkey, "good", "jobs.demo.add", 1, 2)
    project.work(*queues)
    assert state(valkey, "good")["result"] == 3
    assert valkey.zrange("rq:failed:default", 0, -1) == [job_id]
    job = state(valkey, job_id.decode())
    assert job["status"] == "failed"
    assert job["error"]["message"]  # type: ignore[index]
    assert valkey.zcard("rq:wip:default") == 0


@of_stock_rq
@pytest.mark.parametrize("poison", [a_bad_date, a_bad_timeout, no_hash, no_utf8])
def test_a_poison_job_stops_the_stock_worker(
    project: Project, valkey: redis.Redis, poison: Callable[[redis.Redis], bytes]
) -> None:
    poison(valkey)
    put(valkey, "good", "jobs.demo.add", 1, 2)
    project.work("-S", "json", "high", "default", worker="rq.Worker")
    assert state(valkey, "good")["status"] == "queued"
    assert valkey.zcard("rq:failed:default") == 0


@of_stock_rq
def test_a_stock_worker_runs_the_same_jobs(project: Project, valkey: redis.Redis) -> None:
    put(valkey, "job", "jobs.demo.add", 1, 2)
    project.work("-S", "json", "default", worker="rq.Worker")
    assert state(valkey, "job")["result"] == 3


def test_plain_rq_worker_with_rqs_own_variables(project: Project, valkey: redis.Redis) -> None:
    put(valkey, "job", "jobs.demo.add", 1, 2)
    process = project.start(
        "-m", "rq.cli", "worker", "--burst", RQ_WORKER_CLASS="app.worker.Worker", RQ_CONFIG="app.worker_config"
    )
    output, _ = process.communicate(timeout=60)
    assert state(valkey, "job")["result"] == 3
    assert b'"job_id":"job"' in output
    assert b'"attempt":1' in output


def test_arguments_are_not_logged(project: Project, valkey: redis.Redis) -> None:
    project.write("quiet", "def fail(password: str) -> None:\n    raise ValueError('no')\n")
    put(valkey, "job", "jobs.quiet.fail", "hunter2")
    output = project.work()
    assert "no" in state(valkey, "job")["error"]["message"]  # type: ignore[index]
    assert "hunter2" not in output


def test_progress_is_kept(project: Project, valkey: redis.Redis) -> None:
    put(valkey, "job", "jobs.demo.count", 3, 0)
    project.work()
    assert state(valkey, "job")["progress"] == {"current": 3, "total": 3, "percent": 100.0, "message": "counting"}


BUSY_SERVER = """
from app import Retry, job


class Busy(Exception):
    retry_after = 90


class Response:
    headers = {"Retry-After": "120"}


class HTTPError(Exception):
    response = Response()


@job(retry=Retry(max=3, initial=1))
def call(kind: str) -> None:
    raise {"own": Busy, "http": HTTPError, "none": ValueError}[kind]
"""


def test_an_exception_says_when_to_try_again(project: Project, valkey: redis.Redis) -> None:
    project.write("busy", BUSY_SERVER)
    queue = rq.Queue("default", connection=valkey, serializer=JSONSerializer)
    for kind in ("own", "http", "none"):
        queue.enqueue("jobs.busy.call", kind, job_id=kind, retry=rq.Retry(3, [10]))
    project.work()
    due = {member.decode(): score for member, score in valkey.zrange("rq:scheduled:default", 0, -1, withscores=True)}
    waits = {kind: round(due[kind] - due["none"], -1) for kind in due}
    assert waits == {"none": 0, "own": 80, "http": 110}


def test_a_queue_whose_key_is_no_list_holds_no_other_up(project: Project, valkey: redis.Redis) -> None:
    valkey.set(queue_key("broken"), "text")
    put(valkey, "first", "jobs.demo.add", 1, 2)
    process = project.start(*RQ_WORKER, "broken", "default", LOG_LEVEL="ERROR")
    try:
        until(lambda: status(valkey, "first") == "finished")
        for number in range(3):  # each is heard by the bell
            put(valkey, str(number), "jobs.demo.add", 1, 2)
            until(lambda: status(valkey, str(number)) == "finished", 3)  # noqa: B023 - called at once
        valkey.delete(queue_key("broken"))
        queue = rq.Queue("broken", connection=valkey, serializer=JSONSerializer)
        queue.enqueue("jobs.demo.add", 1, 2, job_id="mended")
        until(lambda: status(valkey, "mended") == "finished")
    finally:
        process.terminate()
        process.communicate(timeout=10)


SLOW_TO_GIVE_BACK = """
import sys, time
from app.lifecycle import recovery

give_back = recovery.give_back


def late(connection, executions):
    if executions:
        time.sleep(0.5)
    return give_back(connection, executions)


recovery.give_back = late
from rq.cli import main

sys.argv = ["rq", "worker", "-w", "app.worker.Worker", "-c", "app.worker_config", "--burst"]
main()
"""


@pytest.mark.one_at_a_time("only such a worker claims more jobs than it runs")
def test_a_burst_runs_what_was_on_its_way_back_to_the_queue(project: Project, valkey: redis.Redis) -> None:
    """While a job holds the horse up, those behind it go back; the horse must not leave before they are there."""
    for number in range(40):
        put(valkey, f"before-{number}", "jobs.demo.add", 1, 2)
    put(valkey, "long", "jobs.demo.sleep", 0.2)
    for number in range(10):
        put(valkey, f"after-{number}", "jobs.demo.add", 1, 2)
    output, _ = project.start("-c", SLOW_TO_GIVE_BACK).communicate(timeout=60)
    assert valkey.lrange(queue_key("default"), 0, -1) == [], output.decode()
    assert valkey.zcard("rq:finished:default") == 51


def test_a_failure_makes_the_worker_forget_no_job_that_it_claimed_meanwhile(
    project: Project, valkey: redis.Redis
) -> None:
    project.write("fickle", 'def odd(n: int) -> None:\n    if n % 5 == 0:\n        raise ValueError("no")\n')
    ids = [f"job-{n}" for n in range(200)]
    for n, job_id in enumerate(ids):
        put(valkey, job_id, "jobs.fickle.odd", n)
    project.work()
    assert {status(valkey, job_id) for job_id in ids} == {"finished", "failed"}


ATTEMPTS = """
from rq import get_current_job


def numbered() -> list[object]:
    job = get_current_job()
    if job.attempt < 3:
        raise ValueError(job.attempt)
    return [job.attempt, job.meta, job.attempt]


def called(job, connection, result) -> None:
    connection.set("attempt", job.attempt)
"""


def test_a_job_knows_the_number_of_its_attempt(project: Project, valkey: redis.Redis) -> None:
    project.write("attempts", ATTEMPTS)
    queue = rq.Queue("default", connection=valkey, serializer=JSONSerializer)
    queue.enqueue("jobs.attempts.numbered", job_id="job", retry=rq.Retry(3), meta={"mine": 7})
    queue.enqueue(
        "jobs.attempts.numbered", job_id="called", retry=rq.Retry(3), on_success=rq.Callback("jobs.attempts.called")
    )
    project.work()
    assert state(valkey, "job")["result"] == [3, {"mine": 7}, 3]
    assert state(valkey, "called")["result"] == [3, {}, 3]
    assert valkey.get("attempt") == b"3"
    assert rq.job.Job.fetch("job", connection=valkey, serializer=JSONSerializer).meta == {"mine": 7}
