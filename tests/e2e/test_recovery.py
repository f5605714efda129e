"""What RQ's own clean-up does to workers and jobs, and ours does not."""

import time
from typing import Any

import pytest
import redis
import rq
from rq.executions import prepare_execution
from rq.registry import StartedJobRegistry
from rq.serializers import JSONSerializer
from rq.worker import SimpleWorker

from app.lifecycle import callback_processes
from app.lifecycle.lost_workers import Sweeper
from app.worker import Worker
from tests.conftest import status


def abandoned(connection: redis.Redis, **options: Any) -> None:
    """A job that a stock worker ran, which died more than its lease ago."""
    queue = rq.Queue("default", connection=connection, serializer=JSONSerializer)
    job = queue.enqueue("jobs.demo.sleep", 60, job_id="job", **options)
    worker = SimpleWorker([queue], connection=connection, serializer=JSONSerializer)
    connection.lpop(queue.key)
    execution = prepare_execution(worker, job)
    with connection.pipeline() as pipeline:
        job.prepare_for_execution("stock", pipeline)
        pipeline.zadd("rq:wip:default", {execution.composite_key: time.time() - 1})
        pipeline.execute()


def test_an_abandoned_job_of_a_stock_worker_is_settled(valkey: redis.Redis) -> None:
    abandoned(valkey)
    Sweeper(valkey).sweep()
    assert status(valkey, "job") == "failed"
    assert valkey.zcard("rq:wip:default") == 0


def test_an_abandoned_job_with_retries_is_retried(valkey: redis.Redis) -> None:
    abandoned(valkey, retry=rq.Retry(2, [60, 90]))
    Sweeper(valkey).sweep()
    assert status(valkey, "job") == "scheduled"
    assert 55 < float(valkey.zscore("rq:scheduled:default", "job") or 0) - time.time() < 65


def test_a_failure_callback_that_does_not_import_stops_nobody(valkey: redis.Redis) -> None:
    callback = rq.job.Callback("jobs.demo.absent")
    abandoned(valkey, on_failure=callback)
    registry = StartedJobRegistry("default", connection=valkey, serializer=JSONSerializer)
    with pytest.raises(Exception, match="absent"):
        registry.cleanup()  # RQ's: raised in the worker, and again at every pass
    Sweeper(valkey).sweep()
    callback_processes.wait()
    assert status(valkey, "job") == "failed"


class Raced(rq.Queue):
    """Whose jobs get a dependent just while they end: the transaction that ends them is tried again."""

    raced = False

    def enqueue_dependents(self, job: Any, *args: Any, **kwargs: Any) -> None:
        if not self.raced:
            self.raced = True
            self.connection.sadd(job.dependents_key, "late")
        super().enqueue_dependents(job, *args, **kwargs)


@pytest.mark.parametrize(("worker_class", "left"), [(SimpleWorker, 1), (Worker, 0)], ids=["stock", "ours"])
def test_a_dependent_that_comes_late_leaves_no_execution_behind(
    valkey: redis.Redis, worker_class: type[rq.worker.BaseWorker], left: int
) -> None:
    """rq#2424: what is left in the started registry turns the finished job into a failed one."""
    queue = Raced("default", connection=valkey, serializer=JSONSerializer)
    worker = worker_class(["default"], connection=valkey, serializer=JSONSerializer)
    job = worker.job_class.create(
        "jobs.demo.add", (1, 2), id="job", origin="default", connection=valkey, serializer=JSONSerializer
    )
    job.save()
    prepare_execution(worker, job)
    worker.perform_job(job, queue)
    assert status(valkey, "job") == "finished"
    assert valkey.zcard("rq:wip:default") == left
