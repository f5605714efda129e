"""Real scheduler processes: killed, paused, edited, and with a Redis that goes away and comes back."""

import math
import re
import signal
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psutil
import pytest
import redis
import rq
from rq.serializers import JSONSerializer

from app.catalog.catalog import Catalog
from app.schedules import every, manage
from app.schedules.lease import LEASE_SECONDS
from app.schedules.rule import Schedule
from app.settings import Settings
from app.views import job_view
from tests.conftest import ROOT, Project, Server, status, until

QUEUE = "rq:queue:default"
STEP = timedelta(seconds=0.25)

FAILING = """
import pathlib
import time


def fail(note: str) -> None:
    pathlib.Path(note).write_text(str(time.time()))
    raise RuntimeError
"""

Started = list[subprocess.Popen[bytes]]


@pytest.fixture
def scheduler(project: Project, started: Started) -> Callable[..., subprocess.Popen[bytes]]:
    """Starts a scheduler; nobody reads what it prints."""
    declare(project)

    def start(**environment: str) -> subprocess.Popen[bytes]:
        started.append(project.start("scheduler.py", **{"LOG_LEVEL": "ERROR", **environment}))
        return started[-1]

    return start


def declare(project: Project, *schedules: dict[str, Any]) -> None:
    """The project's own scheduler.py, with these schedules."""
    file = project.folder / "scheduler.py"
    text = re.sub(r"(?s)SCHEDULES = .*?\n]", f"SCHEDULES = {list(schedules)}", (ROOT / "scheduler.py").read_text())
    file.unlink()
    file.write_text(text)


def put(connection: redis.Redis, name: str, start: datetime, **said: Any) -> None:
    """A schedule of every STEP that leaves nothing out."""
    rule = {"function": "demo.add", "args": [1, 2], "interval": STEP.total_seconds(), "catch_up": "all"}
    schedule = Schedule.model_validate({"name": name, **rule, "start": start, **said})
    manage.put(connection, Catalog(), Settings(), schedule, start - STEP, declared=False)


def runs(connection: redis.Redis) -> list[tuple[str, datetime]]:
    """The schedule and the due moment of each queued run, in their order."""
    ids = [job_id.decode() for job_id in connection.lrange(QUEUE, 0, -1)]
    jobs = job_view.fetch(connection, ids)
    return [(job["schedule"], datetime.fromisoformat(job["scheduled_for"])) for job in jobs if job]


def each_once(name: str, start: datetime, count: int) -> list[tuple[str, datetime]]:
    return [(name, start + number * STEP) for number in range(count)]


def leaders(connection: redis.Redis) -> list[int]:
    """Pids of the schedulers that say that they lead."""
    found = [connection.hgetall(key) for key in connection.smembers("jobline:schedulers")]
    return [int(one[b"pid"]) for one in found if one.get(b"leads") == b"1"]


def leads(connection: redis.Redis, process: subprocess.Popen[bytes]) -> bool:
    return process.pid in leaders(connection)


def goes_on(connection: redis.Redis, runs: int = 8, seconds: float = 20) -> None:
    """Until so many more runs are queued."""
    before = connection.llen(QUEUE)
    until(lambda: connection.llen(QUEUE) >= before + runs, seconds)


def test_schedules_that_are_edited_while_it_runs_are_taken_over(
    project: Project, valkey: redis.Redis, scheduler: Callable[..., subprocess.Popen[bytes]]
) -> None:
    kept, gone, new = (every("demo.add", name=name, hours=1, args=[1, 2]) for name in ("kept", "gone", "new"))
    declare(project, kept, gone)
    process = scheduler(RELOAD="1")
    until(lambda: valkey.zrange("jobline:schedules", 0, -1) == [b"gone", b"kept"])
    due = valkey.zscore("rq:scheduler:scheduled_jobs", "schedule-kept")
    declare(project, kept, new)
    until(lambda: valkey.zrange("jobline:schedules", 0, -1) == [b"kept", b"new"])
    assert valkey.zscore("rq:scheduler:scheduled_jobs", "schedule-kept") == due
    until(lambda: leaders(valkey) == [process.pid])


def test_another_takes_over_within_ten_seconds_when_the_one_that_leads_is_killed(
    valkey: redis.Redis, scheduler: Callable[..., subprocess.Popen[bytes]]
) -> None:
    start = datetime.now(UTC)
    put(valkey, "s", start)
    first = scheduler()
    until(lambda: leads(valkey, first))
    scheduler()
    until(lambda: valkey.scard("jobline:schedulers") == 2)
    goes_on(valkey)
    first.kill()
    first.wait()
    goes_on(valkey, runs=1, seconds=10)
    goes_on(valkey)
    found = runs(valkey)
    assert found == each_once("s", start, len(found))


def test_one_that_was_paused_for_longer_than_its_lease_stands_by_when_it_wakes_up(
    valkey: redis.Redis, scheduler: Callable[..., subprocess.Popen[bytes]]
) -> None:
    start = datetime.now(UTC)
    put(valkey, "s", start)
    first = scheduler()
    until(lambda: leads(valkey, first))
    second = scheduler()
    goes_on(valkey)
    psutil.Process(first.pid).suspend()
    until(lambda: leads(valkey, second), LEASE_SECONDS + 3)
    goes_on(valkey)
    psutil.Process(first.pid).resume()
    until(lambda: leaders(valkey) == [second.pid])
    goes_on(valkey)
    assert leaders(valkey) == [second.pid]
    found = runs(valkey)
    assert found == each_once("s", start, len(found))


def test_a_redis_that_is_killed_and_comes_back_doubles_and_drops_nothing(
    server: Server, scheduler: Callable[..., subprocess.Popen[bytes]]
) -> None:
    server.start()
    start, count, names = datetime.now(UTC), 40, ("a", "b", "c")
    for name in names:
        put(server.connection, name, start, max_runs=count)
    crew = [scheduler(REDIS_URL=server.url) for _ in range(3)]
    for _ in range(3):
        goes_on(server.connection, len(names))
        server.kill()
        time.sleep(0.5)
        server.start()
    until(lambda: server.connection.zcard("rq:scheduler:scheduled_jobs") == 0, 30)
    assert Counter(runs(server.connection)) == Counter(run for name in names for run in each_once(name, start, count))
    assert [process.poll() for process in crew] == [None] * 3


def knocked(port: int) -> None:
    """Until somebody connects to a port where nobody is at home."""
    with socket.create_server(("127.0.0.1", port)) as door:
        door.settimeout(20)
        door.accept()[0].close()


def test_it_waits_for_a_redis_that_comes_later(
    server: Server, scheduler: Callable[..., subprocess.Popen[bytes]]
) -> None:
    process = scheduler(REDIS_URL=server.url)
    knocked(server.port)
    server.start()
    until(lambda: leads(server.connection, process))
    assert process.poll() is None


@pytest.mark.parametrize("away", ["from the start", "later", "silent"])
def test_it_stops_at_once_although_redis_is_away(
    server: Server, scheduler: Callable[..., subprocess.Popen[bytes]], away: str
) -> None:
    if away == "from the start":
        process = scheduler(REDIS_URL=server.url)
        knocked(server.port)
    else:
        server.start()
        process = scheduler(REDIS_URL=server.url)
        until(lambda: leads(server.connection, process))
        assert server.process
        server.process.send_signal(signal.SIGKILL if away == "later" else signal.SIGSTOP)
    began = time.monotonic()
    process.terminate()
    assert process.wait(20) == 0
    assert time.monotonic() - began < 2


def test_rqs_delayed_jobs_and_retries_are_queued_within_a_second(
    project: Project, valkey: redis.Redis, scheduler: Callable[..., subprocess.Popen[bytes]]
) -> None:
    project.write("failing", FAILING)
    note = project.folder / "note"
    scheduler()
    until(lambda: leaders(valkey))
    queue = rq.Queue(connection=valkey, serializer=JSONSerializer)
    meant = {"delayed": datetime.now(UTC) + timedelta(seconds=1)}
    queue.enqueue_in(timedelta(seconds=1), "jobs.demo.add", 1, 2, job_id="delayed")
    queue.enqueue("jobs.failing.fail", str(note), job_id="retried", retry=rq.Retry(max=1, interval=1))
    project.work("default")
    meant["retried"] = datetime.fromtimestamp(math.ceil(float(note.read_text()) + 1), UTC)  # a retry is never early
    for job_id, moment in meant.items():
        until(lambda job_id=job_id: status(valkey, job_id) in ("queued", "finished"))  # type: ignore[misc]
        queued_at = rq.job.Job.fetch(job_id, connection=valkey, serializer=JSONSerializer).enqueued_at
        assert -1 <= (queued_at - moment).total_seconds() < 1  # RQ keeps the second in which it is due
