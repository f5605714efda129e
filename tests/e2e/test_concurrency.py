"""CONCURRENCY above 1: many jobs at once in one work horse, in threads and on one event loop; each is as if alone."""

import functools
import os
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import psutil
import pytest
import redis
import rq
from PIL import Image
from rq.command import send_stop_job_command
from rq.serializers import JSONSerializer

from app.author.options import Limit, Retry
from app.catalog.catalog import Catalog
from app.enqueue import new_job, write
from app.settings import Settings
from app.views import job_view, listing
from tests.conftest import ROOT, RQ_WORKER, Project, status, until
from tests.invariants import broken
from tests.receiver import Receiver

SOURCE = """
import asyncio
import contextvars
import os
import time

import structlog
from rq import Retry as Again
from rq import get_current_job
from rq.timeouts import JobTimeoutException

from app import Discard, job, progress

mark = contextvars.ContextVar("mark", default="none")
log = structlog.get_logger("mine")


def nap(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


async def anap(seconds: float) -> int:
    await asyncio.sleep(seconds)
    return os.getpid()


def catches(seconds: float) -> str:
    try:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(0.01)
    except JobTimeoutException as error:
        return f"caught: {error}"
    return "not interrupted"


async def acatches(seconds: float) -> str:
    try:
        await asyncio.sleep(seconds)
    except JobTimeoutException as error:
        await asyncio.sleep(0.01)
        return f"caught: {error}"
    return "not interrupted"


def waits(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.01)


async def awaits(seconds: float) -> None:
    await asyncio.sleep(seconds)


def deaf(seconds: float) -> None:
    time.sleep(seconds)


async def adeaf(seconds: float) -> None:
    while True:
        try:
            await asyncio.sleep(seconds)
        except BaseException:
            pass


def itself(name: str) -> list[str]:
    first = get_current_job().id
    mark.set(name)
    progress.update(1, 2, name)
    log.warning("said", name=name)
    time.sleep(0.2)
    return [first, get_current_job().id, mark.get()]


async def aitself(name: str) -> list[str]:
    first = get_current_job().id
    mark.set(name)
    progress.update(1, 2, name)
    log.warning("said", name=name)
    await asyncio.sleep(0.2)
    in_task = await asyncio.create_task(_of_task())
    in_thread = await asyncio.to_thread(lambda: get_current_job().id)
    return [first, get_current_job().id, mark.get(), in_task, in_thread]


async def _of_task() -> str:
    await asyncio.sleep(0)
    return get_current_job().id


def fails(message: str) -> None:
    time.sleep(0.05)
    raise ValueError(message)


async def afails(message: str) -> None:
    await asyncio.sleep(0.05)
    raise ValueError(message)


def discards() -> None:
    raise Discard("no")


def again() -> object:
    return Again(max=1) if get_current_job().attempt == 1 else "twice"


def leaves() -> None:
    raise SystemExit(3)


async def aleaves() -> None:
    raise SystemExit(3)


async def blocks(seconds: float) -> None:
    time.sleep(seconds)


async def leaves_tasks() -> int:
    asyncio.create_task(asyncio.sleep(60), name="left")
    return 1


running = set()


@job(alone=True)
def lone(seconds: float) -> list[str]:
    return _with_whom(seconds)


@job(alone=True)
async def alone(seconds: float) -> list[str]:
    running.add(get_current_job().id)
    before = sorted(running)
    await asyncio.sleep(seconds)
    running.discard(get_current_job().id)
    return before


def together(seconds: float) -> list[str]:
    return _with_whom(seconds)


def _with_whom(seconds: float) -> list[str]:
    running.add(get_current_job().id)
    before = sorted(running)
    time.sleep(seconds)
    running.discard(get_current_job().id)
    return before
"""

BOTH = pytest.mark.parametrize("kind", ["", "a"], ids=["thread", "coroutine"])
Put = Callable[..., list[str]]
Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start(project: Project, valkey: redis.Redis, started: list[subprocess.Popen[bytes]]) -> Start:
    project.write("many", SOURCE)

    def begin(*words: str, concurrency: int = 5, **environment: str) -> subprocess.Popen[bytes]:
        before = valkey.zcard("jobline:leases")
        environment = {"CONCURRENCY": str(concurrency), "LOG_LEVEL": "WARNING", "LOG_FORMAT": "json", **environment}
        started.append(project.start(*RQ_WORKER, *(words or ("default",)), **environment))
        until(lambda: valkey.zcard("jobline:leases") > before)
        return started[-1]

    return begin


@pytest.fixture
def put(project: Project, valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> Put:
    project.write("many", SOURCE)
    settings = Settings()

    def enqueue(name: str, *args: Any, count: int = 1, **options: Any) -> list[str]:
        queue = options.pop("queue", "default")
        jobs = []
        for number in range(count):
            function = _function(name)
            job_id = f"{options.get('id', name)}-{number}" if count > 1 else options.get("id", name)
            given = {key: value for key, value in options.items() if key != "id"}
            jobs.append(new_job.prepare(function, settings, list(args), {}, id=job_id, queue=queue, **given))
        write.enqueue(valkey, jobs)
        return [job.id for job in jobs]

    return enqueue


@functools.cache
def _function(name: str) -> Any:
    """The function as the catalogue of another process knows it: only its path and options are read here."""
    known = Catalog().get("demo.sleep")
    return type("Function", (), {"path": f"jobs.many.{name}", "name": f"many.{name}", "options": known.options})()


def states(connection: redis.Redis, ids: list[str]) -> Counter[str]:
    """How many jobs have which status, all at one moment."""
    with connection.pipeline() as pipeline:
        for job_id in ids:
            pipeline.hget(f"rq:job:{job_id}", "status")
        return Counter(found.decode() for found in pipeline.execute())


def job(connection: redis.Redis, job_id: str) -> dict[str, Any]:
    [found] = job_view.fetch(connection, [job_id])
    assert found
    return found


@BOTH
def test_as_many_run_at_once_as_there_are_places_and_no_more_are_claimed(
    valkey: redis.Redis, start: Start, put: Put, kind: str
) -> None:
    ids = put(f"{kind}nap", 1.5, count=8)
    start(concurrency=3)
    until(lambda: states(valkey, ids)["started"] == 3)
    time.sleep(0.3)
    assert (valkey.zcard("rq:wip:default"), valkey.llen("rq:queue:default")) == (3, 5)
    until(lambda: states(valkey, ids) == {"finished": 8})
    assert len({job(valkey, job_id)["result"] for job_id in ids}) == 1  # one process
    until(lambda: broken(valkey) == [])


def test_functions_of_both_kinds_share_the_places(valkey: redis.Redis, start: Start, put: Put) -> None:
    ids = put("nap", 1, count=5) + put("anap", 1, count=5, queue="low")
    start("default", "low", concurrency=10)
    until(lambda: states(valkey, ids)["started"] == 10)
    until(lambda: states(valkey, ids) == {"finished": 10})


def test_a_job_that_comes_while_others_run_begins_at_once(valkey: redis.Redis, start: Start, put: Put) -> None:
    put("nap", 5, count=3)
    start(concurrency=5)
    until(lambda: valkey.zcard("rq:wip:default") == 3)
    began = time.monotonic()
    [late] = put("anap", 0)
    until(lambda: status(valkey, late) == "finished", 2)
    assert time.monotonic() - began < 1


@BOTH
def test_a_timeout_is_raised_in_its_job_alone_and_can_be_caught(
    valkey: redis.Redis, start: Start, put: Put, kind: str
) -> None:
    [caught] = put(f"{kind}catches", 30, timeout=1)
    [failed] = put(f"{kind}waits", 30, timeout=1)
    others = put(f"{kind}nap", 3, count=3)
    start(concurrency=5)
    until(lambda: (status(valkey, caught), status(valkey, failed)) == ("finished", "failed"), 10)
    assert job(valkey, caught)["result"] == "caught: Task exceeded maximum timeout value (1 seconds)"
    assert job(valkey, failed)["error"]["type"].endswith("JobTimeoutException")
    until(lambda: states(valkey, others) == {"finished": 3})


def test_a_timeout_is_raised_in_a_thread_where_a_coroutine_was_waited_for_before(
    valkey: redis.Redis, start: Start, put: Put
) -> None:
    before = put("anap", 0.5, count=2)
    start(concurrency=2)
    until(lambda: states(valkey, before) == {"finished": 2})
    [caught] = put("catches", 30, timeout=1)
    until(lambda: status(valkey, caught) == "finished", 10)
    assert job(valkey, caught)["result"] == "caught: Task exceeded maximum timeout value (1 seconds)"


@BOTH
def test_a_job_that_does_not_heed_its_timeout_is_cut_off_and_others_go_on(
    valkey: redis.Redis, start: Start, put: Put, kind: str
) -> None:
    [deaf] = put(f"{kind}deaf", 60, timeout=1)
    [short] = put("nap", 3, id="short")
    [long] = put("anap", 60, id="long")
    start(concurrency=3, TIMEOUT_GRACE="1", SHUTDOWN_GRACE="4")
    until(lambda: status(valkey, deaf) == "failed", 10)
    assert "did not end within" in job(valkey, deaf)["error"]["message"]
    until(lambda: status(valkey, short) == "finished")
    until(lambda: job(valkey, long)["attempts"] == 2)  # given back, and begun by the next work horse
    assert (status(valkey, long), job(valkey, long)["retries_left"]) == ("started", 0)


@BOTH
def test_one_is_stopped_within_a_second_and_the_others_go_on(
    valkey: redis.Redis, start: Start, put: Put, kind: str
) -> None:
    [victim] = put(f"{kind}waits", 60, retry=Retry(3))
    others = put(f"{kind}nap", 3, count=4)
    start(concurrency=5)
    until(lambda: states(valkey, [victim, *others]) == {"started": 5})
    began = time.monotonic()
    send_stop_job_command(valkey, victim)
    until(lambda: status(valkey, victim) == "stopped", 5)
    assert time.monotonic() - began < 1
    until(lambda: states(valkey, others) == {"finished": 4})
    [after] = put(f"{kind}nap", 0, id="after")  # the work horse has gone on
    until(lambda: status(valkey, after) == "finished")
    assert job(valkey, after)["result"] == job(valkey, others[0])["result"]


@BOTH
def test_a_signal_lets_them_finish_and_gives_back_the_rest(
    valkey: redis.Redis, start: Start, put: Put, kind: str
) -> None:
    short, long = put(f"{kind}nap", 1.5, count=3, id="short"), put(f"{kind}nap", 60, count=2, id="long")
    rest = put(f"{kind}nap", 0, count=3, id="rest")
    process = start(concurrency=5, SHUTDOWN_GRACE="3")
    until(lambda: states(valkey, [*short, *long]) == {"started": 5})
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert (states(valkey, short), states(valkey, long + rest)) == ({"finished": 3}, {"queued": 5})
    assert [job(valkey, job_id)["retries_left"] for job_id in long] == [0, 0]
    assert valkey.lrange("rq:queue:default", 0, 1) in ([b"long-0", b"long-1"], [b"long-1", b"long-0"])
    assert broken(valkey) == []


@BOTH
def test_when_the_work_horse_is_killed_each_is_settled_by_its_policy(
    valkey: redis.Redis, start: Start, put: Put, kind: str
) -> None:
    plain, retried = (
        put(f"{kind}nap", 60, count=2, id="plain"),
        put(f"{kind}nap", 1.5, count=3, retry=Retry(1, intervals=(0,))),
    )
    process = start(concurrency=5)
    until(lambda: states(valkey, plain + retried) == {"started": 5})
    [horse] = psutil.Process(process.pid).children()
    os.kill(horse.pid, signal.SIGKILL)

    until(lambda: states(valkey, plain) == {"failed": 2})
    until(lambda: states(valkey, retried) == {"finished": 3})
    assert {job(valkey, job_id)["attempts"] for job_id in retried} == {2}
    until(lambda: broken(valkey) == [])


@BOTH
def test_what_belongs_to_a_job_follows_it(valkey: redis.Redis, start: Start, put: Put, kind: str) -> None:
    ids = [put(f"{kind}itself", name, id=name)[0] for name in ("one", "two", "three")]
    process = start("--burst", "default", concurrency=3)
    output, _ = process.communicate(timeout=30)
    for job_id in ids:
        found = job(valkey, job_id)
        assert set(found["result"]) == {job_id}, found["error"]
        assert found["progress"]["message"] == job_id
    said = [line for line in output.decode().splitlines() if '"said"' in line]
    assert len(said) == 3
    assert all(f'"job_id":"{name}"' in line for name in ids for line in said if f'"name":"{name}"' in line)


@BOTH
def test_ends_of_all_kinds(valkey: redis.Redis, start: Start, put: Put, kind: str) -> None:
    failed = put(f"{kind}fails", "no", count=3)
    retried = put(f"{kind}fails", "again", count=3, id="retried", retry=Retry(1, intervals=(0,)))
    [discarded] = put("discards", retry=Retry(3))
    [again] = put("again")
    [left] = put(f"{kind}leaves")
    [child] = put(f"{kind}nap", 0, id="child", depends_on=put(f"{kind}nap", 0.2, id="parent"))
    [gone] = put(f"{kind}nap", 0, id="gone", result_ttl=0)
    ids = [*failed, *retried, discarded, again, left, child]
    start(concurrency=5)
    until(lambda: not states(valkey, ids).keys() & {"queued", "started", "deferred", "scheduled"})
    assert states(valkey, failed + retried + [discarded, left]) == {"failed": 8}
    assert {job(valkey, job_id)["attempts"] for job_id in retried} == {2}
    assert (job(valkey, again)["result"], job(valkey, again)["attempts"]) == ("twice", 2)
    assert (status(valkey, child), job(valkey, discarded)["attempts"]) == ("finished", 1)
    until(lambda: not valkey.exists(f"rq:job:{gone}"))
    until(lambda: broken(valkey) == [])


@BOTH
def test_limits_hold_within_one_worker(valkey: redis.Redis, start: Start, put: Put, kind: str) -> None:
    function = _function(f"{kind}nap")
    settings = Settings()
    jobs = [
        new_job.prepare(function, settings, [0.3], {}, id=f"limited-{number}", concurrency=Limit(2))
        for number in range(6)
    ]
    write.enqueue(valkey, jobs)
    start(concurrency=5)
    most = 0
    deadline = time.monotonic() + 20
    while states(valkey, [made.id for made in jobs])["finished"] < 6 and time.monotonic() < deadline:
        most = max(most, states(valkey, [made.id for made in jobs])["started"])
        time.sleep(0.01)
    assert most == 2
    until(lambda: broken(valkey) == [])


def test_a_job_with_callbacks_is_ended_by_rq(valkey: redis.Redis, start: Start, put: Put) -> None:
    queue = rq.Queue("default", connection=valkey, serializer=JSONSerializer)
    for number in range(4):
        queue.enqueue(
            "jobs.many.nap", 0.3, job_id=f"called-{number}", on_success=rq.Callback("jobs.demo.add"), failure_ttl=60
        )
    others = put("anap", 0.3, count=4)
    start(concurrency=8)
    until(lambda: states(valkey, others) == {"finished": 4})
    ids = [f"called-{number}" for number in range(4)]
    until(lambda: not states(valkey, ids).keys() & {"queued", "started"})
    until(lambda: broken(valkey) == [])


def test_a_job_that_blocks_the_event_loop_is_named(valkey: redis.Redis, start: Start, put: Put) -> None:
    put("blocks", 3)
    process = start("--burst", "default", concurrency=5)
    output, _ = process.communicate(timeout=30)
    [line] = [line for line in output.decode().splitlines() if "blocks the event loop" in line]
    assert '"job_id":"blocks"' in line
    assert "time.sleep(seconds)" in line


def test_tasks_left_behind_are_cancelled_and_those_of_others_are_not(
    valkey: redis.Redis, start: Start, put: Put
) -> None:
    others = put("anap", 1, count=3)
    [tidy] = put("leaves_tasks")
    process = start("--burst", "default", concurrency=5)
    output, _ = process.communicate(timeout=30)
    assert states(valkey, [tidy, *others]) == {"finished": 4}
    [line] = [line for line in output.decode().splitlines() if "left behind" in line]
    assert "left" in line


def test_the_worker_shows_its_oldest_job_and_is_busy_while_one_runs(
    valkey: redis.Redis, start: Start, put: Put
) -> None:
    [old] = put("nap", 8, id="old")
    start(concurrency=5)
    until(lambda: status(valkey, old) == "started")
    put("anap", 0, count=3)
    until(lambda: listing.workers(valkey)[0][0]["current_job"] == "old", 10)
    [worker], _ = listing.workers(valkey)
    assert worker["state"] == "busy"
    until(lambda: status(valkey, old) == "finished")
    until(lambda: listing.workers(valkey)[0][0]["state"] == "idle")


def test_a_horse_is_replaced_after_its_jobs(valkey: redis.Redis, start: Start, put: Put) -> None:
    ids = put("nap", 0.05, count=30)
    start(concurrency=5, HORSE_JOBS="10")
    until(lambda: states(valkey, ids) == {"finished": 30})
    assert len({job(valkey, job_id)["result"] for job_id in ids}) >= 2
    until(lambda: broken(valkey) == [])


@BOTH
def test_the_next_horse_begins_before_the_jobs_of_the_last_have_ended(
    valkey: redis.Redis, start: Start, put: Put, kind: str
) -> None:
    long = put(f"{kind}nap", 6, count=5, id="long")
    process = start(concurrency=5, HORSE_JOBS="5")
    until(lambda: states(valkey, long) == {"started": 5})
    short = put(f"{kind}nap", 0, count=4, id="short")
    until(lambda: states(valkey, short) == {"finished": 4}, 5)
    assert states(valkey, long) == {"started": 5}
    assert len(psutil.Process(process.pid).children()) == 2
    until(lambda: states(valkey, long) == {"finished": 5})
    assert {job(valkey, job_id)["attempts"] for job_id in long} == {1}
    assert job(valkey, long[0])["result"] != job(valkey, short[0])["result"]
    until(lambda: len(psutil.Process(process.pid).children()) == 1)
    until(lambda: broken(valkey) == [])


def test_when_a_horse_whose_jobs_end_is_killed_the_next_one_goes_on(
    valkey: redis.Redis, start: Start, put: Put
) -> None:
    old = put("nap", 60, count=5, id="old")
    process = start(concurrency=5, HORSE_JOBS="5")
    until(lambda: states(valkey, old) == {"started": 5})
    new = put("nap", 5, count=3, id="new")
    until(lambda: states(valkey, new) == {"started": 3})
    first = min(psutil.Process(process.pid).children(), key=psutil.Process.create_time)
    os.kill(first.pid, signal.SIGKILL)
    until(lambda: states(valkey, old) == {"failed": 5})
    until(lambda: states(valkey, new) == {"finished": 3})
    assert {job(valkey, job_id)["attempts"] for job_id in new} == {1}
    [after] = put("nap", 0, id="after")
    until(lambda: status(valkey, after) == "finished")
    until(lambda: broken(valkey) == [])


SLOW_TO_HEAR_OF_ENDS = """
import sys, time
from app.worker.concurrent_horse import ConcurrentHorse

take_messages = ConcurrentHorse._take_messages


def late(horse):
    if horse._running:
        time.sleep(0.1)
    take_messages(horse)


ConcurrentHorse._take_messages = late
from rq.cli import main

sys.argv = ["rq", "worker", "-w", "app.worker.Worker", "-c", "app.worker_config", "--burst"]
main()
"""


def test_a_burst_does_not_end_by_what_was_seen_before_its_last_jobs_ended(
    project: Project, valkey: redis.Redis, put: Put
) -> None:
    """The next claim is sent before the jobs of the last one begin: these may come back to the queue."""
    ids = put("fails", "no", count=3, retry=Retry(1, intervals=(0,)))
    project.start("-c", SLOW_TO_HEAR_OF_ENDS, CONCURRENCY="5").communicate(timeout=30)
    assert [job(valkey, job_id)["attempts"] for job_id in ids] == [2, 2, 2]


def test_max_jobs_counts_all_places(valkey: redis.Redis, start: Start, put: Put) -> None:
    ids = put("nap", 0.05, count=12)
    start("--max-jobs", "7", "default", concurrency=5).communicate(timeout=30)
    assert states(valkey, ids) == {"finished": 7, "queued": 5}


def test_nothing_is_lost_with_its_connections(valkey: redis.Redis, start: Start, put: Put) -> None:
    ids = put("anap", 0.02, count=200)
    start(concurrency=20)
    until(lambda: states(valkey, ids)["finished"] > 20)
    valkey.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    until(lambda: states(valkey, ids) == {"finished": 200})
    until(lambda: broken(valkey) == [])


def test_the_jobs_that_come_with_the_service_may_run_at_once(
    project: Project, valkey: redis.Redis, receiver: Receiver
) -> None:
    for module in (ROOT / "jobs").glob("*.py"):
        shutil.copy(module, project.folder / "jobs" / module.name)
    storage, settings, catalog = project.folder / "storage", Settings(), Catalog()
    storage.mkdir()
    Image.new("RGB", (400, 300), "red").save(storage / "picture.png")
    for number in range(6):
        rows = "".join(f"{number},{row}\n" for row in range(500))
        (storage / f"rows-{number}.csv").write_text(f"file,row\n{rows}")

    def prepare(name: str, **kwargs: Any) -> Any:
        return new_job.prepare(catalog.get(name), settings, [], kwargs)

    def run(jobs: list[Any]) -> list[Any]:
        write.enqueue(valkey, jobs)
        environment = {"STORAGE_DIR": str(storage), "FETCH_ALLOW_HOSTS": "127.0.0.1", "CONCURRENCY": "8"}
        output = project.work("high", "default", "low", "email", **environment)
        found = [job(valkey, made.id) for made in jobs]
        assert {one["status"] for one in found} == {"finished"}, output
        return [one["result"] for one in found]

    loaded = run([prepare("imports.load_csv", path=f"rows-{number}.csv", table="all_rows") for number in range(6)])
    assert [result["inserted"] for result in loaded] == [500] * 6
    others = [
        *(prepare("exports.dump_csv", table="all_rows", path=f"dump-{number}.csv") for number in range(4)),
        *(prepare("images.process", path="picture.png", width=50 + number) for number in range(4)),
        *(prepare("email.send_message", to="a@example.com", subject=str(number), text="Hello") for number in range(4)),
        *(prepare("web.fetch", url=f"{receiver.base}/ok", save_as=f"page-{number}") for number in range(4)),
    ]
    run(others)
    dumps = [sorted((storage / f"dump-{number}.csv").read_text().splitlines()) for number in range(4)]
    assert [len(dump) for dump in dumps] == [3001] * 4


@pytest.mark.parametrize("lone", ["lone", "alone"], ids=["thread", "coroutine"])
def test_a_job_that_wants_to_be_alone_runs_beside_no_other(
    valkey: redis.Redis, start: Start, put: Put, lone: str
) -> None:
    ids = []
    for number in range(4):
        ids += put("together", 0.05, count=7, id=f"together-{number}")
        ids += put(lone, 0.05, count=2, id=f"lone-{number}")
    process = start(concurrency=5)
    until(lambda: states(valkey, ids) == {"finished": len(ids)})
    for job_id in ids:
        beside = job(valkey, job_id)["result"]
        assert beside == [job_id] if job_id.startswith("lone") else not any("lone" in other for other in beside)
    assert max(len(job(valkey, job_id)["result"]) for job_id in ids) > 1  # the others ran together
    assert {job(valkey, job_id)["attempts"] for job_id in ids} == {1}
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert broken(valkey) == []


def test_a_job_that_wants_to_be_alone_waits_for_no_worker_that_is_busy(
    valkey: redis.Redis, start: Start, put: Put
) -> None:
    [long] = put("nap", 60)
    start(concurrency=5)
    until(lambda: status(valkey, long) == "started")
    [lone] = put("lone", 0)
    until(lambda: valkey.lrange("rq:queue:default", 0, -1) == [b"lone"] and valkey.zcard("rq:wip:default") == 1)
    start(concurrency=5)
    until(lambda: status(valkey, lone) == "finished")
    assert status(valkey, long) == "started"
