"""`async def` jobs: one event loop for all of a work horse, and timeouts that they may catch."""

import socket
import threading
from collections.abc import Callable, Iterator

import pytest
import redis
import rq
from rq.serializers import JSONSerializer

from tests.conftest import RQ_WORKER, Project, until
from tests.e2e.test_worker import put, state

pytestmark = pytest.mark.concurrency(1, 20)

SOURCE = """
import asyncio
import contextvars
import os
import time

import redis.asyncio
from rq import get_current_job
from rq.timeouts import JobTimeoutException

_kept = {}
_mark = contextvars.ContextVar("mark", default="none")


async def partial(path: str = "") -> str:
    done = 0
    try:
        while True:
            await asyncio.sleep(0.1)
            done += 1
    except JobTimeoutException as error:
        await asyncio.sleep(0.1)
        return f"{done > 3} {type(error).__name__}"


async def untidy() -> None:
    await asyncio.sleep(60)


async def tidies_for_ever() -> None:
    try:
        await asyncio.sleep(60)
    finally:
        await asyncio.sleep(60)


async def deep() -> str:
    async def inner() -> None:
        async with asyncio.timeout(30):
            await asyncio.wait_for(asyncio.Event().wait(), 30)

    try:
        await inner()
    except JobTimeoutException:
        return "caught"


async def gathered() -> str:
    ended = []

    async def one() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(1)

    try:
        await asyncio.gather(one(), one())
    except JobTimeoutException:
        await asyncio.sleep(0)
        return f"caught {len(ended)}"


async def grouped() -> str:
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(60))
            await asyncio.sleep(60)
    except* JobTimeoutException:
        pass
    return "caught"


async def busy() -> str:
    try:
        while True:
            pass
    except JobTimeoutException:
        await asyncio.sleep(0)
        return "caught"


async def busy_child() -> str:
    async def child() -> None:
        while True:
            pass

    try:
        await asyncio.gather(child())
    except JobTimeoutException:
        return "caught"


async def caught_and_goes_on() -> str:
    for _ in range(2):
        try:
            await asyncio.sleep(1.3)
        except JobTimeoutException:
            pass
    return "went on"


async def cancels_itself() -> None:
    asyncio.current_task().cancel()
    await asyncio.sleep(1)


async def leaves() -> None:
    raise SystemExit(3)


async def open_line(port: int) -> int:
    _kept["line"] = await asyncio.open_connection("127.0.0.1", port)
    return await ask_line()


async def ask_line() -> str:
    reader, writer = _kept["line"]
    writer.write(b"hello\\n")
    await writer.drain()
    return (await asyncio.wait_for(reader.readline(), 5)).decode()


async def pooled() -> str:
    if "redis" not in _kept:
        _kept["redis"] = redis.asyncio.from_url(os.environ["REDIS_URL"])
    await _kept["redis"].ping()
    return str(len(_kept["redis"].connection_pool._available_connections))


async def locked() -> str:
    lock = _kept.setdefault("lock", asyncio.Lock())
    async with lock:
        await asyncio.gather(asyncio.sleep(0.01), asyncio.sleep(0.01))
    return "held"


async def leaves_tasks() -> str:
    async def background() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            _kept["ended"] = True

    _kept["task"] = asyncio.create_task(background(), name="the-background")
    await asyncio.sleep(0)
    return "left one"


async def what_became_of_it() -> str:
    return f"{_kept['task'].cancelled()} {_kept['ended']} {_kept['task'] in asyncio.all_tasks()}"


async def leaves_a_stubborn_task() -> int:
    async def background() -> None:
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                pass

    asyncio.create_task(background())
    await asyncio.sleep(0)
    return id(asyncio.get_running_loop())


async def loop_id() -> int:
    return id(asyncio.get_running_loop())


async def generates(path: str) -> str:
    async def numbers():
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0)
            open(path, "w").write("closed")

    _kept["numbers"] = numbers()
    return str(await anext(_kept["numbers"]))


async def about() -> list[str]:
    found = [get_current_job().id, _mark.get()]
    _mark.set("set by a job")
    await asyncio.sleep(0)
    return [*found, get_current_job().id]
"""


def enqueue(
    connection: redis.Redis,
    name: str,
    *args: object,
    timeout: int = 1,
    job_id: str = "job",
    after: str | None = None,
) -> None:
    queue = rq.Queue("default", connection=connection, serializer=JSONSerializer)
    queue.enqueue(f"jobs.later.{name}", args=args, job_id=job_id, job_timeout=timeout, depends_on=after)


@pytest.fixture
def work(project: Project, valkey: redis.Redis) -> Callable[..., str]:
    project.write("later", SOURCE)
    return project.work


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of a server that sends back what it gets; it takes one connection in all."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            line, _ = server.accept()
            with line:
                while received := line.recv(1000):
                    line.sendall(received)

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]


@pytest.mark.parametrize(
    ("name", "result"),
    [
        ("partial", "True JobTimeoutException"), ("deep", "caught"), ("gathered", "caught 2"), ("grouped", "caught"),
        ("busy", "caught"), ("busy_child", "caught"), ("caught_and_goes_on", "went on"),
    ],
)  # fmt: skip
def test_a_timeout_can_be_caught_and_the_job_finishes(
    work: Callable[..., str], valkey: redis.Redis, name: str, result: str
) -> None:
    enqueue(valkey, name)
    put(valkey, "next", "jobs.later.locked")
    work()
    job = state(valkey, "job")
    assert (job["status"], job["result"]) == ("finished", result), job["error"]
    assert state(valkey, "next")["result"] == "held"


@pytest.mark.parametrize(
    ("name", "error"),
    [("untidy", "JobTimeoutException"), ("cancels_itself", "CancelledError"), ("leaves", "SystemExit")],
)
def test_what_a_job_does_not_catch_fails_it_and_the_next_runs(
    work: Callable[..., str], valkey: redis.Redis, name: str, error: str
) -> None:
    enqueue(valkey, name)
    put(valkey, "next", "jobs.later.locked")
    work()
    job = state(valkey, "job")
    assert job["status"] == "failed"
    assert str(job["error"]["type"]).endswith(error)  # type: ignore[index]
    assert state(valkey, "next")["result"] == "held"


def test_who_tidies_up_too_long_is_killed(work: Callable[..., str], valkey: redis.Redis) -> None:
    enqueue(valkey, "tidies_for_ever")
    put(valkey, "next", "jobs.later.locked")
    work(TIMEOUT_GRACE="1")
    assert "killed: it did not end within 1 s" in state(valkey, "job")["error"]["message"]  # type: ignore[index]
    assert state(valkey, "next")["result"] == "held"


def test_the_next_job_uses_the_connection_of_the_one_before(
    work: Callable[..., str], valkey: redis.Redis, echo: int
) -> None:
    enqueue(valkey, "open_line", echo, timeout=30)
    enqueue(valkey, "ask_line", timeout=30, job_id="again", after="job")
    work()
    assert [state(valkey, job_id)["result"] for job_id in ("job", "again")] == ["hello\n", "hello\n"]


def test_a_pool_of_redis_and_a_lock_outlive_their_job(work: Callable[..., str], valkey: redis.Redis) -> None:
    for number in range(3):
        before = f"locked-{number - 1}" if number else None
        enqueue(valkey, "pooled", timeout=30, job_id=f"pooled-{number}", after=before)
        enqueue(valkey, "locked", timeout=30, job_id=f"locked-{number}", after=f"pooled-{number}")
    work()
    assert [state(valkey, f"pooled-{number}")["result"] for number in range(3)] == ["1"] * 3
    assert [state(valkey, f"locked-{number}")["result"] for number in range(3)] == ["held"] * 3


def test_the_loop_outlives_a_timeout(work: Callable[..., str], valkey: redis.Redis) -> None:
    names = ["loop_id", "busy", "partial", "untidy", "leaves", "busy_child", "loop_id"]
    for number, name in enumerate(names):
        enqueue(valkey, name, job_id=str(number))
    work()
    assert state(valkey, "0")["result"] == state(valkey, "6")["result"]


def test_tasks_left_behind_are_cancelled_with_a_line_of_log(work: Callable[..., str], valkey: redis.Redis) -> None:
    enqueue(valkey, "leaves_tasks", timeout=30)
    enqueue(valkey, "what_became_of_it", timeout=30, job_id="next", after="job")
    output = work()
    assert state(valkey, "job")["result"] == "left one"
    assert state(valkey, "next")["result"] == "True True False"
    [line] = [line for line in output.splitlines() if "tasks that the job has left behind" in line]
    assert "the-background" in line
    assert '"job_id":"job"' in line


def test_a_task_that_refuses_holds_nothing_up(work: Callable[..., str], valkey: redis.Redis, concurrency: int) -> None:
    """It costs the loop, unless other jobs run there."""
    enqueue(valkey, "leaves_a_stubborn_task", timeout=30)
    enqueue(valkey, "loop_id", timeout=30, job_id="next", after="job")
    output = work()
    assert state(valkey, "job")["status"] == state(valkey, "next")["status"] == "finished"
    assert (state(valkey, "job")["result"] == state(valkey, "next")["result"]) == (concurrency > 1)
    assert output.count("a task does not end when it is cancelled") == 1
    assert output.count("tasks that the job has left behind are cancelled") == 1


def test_async_generators_are_closed_with_the_horse(
    work: Callable[..., str], project: Project, valkey: redis.Redis
) -> None:
    enqueue(valkey, "generates", str(project.folder / "closed"), timeout=30)
    work()
    assert state(valkey, "job")["result"] == "1"
    assert (project.folder / "closed").read_text() == "closed"


def test_the_current_job_is_known_within_and_context_variables_are_each_job_s_own(
    work: Callable[..., str], valkey: redis.Redis
) -> None:
    for job_id in ("first", "second"):
        enqueue(valkey, "about", timeout=30, job_id=job_id)
    work()
    for job_id in ("first", "second"):
        assert state(valkey, job_id)["result"] == [job_id, "none", job_id]


def test_an_idle_worker_keeps_the_connection(
    work: Callable[..., str], project: Project, valkey: redis.Redis, echo: int
) -> None:
    process = project.start(*RQ_WORKER, "default", LOG_LEVEL="ERROR")
    try:
        enqueue(valkey, "open_line", echo, timeout=30)
        until(lambda: state(valkey, "job")["status"] == "finished")
        enqueue(valkey, "ask_line", timeout=30, job_id="again")
        until(lambda: state(valkey, "again")["status"] == "finished")
    finally:
        process.terminate()
        process.communicate(timeout=20)
