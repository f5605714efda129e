"""The same job through a stock `rq worker` and through ours leaves the same in Redis."""

import re
import zlib
from base64 import b64decode
from collections.abc import Callable
from datetime import datetime
from itertools import product
from typing import Any

import pytest
import redis
import rq
from rq.job import Callback, Job
from rq.results import Result
from rq.serializers import JSONSerializer

from app.serializer import JSON
from tests.conftest import Project

OURS = {"attempts", "function", "horse_moved_at", "fence", "rss_bytes", "cpu_seconds", "host_cpu", "host_memory"}
"""Fields that we add to RQ's hashes."""
VARYING = {"pid", "ip_address", "total_working_time", "current_job_working_time", "data", "execution_id"}
TIME = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z|\d{10}\.\d+")

SOURCE = """
import time
from rq import Retry, get_current_job


def value() -> int:
    return 3


def nothing() -> None: ...


def fail() -> None:
    raise ValueError("no")


def slow() -> None:
    time.sleep(30)


def again() -> object:
    return Retry(max=1)


def meta() -> str:
    job = get_current_job()
    job.meta["said"] = "hello"
    job.save_meta()
    return job.id


def succeeded(job, connection, result) -> None:
    connection.set("callback", f"{job.id} {result}")


def failed(job, connection, *exc_info) -> None:
    connection.set("callback", f"{job.id} {exc_info[1]}")


def broken(job, connection, *rest) -> None:
    raise KeyError("callback")
"""

NEAR = 2.0  # seconds
KEPT = {"result_ttl": 500, "failure_ttl": 600}
Call = Callable[[rq.Queue], object]


def call(name: str, **options: Any) -> Call:
    return lambda queue: queue.enqueue(f"jobs.kinds.{name}", job_id="job", **{**KEPT, **options})


def dependents(name: str, **dependency: Any) -> Call:
    def put(queue: rq.Queue) -> None:
        parent = queue.enqueue(f"jobs.kinds.{name}", job_id="job", **KEPT)
        needed = rq.job.Dependency([parent], **dependency)
        queue.enqueue("jobs.kinds.value", job_id="child", depends_on=needed, **KEPT)
        queue.enqueue("jobs.kinds.nothing", job_id="grandchild", depends_on="child", at_front=True, ttl=900, **KEPT)

    return put


def two_parents(queue: rq.Queue, first: str, second: str, **dependency: Any) -> None:
    """A job of two others, which are called, or `canceled` or `deleted` before a worker comes."""
    family = f"{first}-{second}-{len(dependency)}"
    names = {f"{family}-first": first, f"{family}-second": second}
    parents = [
        queue.enqueue(f"jobs.kinds.{'fail' if name == 'fail' else 'value'}", job_id=job_id, **KEPT)
        for job_id, name in names.items()
    ]
    needed = rq.job.Dependency(parents, **dependency)
    child = queue.enqueue("jobs.kinds.value", job_id=f"{family}-child", depends_on=needed, **KEPT)
    queue.enqueue("jobs.kinds.nothing", job_id=f"{family}-grandchild", depends_on=[child, parents[0]], **KEPT)
    for parent in parents:
        if names[parent.id] == "canceled":
            parent.cancel()
        elif names[parent.id] == "deleted":
            parent.delete()


def families(queue: rq.Queue) -> None:
    for first, second in product(("value", "fail", "canceled", "deleted"), repeat=2):
        two_parents(queue, first, second)
        two_parents(queue, first, second, allow_failure=True)


def group(queue: rq.Queue) -> None:
    rq.group.Group.create(queue.connection, name="all").enqueue_many(
        queue, [rq.Queue.prepare_data("jobs.kinds.value", job_id="job", **KEPT)]
    )


SCENES: dict[str, Call] = {
    "a value": call("value"),
    "no value": call("nothing"),
    "a failure": call("fail"),
    "a timeout": call("slow", job_timeout=1),
    "result_ttl 0": call("value", result_ttl=0),
    "result_ttl -1": call("value", result_ttl=-1),
    "failure_ttl -1": call("fail", failure_ttl=-1),
    "no ttl given": call("value", result_ttl=None),
    "ttl": call("value", ttl=900),
    "retry at once": call("fail", retry=rq.Retry(2)),
    "retry later": call("fail", retry=rq.Retry(2, [60, 90])),
    "retry returned": call("again"),
    "repeat": call("value", repeat=rq.Repeat(times=2)),
    "repeat later": call("value", repeat=rq.Repeat(times=2, interval=60)),
    "own meta": call("meta", meta={"a": 1}),
    "success callback": call("value", on_success=Callback("jobs.kinds.succeeded")),
    "failure callback": call("fail", on_failure=Callback("jobs.kinds.failed")),
    "a broken callback": call("value", on_success=Callback("jobs.kinds.broken")),
    "dependents of a success": dependents("value"),
    "dependents of a failure": dependents("fail"),
    "dependents that allow failure": dependents("fail", allow_failure=True),
    "dependents at the front": dependents("value", enqueue_at_front=True),
    "a group": group,
    "two parents": families,
}


@pytest.mark.parametrize("scene", SCENES)
def test_the_same_is_left(project: Project, valkey: redis.Redis, scene: str) -> None:
    project.write("kinds", SOURCE)
    left = []
    for worker in ("rq.Worker", "app.worker.Worker"):
        valkey.flushall()
        SCENES[scene](rq.Queue("default", connection=valkey, serializer=JSONSerializer))
        words = ("--max-jobs", "1000") if scene == "two parents" else ()  # then none is claimed ahead: in their order
        project.work("-S", "json", "--name", "w", *words, "default", worker=worker)
        left.append(everything(valkey))
    stock, ours = left
    assert ours.keys() == stock.keys()
    assert {key: (ours[key], stock[key]) for key in stock if not alike(ours[key], stock[key])} == {}


def alike(one: Any, other: Any) -> bool:
    """Times of two runs, of which each is counted from the end of its job, may differ a little."""
    if isinstance(one, float) and isinstance(other, float):
        return one == other or abs(one - other) <= NEAR
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(alike(one[key], other[key]) for key in one)
    return bool(one == other)


@pytest.mark.parametrize("ended", ["failed", "finished"])
def test_rq_reads_every_attempt(project: Project, valkey: redis.Redis, ended: str) -> None:
    project.write("kinds", SOURCE)
    queue = rq.Queue("default", connection=valkey, serializer=JSONSerializer)
    queue.enqueue("jobs.kinds.fail", job_id="job", retry=rq.Retry(2), **KEPT)
    project.work("--name", "w", *(["--max-jobs", "2"] if ended == "finished" else []), "default")
    if ended == "finished":
        valkey.hset("rq:job:job", "data", Job.create("jobs.kinds.value", connection=valkey, serializer=JSON).data)
        project.work("--name", "w", "default")
    job = Job.fetch("job", connection=valkey, serializer=JSONSerializer)
    last, *before = job.results()
    assert job.get_status().value == ended
    assert job.return_value() == (3 if ended == "finished" else None)
    assert last.type is (Result.Type.SUCCESSFUL if ended == "finished" else Result.Type.FAILED)
    assert [result.type for result in before] == [Result.Type.RETRIED] * 2
    for result in before:
        assert "ValueError: no" in result.exc_string
        assert result.worker_name == "w"
        assert result.execution_started_at <= result.execution_ended_at
    assert len({result.execution_id for result in job.results()}) == 3
    assert round(valkey.ttl("rq:results:job"), -2) == (500 if ended == "finished" else 600)


def everything(connection: redis.Redis) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key in sorted(connection.keys("rq:*")):
        name, kind = key.decode(), connection.type(key)
        if kind == b"hash":
            found |= {f"{name} {field}": value for field, value in _plain(connection.hgetall(key)).items()}
        elif kind == b"list":
            found[name] = connection.lrange(key, 0, -1)
        elif kind == b"set":
            found[name] = connection.smembers(key)
        elif kind == b"zset":
            found[name] = {
                member: score if score <= 0 else score - last_time(connection, member)
                for member, score in connection.zrange(key, 0, -1, withscores=True)
            }
        elif kind == b"stream":
            entries = [_plain(entry) for _, entry in connection.xrange(key)]
            found[name] = [entry for entry in entries if not ours_alone(entry)]
            if entries and not found[name]:
                del found[name]
                continue
        else:
            found[name] = connection.get(key)
        found[f"{name} lives"] = life(connection, key)
    return found


def life(connection: redis.Redis, key: bytes) -> float:
    """Seconds for which a key is kept after its job's last change, if it is of a job; -1: for ever."""
    left = float(connection.ttl(key))
    of_job = re.fullmatch(rb"rq:(?:job|results)::?(.+?)(?::dependents|:dependencies)?", key)
    changed_at = last_time(connection, of_job[1]) if of_job else 0.0
    return left if left < 0 or not changed_at else connection.pexpiretime(key) / 1000 - changed_at


def last_time(connection: redis.Redis, job_id: bytes) -> float:
    """Of the job's last change, from which the scores of RQ's registries are counted; seconds since 1970."""
    times = connection.hmget(b"rq:job:" + job_id, "ended_at", "enqueued_at", "created_at")
    return max((datetime.fromisoformat(time.decode()).timestamp() for time in times if time), default=0.0)


def ours_alone(entry: dict[str, Any]) -> bool:
    """An attempt that failed and is retried: RQ keeps nothing of it."""
    return entry.get("type") == str(Result.Type.RETRIED.value) and "exc_string" in entry


def _plain(raw: dict[bytes, bytes]) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for field, value in raw.items():
        name = field.decode()
        if name in OURS or name in VARYING or value == b"Unserializable return value":  # of a returned Retry
            continue
        if name == "exc_string":
            value = zlib.decompress(b64decode(value)).strip().split(b"\n")[-1]
        if name == "meta":
            value = JSON.dumps(JSON.loads(value))
        plain[name] = TIME.sub("<time>", value.decode(errors="replace"))
    return plain
