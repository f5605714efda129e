"""The same job through a stock `rq worker` and through ours leaves the same in Redis."""

import re
import zlib
from base64 import b64decode
from collections.abc import Callable
from typing import Any

import pytest
import redis
import rq
from rq.job import Callback, Job
from rq.results import Result
from rq.serializers import JSONSerializer

from app.serializer import JSON
from tests.conftest import Project

OURS = {"attempts", "horse_moved_at", "fence"}
"""Fields that we add to RQ's hashes."""
VARYING = {"pid", "ip_address", "total_working_time", "data", "execution_id"}
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
}


@pytest.mark.parametrize("scene", SCENES)
def test_the_same_is_left(project: Project, valkey: redis.Redis, scene: str) -> None:
    project.write("kinds", SOURCE)
    left = []
    for worker in ("rq.Worker", "app.worker.Worker"):
        valkey.flushall()
        SCENES[scene](rq.Queue("default", connection=valkey, serializer=JSONSerializer))
        project.work("-S", "json", "--name", "w", "default", worker=worker)
        left.append(everything(valkey))
    stock, ours = left
    assert ours == stock


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
    for key in sorted(connection.keys()):
        name, kind = key.decode(), connection.type(key)
        if kind == b"hash":
            found |= {f"{name} {field}": value for field, value in _plain(connection.hgetall(key)).items()}
        elif kind == b"list":
            found[name] = connection.lrange(key, 0, -1)
        elif kind == b"set":
            found[name] = connection.smembers(key)
        elif kind == b"zset":
            entries = sorted(connection.zrange(key, 0, -1, withscores=True))
            found[name] = [
                (member, score if score < 0 or score == float("inf") else "later") for member, score in entries
            ]
        elif kind == b"stream":
            entries = [_plain(entry) for _, entry in connection.xrange(key)]
            found[name] = [entry for entry in entries if not ours_alone(entry)]
            if entries and not found[name]:
                del found[name]
                continue
        else:
            found[name] = connection.get(key)
        life = connection.ttl(key)
        found[f"{name} lives"] = life if life < 0 else round(life, -2)
    return found


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
