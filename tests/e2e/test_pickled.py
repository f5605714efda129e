"""Jobs that plain RQ has enqueued with its default serializer: they fail, and say how it is done right."""

from collections.abc import Callable

import pytest
import redis
import rq
from rq.serializers import JSONSerializer

from tests.conftest import Project
from tests.e2e.test_worker import put, state

MESSAGE = (
    "it was pickled, and Jobline reads JSON only: enqueue over the HTTP API, or with "
    "rq.Queue(..., serializer=rq.serializers.JSONSerializer)"
)


def plain(queue: rq.Queue) -> None:
    queue.enqueue("jobs.demo.add", 1, 2, job_id="job")


def with_meta(queue: rq.Queue) -> None:
    queue.enqueue("jobs.demo.add", 1, 2, job_id="job", meta={"tags": ["red"]})


def with_retries(queue: rq.Queue) -> None:
    queue.enqueue("jobs.demo.add", 1, 2, job_id="job", retry=rq.Retry(3))


def with_a_callback(queue: rq.Queue) -> None:
    queue.enqueue("jobs.demo.add", 1, 2, job_id="job", on_failure=rq.Callback("jobs.demo.fail"))


@pytest.mark.parametrize("enqueue", [plain, with_meta, with_retries, with_a_callback])
def test_a_pickled_job_fails_with_the_way_to_do_it(
    project: Project, valkey: redis.Redis, enqueue: Callable[[rq.Queue], None]
) -> None:
    enqueue(rq.Queue("default", connection=valkey))
    put(valkey, "good", "jobs.demo.add", 1, 2)
    project.work()
    assert state(valkey, "good")["result"] == 3
    job = state(valkey, "job")
    assert job["status"] == "failed"
    assert job["error"] == {"type": "UnreadableJob", "message": MESSAGE, "traceback": f"UnreadableJob: {MESSAGE}"}
    assert job["attempts"] == 0
    assert valkey.zcard("rq:wip:default") == 0


def test_a_job_in_json_with_pickled_meta_runs_and_the_meta_is_left_alone(project: Project, valkey: redis.Redis) -> None:
    """A stock tool that requeues a job may rewrite its meta."""
    put(valkey, "job", "jobs.demo.count", 3, 0)
    pickled = rq.job.Job.create("jobs.demo.add", connection=valkey, meta={"secret": 1}).to_dict()["meta"]
    valkey.hset("rq:job:job", "meta", pickled)
    queue = rq.Queue("default", connection=valkey, serializer=JSONSerializer)
    queue.enqueue("jobs.demo.fail", "no", job_id="failing", retry=rq.Retry(1))
    valkey.hset("rq:job:failing", "meta", pickled)
    project.work()
    assert state(valkey, "job")["result"] == 3
    assert valkey.hget("rq:job:job", "meta") == pickled
    failing = state(valkey, "failing")
    assert (failing["attempts"], failing["error"]["type"]) == (2, "RuntimeError")  # type: ignore[index]
    assert valkey.hget("rq:job:failing", "meta") == pickled


def test_json_by_rqs_own_serializer_runs(project: Project, valkey: redis.Redis) -> None:
    queue = rq.Queue("default", connection=valkey, serializer=JSONSerializer)
    queue.enqueue("jobs.demo.add", 1, 2, job_id="job", meta={"tags": ["red"]})
    project.work()
    assert state(valkey, "job")["result"] == 3
