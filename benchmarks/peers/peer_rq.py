"""Stock RQ's Queue with the JSON serializer: the producer for stock workers and the limit, and of Jobline's drains."""

import os
from typing import Any

from redis import Redis
from rq import Queue
from rq.serializers import JSONSerializer

queue = Queue("default", connection=Redis.from_url(os.environ["REDIS_URL"]), serializer=JSONSerializer)


def fill(first: int, last: int, function: str = "jobs.bench.noop") -> None:
    for start in range(first, last, 1000):
        queue.enqueue_many([Queue.prepare_data(function, (i,)) for i in range(start, min(last, start + 1000))])


def stamp() -> Any:
    return queue.enqueue("jobs.bench.stamp")


def stamped(job: Any) -> float:
    return job.latest_result(timeout=20).return_value
