"""Jobline: a single job takes the way of its API, app/enqueue; a drain is filled by stock RQ, as the others' are."""

import os

from peer_rq import fill
from redis import Redis

from app.catalog.catalog import Catalog
from app.enqueue import new_job, write
from app.settings import Settings
from app.views import waiting

__all__ = ["fill", "stamp", "stamped"]


connection = Redis.from_url(os.environ["REDIS_URL"], socket_timeout=60)
settings, catalog = Settings(), Catalog()


def stamp(function: str = "bench.stamp") -> str:
    job = new_job.prepare(catalog.get(function), settings, [], {})
    write.enqueue(connection, [job])
    return job.id


def stamped(job_id: str) -> float:
    job = waiting.wait(connection, connection, job_id, 20)
    assert job
    return float(job["result"])
