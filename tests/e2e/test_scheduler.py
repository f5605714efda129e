"""Time: the scheduler process on a real Valkey."""

import signal
from datetime import UTC, datetime, timedelta

import redis

from app import job_state
from app.catalog import Catalog
from app.queueing import enqueue, prepare
from app.schedules import Schedule, Scheduler, cron, every
from app.settings import Settings
from tests.conftest import Project, until

KEY = "rq:scheduler:scheduled_jobs"


def scheduler(connection: redis.Redis) -> Scheduler:
    return Scheduler(connection, Settings(), Catalog())


def add(name: str, **rule: object) -> Schedule:
    return Schedule(name, "demo.add", args=[1, 2], **rule)  # type: ignore[arg-type]


def test_declared_schedules_are_reconciled(valkey: redis.Redis) -> None:
    first = scheduler(valkey)
    first.reconcile([add("same", interval=60), add("changed", interval=60), add("gone", interval=60)])
    before = dict(valkey.zrange(KEY, 0, -1, withscores=True))
    scheduler(valkey).reconcile([add("same", interval=60), add("changed", cron="0 2 * * *")])
    after = dict(valkey.zrange(KEY, 0, -1, withscores=True))
    assert set(after) == {b"schedule-same", b"schedule-changed"}
    assert after[b"schedule-same"] == before[b"schedule-same"]
    assert after[b"schedule-changed"] != before[b"schedule-changed"]


def test_a_schedule_that_cannot_run_stops_no_other(valkey: redis.Redis) -> None:
    found = scheduler(valkey)
    bad = [cron("x", "demo.add", name="cron"), cron("@daily", "demo.nothing"), every("demo.add", name="args", hours=1)]
    bad.append(cron("@daily", "demo.add", name="zone", timezone="Mars/Base", args=[1, 2]))
    found.reconcile([*bad, add("good", interval=60)])
    assert list(found.declared) == ["schedule-good"]


def test_a_due_run_is_enqueued_once_by_many_schedulers(valkey: redis.Redis) -> None:
    many = [scheduler(valkey) for _ in range(3)]
    for one in many:
        one.reconcile([add("often", interval=60)])
    due = datetime.now(UTC) - timedelta(seconds=1)
    valkey.zadd(KEY, {"schedule-often": due.timestamp()})
    made = [job_id for one in many for job_id in one.enqueue_jobs()]
    assert len(made) == 1
    assert [job_id.decode() for job_id in valkey.lrange("rq:queue:default", 0, -1)] == made
    job = job_state.fetch(valkey, made)[0]
    assert job is not None
    assert job["schedule"] == "often"
    assert datetime.fromisoformat(job["scheduled_for"]) == due
    assert valkey.zscore(KEY, "schedule-often") == due.timestamp() + 60


def test_what_is_not_ours_is_left_alone(valkey: redis.Redis) -> None:
    valkey.zadd(KEY, {"foreign": 1})
    valkey.hset("rq:job:foreign", "data", b"\x80\x04pickle")
    one = scheduler(valkey)
    one.reconcile([add("good", interval=60)])
    assert one.enqueue_jobs() == []
    assert valkey.zscore(KEY, "foreign") == 1


def test_the_process_moves_delayed_jobs_in_time_and_stops_on_sigterm(project: Project, valkey: redis.Redis) -> None:
    at = datetime.now(UTC) + timedelta(seconds=1)
    enqueue(valkey, [prepare(Catalog().get("demo.add"), Settings(), [1, 2], {}, id="later", at=at)])
    process = project.start("scheduler.py")
    until(lambda: valkey.lrange("rq:queue:default", 0, -1) == [b"later"])
    job = job_state.fetch(valkey, ["later"])[0]
    assert job is not None
    assert job["status"] == "queued"
    assert at - timedelta(seconds=1) <= datetime.fromisoformat(job["enqueued_at"]) <= at + timedelta(seconds=3)
    process.send_signal(signal.SIGTERM)
    assert process.wait(5) == 0
