"""What we write into Redis is what stock RQ writes."""

from datetime import UTC, datetime, timedelta

import redis
import rq
from rq.serializers import JSONSerializer

from app.catalog import Catalog
from app.queueing import NewJob, enqueue, prepare
from app.settings import Settings

VARYING = {"created_at", "enqueued_at", "data"}


def ours(**said: object) -> NewJob:
    function = Catalog().get("demo.add")
    return prepare(function, Settings(), [1, 2], {}, id="job", **said)


def state(connection: redis.Redis) -> dict[str, object]:
    """Every key with its content; times left out."""
    found: dict[str, object] = {}
    for key in sorted(connection.keys()):
        kind = connection.type(key)
        if kind == b"hash":
            found[key.decode()] = {
                k.decode(): v for k, v in connection.hgetall(key).items() if k.decode() not in VARYING
            }
        elif kind == b"list":
            found[key.decode()] = connection.lrange(key, 0, -1)
        elif kind == b"set":
            found[key.decode()] = connection.smembers(key)
        elif kind == b"zset":
            found[key.decode()] = [member for member, _ in connection.zrange(key, 0, -1, withscores=True)]
        found[f"{key.decode()} expires"] = connection.ttl(key) > 0
    return found


def stock(connection: redis.Redis) -> rq.Queue:
    return rq.Queue("default", connection=connection, serializer=JSONSerializer)


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
    found = state(valkey)
    found["rq:job:job"]["retry_intervals"] = found["rq:job:job"]["retry_intervals"].replace(b",", b", ")  # type: ignore[index]
    assert found == expected


def test_a_scheduled_job(valkey: redis.Redis) -> None:
    at = datetime.now(UTC) + timedelta(hours=1)
    stock(valkey).enqueue_at(at, "jobs.demo.add", args=[1, 2], **OPTIONS)
    expected = state(valkey)
    valkey.flushall()
    enqueue(valkey, [ours(at=at)])
    found = state(valkey)
    assert found == expected


def test_a_deferred_job(valkey: redis.Redis) -> None:
    parent = stock(valkey).enqueue("jobs.demo.add", args=[1, 2], job_id="parent")
    stock(valkey).enqueue("jobs.demo.add", args=[1, 2], depends_on=parent, **OPTIONS)
    expected = state(valkey)
    valkey.flushall()
    stock(valkey).enqueue("jobs.demo.add", args=[1, 2], job_id="parent")
    enqueue(valkey, [ours(depends_on=["parent"])])
    found = state(valkey)
    assert found == expected
