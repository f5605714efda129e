"""Where a job comes into its queue, by each way on which it gets there; and how long it then lives."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis

from app.lifecycle import actions
from app.schedules import every
from app.testing import Jobs, run_jobs

JOBS = "/api/v1/jobs"
START = datetime(2027, 1, 1, tzinfo=UTC)
ADD = {"function": "demo.add", "args": [1, 2]}
QUEUE = "rq:queue:default"


@pytest.fixture
def jobs() -> Iterator[Jobs]:
    with run_jobs(at=START) as found:
        yield found


def put(jobs: Jobs, job_id: str, **said: Any) -> None:
    answer = jobs.client.post(JOBS, json={**ADD, "id": job_id, **said})
    assert answer.status_code == 202, answer.get_json()


def queued(connection: redis.Redis) -> list[str]:
    """From the head on, which is taken first."""
    return [job_id.decode() for job_id in connection.lrange(QUEUE, 0, -1)]


def pause(jobs: Jobs) -> None:
    """What is queued stays there."""
    assert jobs.client.post("/api/v1/queues/default/pause").status_code == 200


@pytest.mark.parametrize(("at_front", "place"), [(False, 2), (True, 0)])
@pytest.mark.parametrize("checked", [False, True])
def test_enqueued(jobs: Jobs, at_front: bool, place: int, checked: bool) -> None:
    put(jobs, "first")
    put(jobs, "second")
    job_id = "job" if checked else None
    made = jobs.client.post(JOBS, json={**ADD, "id": job_id, "at_front": at_front}).get_json()["id"]
    assert queued(jobs.redis).index(made) == place


@pytest.mark.parametrize(("at_front", "place"), [(False, 2), (True, 0)])
@pytest.mark.parametrize("checked", [False, True])
def test_delayed_and_due(jobs: Jobs, at_front: bool, place: int, checked: bool) -> None:
    job_id = "job" if checked else None
    body = {**ADD, "id": job_id, "at_front": at_front, "delay": 60, "ttl": 600}
    made = jobs.client.post(JOBS, json=body).get_json()["id"]
    put(jobs, "first")
    put(jobs, "second")
    pause(jobs)
    jobs.advance(seconds=59)
    assert jobs.get(made)["status"] == "scheduled"
    jobs.advance(seconds=1)
    assert queued(jobs.redis).index(made) == place
    job = jobs.get(made)
    assert (job["status"], job["enqueued_at"]) == ("queued", "2027-01-01T00:01:00.000000Z")
    assert jobs.redis.ttl(f"rq:job:{made}") == 600  # from now on, not from its making
    assert jobs.redis.zcard("rq:scheduled:default") == 0


def test_many_that_are_due_come_in_the_order_of_their_times_and_in_parts(jobs: Jobs) -> None:
    for name, delay in (("late", 3), ("soon", 1), ("later", 4), ("next", 2)):
        put(jobs, name, delay=delay)
    due = START + timedelta(seconds=4)
    assert [actions.move_due(jobs.redis, due, limit=3)[0] for _ in range(3)] == [3, 1, 0]
    assert queued(jobs.redis) == ["soon", "next", "late", "later"]


@pytest.mark.parametrize("key", ["rq:scheduled:broken", "rq:queue:broken"])
def test_a_queue_that_cannot_be_read_holds_up_no_other(jobs: Jobs, key: str) -> None:
    put(jobs, "stuck", queue="broken", delay=1)
    put(jobs, "fine", delay=1)
    jobs.redis.delete(key)
    jobs.redis.set(key, "text")
    assert actions.move_due(jobs.redis, START + timedelta(seconds=1)) == (1, ["broken"])
    assert queued(jobs.redis) == ["fine"]
    assert jobs.redis.get(key) == b"text"
    assert jobs.redis.hget("rq:job:stuck", "status") == b"scheduled"


def test_a_delayed_job_that_is_gone_is_not_queued(jobs: Jobs) -> None:
    put(jobs, "gone", delay=60, ttl=10)
    jobs.advance(seconds=60)
    assert queued(jobs.redis) == []
    assert jobs.redis.zcard("rq:scheduled:default") == 0


@pytest.mark.parametrize("at_front", [False, True])
def test_requeued(jobs: Jobs, at_front: bool) -> None:
    put(jobs, "job", at_front=at_front)
    jobs.client.post(f"{JOBS}/job/cancel")
    put(jobs, "first")
    assert jobs.client.post(f"{JOBS}/job/requeue").get_json()["status"] == "queued"
    assert queued(jobs.redis) == ["first", "job"]


def test_requeued_by_a_filter_the_newest_first(jobs: Jobs) -> None:
    for number in range(3):
        jobs.enqueue_with({"id": f"failed-{number}"}, "demo.fail", "no")
        jobs.advance(seconds=1)
    put(jobs, "first")
    jobs.client.post(f"{JOBS}/requeue", json={})
    assert queued(jobs.redis) == ["first", "failed-2", "failed-1", "failed-0"]


@pytest.mark.parametrize(("at_front", "place"), [(False, 2), (True, 0)])
def test_whose_parents_have_finished(jobs: Jobs, at_front: bool, place: int) -> None:
    put(jobs, "parent", queue="high", delay=60)
    put(jobs, "child", depends_on=["parent"], at_front=at_front, ttl=300)
    put(jobs, "first")
    put(jobs, "second")
    pause(jobs)
    jobs.advance(seconds=60)
    assert queued(jobs.redis).index("child") == place
    assert jobs.redis.ttl("rq:job:child") == 300  # from now on, not from its making


@pytest.mark.parametrize(("at_front", "place"), [(False, 2), (True, 0)])
def test_whose_turn_in_a_workflow_has_come(jobs: Jobs, at_front: bool, place: int) -> None:
    nodes = [
        {**ADD, "name": "a", "queue": "high", "delay": 60},
        {**ADD, "name": "b", "after": ["a"], "at_front": at_front, "ttl": 300},
    ]
    workflow = jobs.client.post("/api/v1/workflows", json={"jobs": nodes}).get_json()["id"]
    put(jobs, "first")
    put(jobs, "second")
    pause(jobs)
    jobs.advance(seconds=60)
    assert queued(jobs.redis).index(f"{workflow}-b") == place
    assert jobs.redis.ttl(f"rq:job:{workflow}-b") == 300
    assert jobs.get(f"{workflow}-b")["enqueued_at"] == jobs.get(f"{workflow}-a")["ended_at"]


def test_retried(jobs: Jobs) -> None:
    jobs.redis.xadd("jobline:events", {"ids": ""})  # somebody listens
    body = {"function": "demo.fail", "args": ["no"], "id": "job", "retry": {"max": 1, "intervals": [0]}}
    jobs.client.post(JOBS, json=body)
    for name in ("first", "second"):
        put(jobs, name)
    jobs.run()
    begun = [raw[b"ids"] for _, raw in jobs.redis.xrange("jobline:events") if raw.get(b"status") == b"started"]
    assert begun == [b"job", b"first", b"second", b"job"]


@pytest.mark.parametrize("queue", ["default", "low"])
def test_changed_before_it_starts(jobs: Jobs, queue: str) -> None:
    put(jobs, "job", delay=3600, at_front=True, ttl=7200)
    put(jobs, "plain", delay=3600)
    for name in ("first", "second"):
        put(jobs, name, queue=queue)
    for name in ("plain", "job"):
        assert jobs.client.patch(f"{JOBS}/{name}", json={"delay": 0, "queue": queue}).status_code == 200
    there = [job_id.decode() for job_id in jobs.redis.lrange(f"rq:queue:{queue}", 0, -1)]
    assert there == ["job", "first", "second", "plain"]
    assert jobs.redis.ttl("rq:job:job") == 7200


def test_run_by_a_schedule() -> None:
    with run_jobs(at=START, schedules=[every("demo.add", name="s", seconds=60, args=[1, 2])]) as jobs:
        put(jobs, "first")
        pause(jobs)
        triggered = jobs.client.post("/api/v1/schedules/s/trigger").get_json()["id"]
        jobs.advance(seconds=60)
        [run] = [job_id for job_id in queued(jobs.redis) if job_id not in ("first", triggered)]
        assert queued(jobs.redis) == ["first", triggered, run]
        assert jobs.get(run)["scheduled_for"] == "2027-01-01T00:01:00Z"
