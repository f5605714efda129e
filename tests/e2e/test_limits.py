"""Rates, concurrency and breakers with real workers: held to across all of them, and nobody waits who need not."""

import subprocess
import time
from collections.abc import Callable, Iterator

import pytest
import redis

from app import limits
from app.api.application import create_app
from app.author import options
from app.author.options import Limit, Retry
from app.catalog.catalog import Catalog, Function
from app.enqueue import new_job, write
from app.lifecycle import actions
from app.redis.keys import LEASES, breaker_key
from app.settings import Settings
from app.worker.redis_session import RedisSession
from tests.conftest import RQ_WORKER, Project, status, until
from tests.e2e.test_losses import family

pytestmark = pytest.mark.concurrency(1, 20)
without_workers = pytest.mark.one_at_a_time("no worker is started")

SOURCE = """
import os, signal, time
from app import Breaker, Limit, job


def note(path: str, user: str, seconds: float = 0) -> None:
    began = time.time()
    time.sleep(seconds)
    with open(path, "a") as file:
        file.write(f"{user} {began} {time.time()}\\n")


def flaky(path: str, user: str) -> None:
    note(path, user)
    raise ConnectionError("no")


@job(breaker=Breaker(failures=3, window=60, cool_down=2))
def fragile(path: str) -> None:
    note(path, "fragile")
    raise ConnectionError("no")


@job(breaker=Breaker(failures=3, window=60, cool_down=2))
def deadly(path: str) -> None:
    note(path, "deadly")
    os.kill(os.getpid(), signal.SIGKILL)
"""
Runs = Callable[[], list[tuple[str, float, float]]]


@pytest.fixture
def crew(project: Project, valkey: redis.Redis) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Three workers, and the scheduler."""
    project.write("limited", SOURCE)
    processes = [project.start(*RQ_WORKER, "default", "other", LOG_LEVEL="ERROR") for _ in range(3)]
    processes.append(project.start("scheduler.py", LOG_LEVEL="ERROR"))
    until(lambda: valkey.zcard("jobline:leases") == 3 and valkey.get("rq:scheduler_lock"))
    yield processes
    for process in processes:
        process.terminate()
    for process in processes:
        process.communicate(timeout=10)


def put(valkey: redis.Redis, project: Project, user: str, seconds: float = 0, **said: object) -> str:
    def note(path: str, user: str, seconds: float = 0) -> None: ...

    arguments = [str(project.folder / "notes"), user, seconds]
    job = new_job.prepare(Function("limited.note", note), Settings(), arguments, {}, **said)
    write.enqueue(valkey, [job])
    return job.id


def runs(project: Project) -> list[tuple[str, float, float]]:
    """Who, when it began and when it ended, in the order of their beginnings."""
    notes = project.folder / "notes"
    lines = [line.split() for line in notes.read_text().splitlines()] if notes.exists() else []
    return sorted(((user, float(began), float(ended)) for user, began, ended in lines), key=lambda run: run[1])


def most_at_once(found: list[tuple[str, float, float]]) -> int:
    edges = sorted([(began, 1) for _, began, _ in found] + [(ended, -1) for _, _, ended in found])
    here = most = 0
    for _, step in edges:
        here += step
        most = max(most, here)
    return most


def test_no_more_begin_in_any_window_than_its_rate_says_and_no_fewer(
    crew: list[object], project: Project, valkey: redis.Redis
) -> None:
    ids = [put(valkey, project, str(number), rate_limit=Limit("10/s")) for number in range(45)]
    until(lambda: len(runs(project)) == 45)
    found = runs(project)
    begun = [began for _, began, _ in found]
    assert min(later - sooner for sooner, later in zip(begun, begun[10:], strict=False)) > 0.7  # on a busy machine
    assert begun[-1] - begun[0] < 6
    assert {status(valkey, job_id) for job_id in ids} == {"finished"}
    until(lambda: not valkey.keys("jobline:limit*"))  # nothing is left behind


@without_workers
def test_a_rate_is_exact_in_every_window(project: Project, valkey: redis.Redis) -> None:
    for number in range(32):
        put(valkey, project, str(number), rate_limit=Limit("10/s"))
    valkey.zadd(LEASES, {"w": 0})
    claims, taken = RedisSession(valkey, "w", give_up=lambda: True), list[tuple[float, float]]()
    while len(taken) < 32:
        limits.sweep(valkey)
        asked = time.monotonic()
        if isinstance(claims.claim(["default"], claims.new_executions(8)), list):
            taken.append((asked, time.monotonic()))
    assert min(later[1] - sooner[0] for sooner, later in zip(taken, taken[10:], strict=False)) >= 1
    assert taken[-1][1] - taken[0][0] < 3.5


@pytest.mark.parametrize(
    ("rate", "wait", "least", "most"),
    [("1/3s", 1, 3, 5), ("1/2s", 4, 4, 7), ("2/30s", 1, 1, 4)],
    ids=["for room", "for its own time, the later one", "for its own time, with room left"],
)
def test_a_retry_waits_for_its_time_and_for_room_and_no_longer(
    crew: list[object], project: Project, valkey: redis.Redis, rate: str, wait: int, least: float, most: float
) -> None:
    """Each attempt counts."""

    def flaky(path: str, user: str) -> None: ...

    said = {"rate_limit": Limit(rate), "retry": Retry(1, intervals=(wait,))}
    args = [str(project.folder / "notes"), "it"]
    job = new_job.prepare(Function("limited.flaky", flaky), Settings(), args, {}, **said)
    write.enqueue(valkey, [job])
    until(lambda: status(valkey, job.id) == "failed")
    first, second = (began for _, began, _ in runs(project))
    assert least - 0.1 < second - first < most  # a job begins some time after its claim, which is what counts


def test_no_more_run_at_once_than_the_concurrency_says_and_no_fewer(
    crew: list[object], project: Project, valkey: redis.Redis
) -> None:
    for number in range(20):
        put(valkey, project, str(number), 0.05, concurrency=Limit(2))
    until(lambda: len(runs(project)) == 20)
    found = runs(project)
    assert most_at_once(found) == 2
    assert found[-1][2] - found[0][1] < 2
    until(lambda: not valkey.keys("jobline:limit*"))


def test_a_limited_job_holds_up_none_behind_it(crew: list[object], project: Project, valkey: redis.Redis) -> None:
    for _ in range(500):
        put(valkey, project, "slow", rate_limit=Limit("1/h"))
    put(valkey, project, "free")
    until(lambda: any(user == "free" for user, _, _ in runs(project)), 3)


def test_a_key_with_many_jobs_starves_no_other(crew: list[object], project: Project, valkey: redis.Redis) -> None:
    for number in range(300):
        put(valkey, project, "many", 0.02, concurrency=Limit(1, key="{user}"), id=f"many-{number}")
    for _ in range(3):
        put(valkey, project, "few", 0.02, concurrency=Limit(1, key="{user}"))
    until(lambda: sum(user == "few" for user, _, _ in runs(project)) == 3, 5)
    assert most_at_once([run for run in runs(project) if run[0] == "many"]) == 1


def test_jobs_of_one_limit_begin_in_the_order_of_their_coming(
    crew: list[object], project: Project, valkey: redis.Redis
) -> None:
    for number in range(30):
        put(valkey, project, str(number), 0.01, concurrency=Limit(1))
    until(lambda: len(runs(project)) == 30)
    assert [user for user, _, _ in runs(project)] == [str(number) for number in range(30)]


def test_limits_count_the_queue_when_they_say_so(crew: list[object], project: Project, valkey: redis.Redis) -> None:
    for number in range(4):
        put(valkey, project, f"other-{number}", 0.1, queue="other", concurrency=Limit(1, by="queue"))
        put(valkey, project, f"default-{number}", 0.1, concurrency=Limit(1, by="queue"))
    until(lambda: len(runs(project)) == 8)
    assert most_at_once(runs(project)) == 2
    assert most_at_once([run for run in runs(project) if run[0].startswith("other")]) == 1


def test_the_place_of_a_killed_worker_is_free_again(
    crew: list[subprocess.Popen[bytes]], project: Project, valkey: redis.Redis
) -> None:
    first = put(valkey, project, "first", 60, concurrency=Limit(1))
    until(lambda: status(valkey, first) == "started")
    second = put(valkey, project, "second", concurrency=Limit(1))
    until(lambda: status(valkey, second) == "scheduled")
    for worker in crew[:3]:
        for horse in family(worker):
            horse.kill()
    until(lambda: status(valkey, first) == "failed")
    until(lambda: status(valkey, second) == "finished")


def test_a_job_that_waits_for_a_limit_can_be_canceled(
    crew: list[object], project: Project, valkey: redis.Redis
) -> None:
    put(valkey, project, "first", 1, concurrency=Limit(1))
    second, third = (put(valkey, project, user, concurrency=Limit(1)) for user in ("second", "third"))
    until(lambda: status(valkey, third) == "scheduled")
    actions.cancel(valkey, second)
    until(lambda: status(valkey, third) == "finished")
    assert [user for user, _, _ in runs(project)] == ["first", "third"]


@pytest.mark.parametrize("name", ["fragile", "deadly"])
def test_a_breaker_puts_jobs_off_and_lets_them_go_again(
    crew: list[object], project: Project, valkey: redis.Redis, name: str
) -> None:
    path = str(project.folder / "notes")

    @options.job(breaker=options.Breaker(3, 60, 2))
    def call(path: str) -> None: ...

    function = Function(f"limited.{name}", call)
    jobs = [new_job.prepare(function, Settings(), [path], {}) for _ in range(8)]
    for job in jobs[:3]:
        write.enqueue(valkey, [job])
        until(lambda: status(valkey, job.id) == "failed")  # noqa: B023 - called at once
    until(lambda: valkey.exists(breaker_key(function.name, "open")))  # the loss of a job is counted after its end
    opened = time.time()
    write.enqueue(valkey, jobs[3:])
    until(lambda: all(status(valkey, job.id) == "scheduled" for job in jobs[3:]))
    until(lambda: all(status(valkey, job.id) == "failed" for job in jobs))
    assert runs(project)[3][1] - opened > 1.5


@without_workers
def test_bad_limits_are_refused(valkey: redis.Redis) -> None:
    client = create_app(connection=valkey, catalog=Catalog()).test_client()
    for said, pointer in [
        ({"rate_limit": "often"}, "rate_limit"),
        ({"rate_limit": {"most": "1/s", "by": "user"}}, "by"),
        ({"concurrency": 0}, "concurrency"),
        ({"concurrency": {"most": 1, "key": "{nobody}"}}, "concurrency/key"),
    ]:
        answer = client.post("/api/v1/jobs", json={"function": "demo.add", "args": [1, 2], **said})
        assert (answer.status_code, answer.content_type) == (422, "application/problem+json")
        assert any(pointer in error["pointer"] for error in answer.json["errors"])
    assert valkey.keys("rq:*") == []
