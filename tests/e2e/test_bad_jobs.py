"""What a job can do to its process: each ends as a failed job with a reason, and the worker goes on."""

import pytest
import redis
import rq
from rq.serializers import JSONSerializer

from app.views import job_view
from tests.conftest import Project
from tests.e2e.test_worker import put, state

pytestmark = pytest.mark.concurrency(1, 20)

BAD = """
import ctypes, os, signal, sys, threading, time
from app import job


def segfault() -> None:
    ctypes.string_at(0)


def leave() -> None:
    os._exit(0)


def leave_with(code: int) -> None:
    os._exit(code)


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def exits() -> None:
    sys.exit(3)


def blocked() -> None:
    sum(range(10**12))  # one call of C, with the interpreter's lock held: no alarm is heard


def stubborn() -> None:
    try:
        time.sleep(60)
    finally:
        time.sleep(60)


def tidy(path: str, seconds: float) -> str:
    try:
        while True:
            time.sleep(seconds)
    except Exception as error:
        open(path, "w").write(type(error).__name__)
        raise


def threads() -> int:
    for _ in range(1000):
        threading.Thread(target=time.sleep, args=[600]).start()
    return threading.active_count()


def flood() -> None:
    for _ in range(20_000):
        print("x" * 1000)


def large(size: int) -> str:
    return "x" * size


def odd() -> object:
    return object()


@job(idempotent=True)
def poison() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def pid() -> int:
    return os.getpid()


def grows() -> int:
    b"x" * 30_000_000
    time.sleep(0.02)
    return os.getpid()


def deep(levels):
    value = 1
    for _ in range(levels):
        value = [value]
    return value
"""


ENDS_OF_ITS_PROCESS: list[tuple[list[object], str]] = [
    (["segfault"], "signal 11 (SIGSEGV): a crash in native code"),
    (["leave"], "exit code 0: the job ended its process"),
    (["leave_with", 7], "exit code 7: the job ended its process"),
    (["killed"], "signal 9 (SIGKILL): out of memory, or killed by hand"),
]


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        *ENDS_OF_ITS_PROCESS,
        (["exits"], "3"),
        (["large", 10_000_000], "the result is 10000002 bytes, RESULT_LIMIT is 1048576"),
        (["odd"], "Type is not JSON serializable: object"),
        (["deep", 65], "nested more than 64 deep"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_it_fails_with_a_reason_and_the_next_job_runs(
    project: Project, valkey: redis.Redis, call: list[object], reason: str, concurrency: int
) -> None:
    """A crash takes along the jobs that run beside it, which their retries settle."""
    project.write("bad", BAD)
    takes_others_along = concurrency > 1 and (call, reason) in ENDS_OF_ITS_PROCESS
    put(valkey, "bad", f"jobs.bad.{call[0]}", *call[1:])
    _queue(valkey).enqueue("jobs.demo.add", 1, 2, job_id="next", retry=rq.Retry(1) if takes_others_along else None)
    project.work()
    job = state(valkey, "bad")
    assert job["status"] == "failed"
    assert reason in job["error"]["message"]  # type: ignore[index]
    assert state(valkey, "next")["result"] == 3
    assert valkey.zcard("rq:wip:default") == 0


@pytest.mark.parametrize("name", ["blocked", "stubborn"])
def test_a_job_that_ignores_its_timeout_is_killed(project: Project, valkey: redis.Redis, name: str) -> None:
    project.write("bad", BAD)
    queue = _queue(valkey)
    queue.enqueue(f"jobs.bad.{name}", job_id="bad", job_timeout=1)
    queue.enqueue("jobs.demo.add", 1, 2, job_id="next")
    project.work(TIMEOUT_GRACE="1", SHUTDOWN_GRACE="1")
    error = state(valkey, "bad")["error"]
    assert error["type"] == "JobTimeoutException"  # type: ignore[index]
    assert "killed: it did not end within 1 s of its timeout, 1 s" in error["message"]  # type: ignore[index]
    assert state(valkey, "next")["result"] == 3


@pytest.mark.parametrize(
    "seconds", [0.01, pytest.param(60, marks=pytest.mark.one_at_a_time("a call of C that waits is interrupted"))]
)
def test_a_timeout_can_be_caught_to_tidy_up(project: Project, valkey: redis.Redis, seconds: float) -> None:
    project.write("bad", BAD)
    kept = project.folder / "kept"
    _queue(valkey).enqueue("jobs.bad.tidy", str(kept), seconds, job_id="bad", job_timeout=1)
    project.work()
    assert kept.read_text() == "JobTimeoutException"
    assert state(valkey, "bad")["error"]["type"] == "rq.timeouts.JobTimeoutException"  # type: ignore[index]


def test_threads_left_behind_end_with_their_horse(project: Project, valkey: redis.Redis, concurrency: int) -> None:
    project.write("bad", BAD)
    put(valkey, "before", "jobs.bad.pid")
    put(valkey, "bad", "jobs.bad.threads")
    _queue(valkey).enqueue("jobs.bad.pid", job_id="after", depends_on="bad" if concurrency > 1 else None)
    project.work()
    assert state(valkey, "bad")["result"] > 1000  # type: ignore[operator]
    assert state(valkey, "before")["result"] != state(valkey, "after")["result"]


def test_a_flood_of_output_holds_nothing_up(project: Project, valkey: redis.Redis) -> None:
    project.write("bad", BAD)
    put(valkey, "bad", "jobs.bad.flood")
    assert project.work().count("x" * 1000) == 20_000
    assert state(valkey, "bad")["status"] == "finished"


def test_an_idempotent_job_that_kills_its_horse_is_not_tried_for_ever(project: Project, valkey: redis.Redis) -> None:
    project.write("bad", BAD)
    put(valkey, "bad", "jobs.bad.poison")
    project.work()
    job = state(valkey, "bad")
    assert (job["status"], job["attempts"]) == ("failed", 3)


def test_a_job_with_retries_that_kills_its_horse_is_retried(project: Project, valkey: redis.Redis) -> None:
    project.write("bad", BAD)
    _queue(valkey).enqueue("jobs.bad.killed", job_id="bad", retry=rq.Retry(2))
    project.work()
    job = state(valkey, "bad")
    assert (job["status"], job["attempts"]) == ("failed", 3)


@pytest.mark.parametrize(
    ("name", "value", "horses"), [("HORSE_JOBS", "2", 3), ("HORSE_GROWTH", "10000000", 5), ("HORSE_JOBS", "100", 1)]
)
def test_horses_are_replaced(
    project: Project, valkey: redis.Redis, name: str, value: str, horses: int, concurrency: int
) -> None:
    project.write("bad", BAD)
    for number in range(5):
        before = str(number - 1) if concurrency > 1 and number else None  # else all run at once in the first one
        _queue(valkey).enqueue("jobs.bad.grows", job_id=str(number), depends_on=before)
    project.work(**{name: value})
    jobs = job_view.fetch(valkey, [str(number) for number in range(5)])
    assert len({job["result"] for job in jobs if job}) == horses


def _queue(connection: redis.Redis) -> rq.Queue:
    return rq.Queue("default", connection=connection, serializer=JSONSerializer)
