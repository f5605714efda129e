"""A Redis without memory left, and clocks that jump: living workers and what they run are left alone."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from app.lifecycle import executions, lost_workers, recovery
from app.lifecycle.executions import mark_of
from app.lifecycle.lost_workers import LOOKS_BEFORE_LOST, Sweeper
from app.redis.keys import LEASES
from app.worker.horse_monitor import BEAT
from app.worker.redis_session import EXECUTION_TTL_SECONDS
from tests.conftest import Project, Server, status, until

NAME = "w1"
EXECUTION = mark_of(NAME) + "0" * 20


@pytest.fixture
def full(server: Server) -> Iterator[redis.Redis]:
    """A Valkey whose memory is full, and on which a worker runs a job."""
    server.start()
    connection = server.connection
    running(connection, time.time() + EXECUTION_TTL_SECONDS)
    connection.config_set("maxmemory", "1")
    with pytest.raises(redis.OutOfMemoryError):
        connection.set("key", "value")
    yield connection
    connection.config_set("maxmemory", "0")


@pytest.fixture(autouse=True)
def _look_always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lost_workers, "SWEEP_INTERVAL_SECONDS", 0.0)


def running(connection: redis.Redis, until_: float) -> None:
    connection.hset(f"rq:worker:{NAME}", mapping={"birth": "x", "queues": "default"})
    connection.zadd(LEASES, {NAME: 1})
    connection.sadd("rq:queues", "rq:queue:default")
    connection.hset("rq:job:job", mapping={"status": "started", "origin": "default", "worker_name": NAME})
    connection.zadd("rq:wip:default", {f"job:{EXECUTION}": until_})


def beat(connection: redis.Redis) -> list[Any]:
    return list(
        BEAT(
            connection,
            ["default", "job", EXECUTION, 5.0],
            worker=NAME,
            now="now",
            worker_kept=480,
            horse_moves=1,
            now_seconds=time.time(),
            execution_kept=EXECUTION_TTL_SECONDS,
        )
    )


def test_a_live_worker_is_heard_while_memory_is_full(full: redis.Redis) -> None:
    before = full.zscore("rq:wip:default", f"job:{EXECUTION}") or 0.0
    assert beat(full) == [1, 1]
    assert full.zscore(LEASES, NAME) == 2
    assert (full.zscore("rq:wip:default", f"job:{EXECUTION}") or 0.0) >= before


def test_nobody_is_given_up_while_memory_is_full(full: redis.Redis) -> None:
    sweeper = Sweeper(full)
    for _ in range(3 * LOOKS_BEFORE_LOST):
        with pytest.raises(redis.OutOfMemoryError):
            sweeper.sweep()
    full.config_set("maxmemory", "0")
    sweeper.sweep()
    assert (status(full, "job"), full.zcard(LEASES), full.zcard("rq:wip:default")) == ("started", 1, 1)


def test_nothing_is_half_recovered_while_memory_is_full(full: redis.Redis) -> None:
    before = {key: full.dump(key) for key in full.keys()}
    with pytest.raises(redis.OutOfMemoryError):
        recovery.recover(full, executions.Execution("default", "job", EXECUTION), recovery.LOST, recovery.policy)
    assert {key: full.dump(key) for key in full.keys()} == before


def test_a_worker_that_is_dead_is_given_up_as_ever(full: redis.Redis) -> None:
    full.config_set("maxmemory", "0")
    sweeper = Sweeper(full)
    for _ in range(LOOKS_BEFORE_LOST + 2):
        sweeper.sweep()
    assert (status(full, "job"), full.zcard(LEASES), full.zcard("rq:wip:default")) == ("failed", 0, 0)


def test_jobs_run_to_their_end_while_memory_is_full(server: Server, tmp_path: Any) -> None:
    server.start()
    connection, project = server.connection, Project(tmp_path / "project", server.url)
    project.write("slow", "import time\n\n\ndef nap() -> int:\n    time.sleep(4)\n    return 1\n")
    worker = project.start("-m", "rq.cli", "worker", "-w", "app.worker.Worker", "-c", "app.worker_config")
    try:
        from rq import Queue
        from rq.serializers import JSONSerializer

        Queue("default", connection=connection, serializer=JSONSerializer).enqueue("jobs.slow.nap", job_id="job")
        until(lambda: status(connection, "job") == "started")
        connection.config_set("maxmemory", "1")
        before = connection.zscore(LEASES, connection.zrange(LEASES, 0, 0)[0])
        until(lambda: status(connection, "job") == "finished")
        assert connection.zscore(LEASES, connection.zrange(LEASES, 0, 0)[0]) != before
    finally:
        connection.config_set("maxmemory", "0")
        worker.terminate()
        worker.wait(10)


def test_a_clock_put_forward_ends_no_job_of_a_live_worker(valkey: redis.Redis, monkeypatch: Any) -> None:
    """The lease of the worker moves; the time of its job, as the wall clock has it, is over."""
    running(valkey, time.time() - 3600)
    sweeper = Sweeper(valkey)
    for _ in range(2 * LOOKS_BEFORE_LOST):
        valkey.zincrby(LEASES, 1, NAME)
        sweeper.sweep()
    assert status(valkey, "job") == "started"


def test_a_clock_put_forward_ends_no_job_of_a_stock_worker(valkey: redis.Redis, monkeypatch: Any) -> None:
    """It renews the execution every 30 seconds; by this process's clock its time is always over."""
    running(valkey, time.time() - 3600)
    valkey.delete(LEASES)
    sweeper, began = Sweeper(valkey), time.monotonic()
    for passed in range(0, 300, 30):
        monkeypatch.setattr(time, "monotonic", lambda now=began + passed: now)
        valkey.zadd("rq:wip:default", {f"job:{EXECUTION}": time.time() - 3600 + passed})
        sweeper.sweep()
    assert status(valkey, "job") == "started"
    monkeypatch.setattr(time, "monotonic", lambda: began + 400)  # it has died
    sweeper.sweep()
    assert (status(valkey, "job"), valkey.zcard("rq:wip:default")) == ("failed", 0)


def test_a_job_that_a_live_worker_has_forgotten_is_recovered(valkey: redis.Redis, monkeypatch: Any) -> None:
    """Nothing renews it for as long as an execution lives."""
    running(valkey, time.time() - 1)
    sweeper, began = Sweeper(valkey), time.monotonic()
    for passed in (0, 30, 60, 89):
        monkeypatch.setattr(time, "monotonic", lambda now=began + passed: now)
        valkey.zincrby(LEASES, 1, NAME)
        sweeper.sweep()
        assert status(valkey, "job") == "started"
    monkeypatch.setattr(time, "monotonic", lambda: began + 91)
    valkey.zincrby(LEASES, 1, NAME)
    sweeper.sweep()
    assert (status(valkey, "job"), valkey.zcard(LEASES)) == ("failed", 1)
