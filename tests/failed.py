"""Failed jobs, as RQ 2.12 leaves them, without a worker."""

from datetime import UTC, datetime, timedelta

import redis
from rq.job import Job, JobStatus

from app.catalog.catalog import Catalog
from app.enqueue.new_job import prepare
from app.enqueue.write import enqueue
from app.serializer import JSON
from app.settings import get_settings


def fail(
    connection: redis.Redis,
    *job_ids: str,
    function: str = "demo.fail",
    args: tuple[object, ...] = ("no",),
    error: str = "ValueError: no",
    ago: timedelta = timedelta(0),
    **said: object,
) -> None:
    """Jobs that failed so long ago."""
    called = Catalog().get(function)
    jobs = [prepare(called, get_settings(), list(args), {}, id=job_id, **said) for job_id in job_ids]
    enqueue(connection, jobs)
    trace = f'Traceback (most recent call last):\n  File "x.py", line 1, in x\n{error}\n'
    for job in jobs:
        connection.lrem(f"rq:queue:{job.queue}", 1, job.id)
        found = Job.fetch(job.id, connection=connection, serializer=JSON)
        found.ended_at = datetime.now(UTC) - ago
        with connection.pipeline() as pipeline:
            found.set_status(JobStatus.FAILED, pipeline=pipeline)
            found._handle_failure(trace, pipeline=pipeline)
            pipeline.zincrby(f"rq:failed:{job.queue}", -int(ago.total_seconds()), job.id)
            pipeline.execute()
