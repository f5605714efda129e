"""What we write into Redis is what stock RQ writes."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import redis
import rq
from rq.serializers import JSONSerializer

from app.catalog.catalog import Catalog
from app.enqueue.new_job import NewJob, prepare
from app.enqueue.write import enqueue
from app.settings import Settings

VARYING = {"created_at", "enqueued_at", "data", "function"}
"""`function` is ours."""
LISTS = {"retry_intervals", "dependency_ids"}


def ours(**said: object) -> NewJob:
    function = Catalog().get("demo.add")
    return prepare(function, Settings(), [1, 2], {}, id="job", **said)


def state(connection: redis.Redis) -> dict[str, object]:
    """Every key of RQ with its content and when it expires; times in hashes left out."""
    found: dict[str, object] = {}
    for key in sorted(connection.keys("rq:*")):
        kind = connection.type(key)
        if kind == b"hash":
            found[key.decode()] = {
                k.decode(): v if k.decode() not in LISTS else json.loads(v)
                for k, v in connection.hgetall(key).items()
                if k.decode() not in VARYING
            }
        elif kind == b"list":
            found[key.decode()] = connection.lrange(key, 0, -1)
        elif kind == b"set":
            found[key.decode()] = connection.smembers(key)
        elif kind == b"zset":
            found[key.decode()] = {
                member: pytest.approx(score, abs=NEAR)
                for member, score in connection.zrange(key, 0, -1, withscores=True)
            }
        life = connection.ttl(key)
        found[f"{key.decode()} lives"] = pytest.approx(life, abs=NEAR) if life > 0 else life
    return found


def stock(connection: redis.Redis) -> rq.Queue:
    return rq.Queue("default", connection=connection, serializer=JSONSerializer)


NEAR = 1.0  # seconds between the two runs
OPTIONS = {"job_id": "job", "result_ttl": 86_400, "failure_ttl": 30 * 86_400}


def test_a_plain_job(valkey: redis.Redis) -> None:
    stock(valkey).enqueue("jobs.demo.add", args=[1, 2], **OPTIONS)
    expected = state(valkey)
    valkey.flushall()
    enqueue(valkey, [ours()])
    assert state(valkey) == expected


def test_a_job_with_ttl_and_retries(valkey: redis.Redis) -> None:
    stock(valkey).enqueue("jobs.demo.add", args=[1, 2], ttl=60, retry=rq.Retry(3, [1, 2, 3]), **OPTIONS)
    expected = state(valkey)
    valkey.flushall()
    enqueue(valkey, [ours(ttl=60, retry_waits=[1, 2, 3])])
    assert state(valkey) == expected


def test_a_scheduled_job(valkey: redis.Redis) -> None:
    at = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    stock(valkey).enqueue_at(at, "jobs.demo.add", args=[1, 2], **OPTIONS)
    expected = state(valkey)
    valkey.flushall()
    enqueue(valkey, [ours(at=at)])
    found = state(valkey)
    assert found == expected
    assert valkey.zscore("rq:scheduled:default", "job") == at.timestamp()


def test_jobs_at_the_front(valkey: redis.Redis) -> None:
    at = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    parent = stock(valkey).enqueue("jobs.demo.add", args=[1, 2], job_id="parent")
    needed = rq.job.Dependency([parent], enqueue_at_front=True)
    for job_id, said in (("job", {}), ("later", {"at": at}), ("deferred", {"depends_on": needed})):
        if "at" in said:
            stock(valkey).enqueue_at(at, "jobs.demo.add", args=[1, 2], at_front=True, **{**OPTIONS, "job_id": job_id})
        else:
            stock(valkey).enqueue("jobs.demo.add", args=[1, 2], at_front=True, **{**OPTIONS, "job_id": job_id}, **said)
    expected = state(valkey)
    del expected["rq:job:deferred"]["allow_dependency_failures"]  # type: ignore[attr-defined]  # 0: as if it were not there
    valkey.flushall()
    stock(valkey).enqueue("jobs.demo.add", args=[1, 2], job_id="parent")
    for job_id, said in (("job", {}), ("later", {"at": at}), ("deferred", {"depends_on": ["parent"]})):
        enqueue(valkey, [replace(ours(at_front=True, **said), id=job_id)])
    assert state(valkey) == expected


def test_a_job_that_depends_on_two(valkey: redis.Redis) -> None:
    """One has finished, and one has not: it is deferred, and both are written down."""
    for first, second in (
        ("finished", "queued"),
        ("queued", "finished"),
        ("queued", "queued"),
        ("finished", "finished"),
    ):
        found = []
        for put in (stock_child, our_child):
            valkey.flushall()
            for parent, status in (("first", first), ("second", second)):
                job = stock(valkey).enqueue("jobs.demo.add", args=[1, 2], job_id=parent)
                job.set_status(rq.job.JobStatus(status))
            put(valkey)
            found.append(state(valkey))
        for parent, status in (("first", first), ("second", second)):
            if status == "finished":  # RQ notes it there for ever: nothing removes it
                for key in (f"rq:job:{parent}:dependents", f"rq:job:{parent}:dependents lives"):
                    found[0].pop(key, None)
        assert found[1] == found[0]


def stock_child(valkey: redis.Redis) -> None:
    stock(valkey).enqueue("jobs.demo.add", args=[1, 2], depends_on=["first", "second"], **OPTIONS)


def our_child(valkey: redis.Redis) -> None:
    enqueue(valkey, [ours(depends_on=["first", "second"])])


def test_a_deferred_job(valkey: redis.Redis) -> None:
    parent = stock(valkey).enqueue("jobs.demo.add", args=[1, 2], job_id="parent")
    stock(valkey).enqueue("jobs.demo.add", args=[1, 2], depends_on=parent, **OPTIONS)
    expected = state(valkey)
    valkey.flushall()
    stock(valkey).enqueue("jobs.demo.add", args=[1, 2], job_id="parent")
    enqueue(valkey, [ours(depends_on=["parent"])])
    found = state(valkey)
    assert found == expected
