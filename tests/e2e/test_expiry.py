"""Nothing is left in Redis for ever: every feature is used, and every key has an expiry or a reason to have none."""

import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis
import rq
from flask.testing import FlaskClient
from rq.group import Group
from rq.serializers import JSONSerializer

from app.api.application import create_app
from app.catalog.catalog import Catalog, Function
from app.events.stream import Hub
from app.lifecycle import callback_processes, lost_workers
from app.redis.keys import DISABLED_WEBHOOKS, LEASES, OUTBOX
from app.settings import Settings
from app.worker import Worker
from app.worker.redis_session import RedisSession
from tests.conftest import ROOT, RQ_WORKER, Project, status, until
from tests.e2e.test_leftovers import walk
from tests.receiver import SECRET, Receiver
from tests.redis_page import Watcher, ours

LASTING = {
    "jobline:metrics:(counted|functions|recovered|totals|unmerged)": "one each, with the names of functions and queues",
    r"rq:queues": "the names of queues, as RQ keeps them",
    r"rq:(finished|failed|canceled|deferred):\w+": "registries: an entry goes with its job",
    r"rq:groups|rq:group:\w+": "RQ's maintenance takes out jobs that are gone",
    r"jobline:workflows": "an entry goes with its workflow",
    r"rq:scheduler:scheduled_jobs|jobline:schedules": "an entry goes with its schedule",
    r"(jobline:schedule:|rq:job:schedule-)(nightly|maintenance\.clean)": "of a schedule, until it is deleted",
    r"jobline:schedules:quarantined": "what others wrote among the schedules, and is not ours to remove",
    r"jobline:schedules:(broken|rejected)": "what is set aside, until it is mended: none is left then",
    r"jobline:schedulers": "an entry goes with its scheduler",
    r"jobline:audit": "AUDIT_LIMIT caps it",
    r"jobline:clock": "one value, which the leading scheduler renews",
    r"jobline:outbox": "emptied as it is worked off",
    r"jobline:paused": "the names of queues, until they are resumed",
}
"""Keys that have no expiry, and why."""
NAMES_JOBS = r"jobline:audit|jobline:schedule:nightly"
"""Those that name some jobs, the last ones alone."""

SOURCE = """
import os, signal, time
from app import Breaker, Discard, Limit, Retry, Unique, job, progress


def add(a: int, b: int = 0) -> int:
    return a + b


def fail(discard: bool = False) -> None:
    raise Discard("no") if discard else ValueError("no")


@job(retry=Retry(max=2, intervals=(0, 1)))
def fickle() -> None:
    raise ConnectionError("no")


def again() -> object:
    return Retry(max=1, intervals=(1,))


def track() -> None:
    for row in progress.track(range(3)):
        print("row", row)
        time.sleep(0.01)


def hang() -> None:
    time.sleep(60)


@job(timeout=1)
def late() -> None:
    time.sleep(60)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@job(idempotent=True)
def die_twice() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@job(breaker=Breaker(failures=1, window=60, cool_down=1))
def fragile() -> None:
    raise ValueError("no")


@job(rate_limit="3/s")
def rated(n: int) -> int:
    return n


@job(concurrency=Limit(1, key="{who}"))
def narrow(who: str) -> None:
    time.sleep(0.05)


@job(unique=Unique())
def only(n: int) -> int:
    return n


def told(*_: object) -> None: ...
"""
NOT_SEEN = {
    "ALERTS": "nobody is told", "ALERTS_CRITICAL": "nobody is told",
    "job_key.traceparent": "traces are off",
    "METRICS_TOTALS": "an interval of metrics lasts 10 s",
    "SCHEDULER_WAKE": "a channel",
    "READY": "nobody asks /readyz here", "BROKEN_SCHEDULES": "all are right", "REJECTED_SCHEDULES": "all are right",
}  # fmt: skip
"""Keys of ours that this run does not leave for long enough to be seen, and why."""
HELD = "held"
"""A queue that is paused."""


@pytest.fixture
def client(
    project: Project, valkey: redis.Redis, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FlaskClient]:
    """The API, with a worker and the scheduler."""
    monkeypatch.setenv("WEBHOOK_SECRET", SECRET)
    monkeypatch.setenv("WEBHOOK_ALLOW_HOSTS", "127.0.0.1")
    project.write("life", SOURCE)
    project.write("webhooks", (ROOT / "jobs" / "webhooks.py").read_text())
    module: dict[str, Any] = {"__name__": "jobs.life"}
    exec(SOURCE, module)
    catalog = Catalog().refresh()
    for name in re.findall(r"^def (\w+)", SOURCE, re.MULTILINE):
        catalog.functions[f"life.{name}"] = Function(f"life.{name}", module[name])
    queues = ("default", "other", "webhooks")
    processes = [
        project.start(*RQ_WORKER, *queues, LOG_LEVEL="ERROR"),
        project.start("scheduler.py", LOG_LEVEL="ERROR"),
    ]
    until(lambda: valkey.zcard(LEASES) and valkey.get("rq:scheduler_lock"))
    yield create_app(Settings(request_limit="100000/h"), valkey, catalog).test_client()
    for process in processes:
        process.terminate()
    for process in processes:
        process.communicate(timeout=20)


@pytest.fixture
def listening(valkey: redis.Redis) -> Iterator[None]:
    """Somebody follows what happens."""
    hub = Hub(valkey, 1)
    found = hub.listen(lambda _: True)
    assert found
    yield
    found[0].close()
    until(lambda: hub._thread is None)


def send(client: FlaskClient, path: str, body: Any = None, method: str = "POST", **headers: str) -> Any:
    answer = client.open(f"/api/v1{path}", method=method, json=body, headers=headers)
    assert answer.status_code < 300, answer.get_data(as_text=True)
    return answer.get_json()


def put(client: FlaskClient, function: str, *args: Any, **said: Any) -> str:
    return str(send(client, "/jobs", {"function": f"life.{function}", "args": list(args), **said})["id"])


def node(name: str, function: str, *args: Any, **said: Any) -> dict[str, Any]:
    return {"name": name, "function": f"life.{function}", "args": list(args), **said}


def use_jobs(client: FlaskClient, valkey: redis.Redis, receiver: Receiver) -> None:
    """Jobs of every kind, and every end of theirs."""
    for function in ("fail", "fickle", "again", "track", "late", "die", "fragile", "fragile"):
        put(client, function)
    for number in range(6):
        put(client, "rated", number)
        put(client, "narrow", "a" if number % 2 else "b")
    finished = put(client, "add", 1, result_ttl=100, tags=["t"], description="d")
    put(client, "add", 1, result_ttl=0, retry={"max": 1})
    put(client, "fail", failure_ttl=0)
    put(client, "fail", True, retry={"max": 3})
    put(client, "add", 1, queue="other", at_front=True, timeout=5, rate_limit="100/s", concurrency={"most": 5})
    put(client, "add", 1, queue=HELD, ttl=1)
    send(client, "/jobs/bulk", {"jobs": [{"function": "life.add", "args": [n]} for n in range(40)]})
    until(lambda: status(valkey, finished) == "finished")

    waits = put(client, "add", 1, delay=1)
    for parents in ([waits], [waits, finished], [put(client, "add", 1)]):
        put(client, "add", 1, depends_on=parents)
    canceled = put(client, "add", 1, queue=HELD)
    child = put(client, "add", 1, depends_on=[canceled])
    for one in (canceled, child, put(client, "add", 1, delay=60)):
        send(client, f"/jobs/{one}/cancel")
    put(client, "add", 1, queue=HELD)
    send(client, f"/queues/{HELD}/empty")

    running = put(client, "hang")
    until(lambda: status(valkey, running) == "started")
    send(client, f"/jobs/{running}/cancel")
    until(lambda: status(valkey, running) == "stopped")
    for one in (put(client, "add", 1, delay=60), put(client, "add", 1, depends_on=[put(client, "add", 1, delay=1)])):
        send(client, f"/jobs/{one}", {"tags": ["new"], "queue": "other"}, "PATCH")
        send(client, f"/jobs/{one}", method="DELETE")
    failed = put(client, "fail")
    until(lambda: status(valkey, failed) == "failed")
    send(client, f"/jobs/{failed}/requeue", {"args": [True]})
    send(client, "/jobs/requeue", {"function": "life.late", "dry_run": True})

    for on_conflict in ("return", "replace"):
        for _ in range(2):
            put(client, "only", 1, queue=HELD, unique={"on_conflict": on_conflict})
    for body in ({"jobs": [node("a", "add", 1)]},) * 2:
        send(client, "/workflows", body, Idempotency_Key="flow")
    for _ in range(2):
        body = {"function": "life.add", "args": [1]}
        send(client, "/jobs", body, Idempotency_Key="once")
    own = {"url": f"{receiver.base}/ok", "secret": SECRET}
    put(client, "add", 1, webhook=own)
    send(client, "/workflows", {"jobs": [node("a", "add", 1)], "webhook": own})
    put(client, "die_twice")
    put(client, "again", webhook=own)
    for path, function in (("/ok", "add"), ("/status/410", "add"), ("/ok", "fail")):
        put(client, function, *([1] if function == "add" else []), webhook={"url": receiver.base + path})
    until(lambda: valkey.exists(DISABLED_WEBHOOKS))


def use_workflows(client: FlaskClient, valkey: redis.Redis, receiver: Receiver) -> None:
    """Workflows, and every end of theirs."""
    hooks = {name: {"function": "life.add", "args": [1]} for name in ("on_success", "on_failure", "on_complete")}
    good = [
        node("a", "add", 1),
        node("m", "add", each=[1, 2, 3], after=["a"]),
        node("s", "add", {"$result": "a"}, after=["m", "a"], delay=1),
    ]
    bad = [node("a", "fail"), node("b", "add", 1, after=["a"]), node("c", "add", 1, after=["b"]), node("d", "add", 1)]
    late = [node("a", "add", 1, delay=60), node("b", "add", 1, after=["a"])]
    send(client, "/workflows", {"name": "good", "jobs": good, "webhook": {"url": receiver.base}, **hooks})
    send(client, "/workflows", {"jobs": bad, "on_error": "stop", **hooks})
    canceled = send(client, "/workflows", {"jobs": late, **hooks})["id"]
    send(client, f"/workflows/{canceled}/cancel")
    dead = send(client, "/workflows", {"jobs": bad, **hooks})["id"]
    until(lambda: send(client, f"/workflows/{dead}", method="GET")["status"] == "failed")
    send(client, f"/jobs/{dead}-a/requeue", {"args": [True]})
    deleted = send(client, "/workflows", {"jobs": late})["id"]
    for name in ("a", "b"):
        send(client, f"/jobs/{deleted}-{name}", method="DELETE")


def use_rq(client: FlaskClient, valkey: redis.Redis) -> None:
    """What comes by RQ itself, and what is not as it should be."""
    queue = rq.Queue("default", connection=valkey, serializer=JSONSerializer)
    queue.enqueue("jobs.life.fail")
    queue.enqueue("jobs.life.add", 1, on_success=rq.Callback("jobs.life.told"), repeat=rq.Repeat(times=1))
    Group.create(valkey).enqueue_many(queue, [rq.Queue.prepare_data("jobs.life.add", args=[1])])
    valkey.set("rq:job:garbage", "no hash")
    queue.push_job_id("garbage")
    valkey.zadd("rq:scheduler:scheduled_jobs", {"foreign": 1})

    lost = put(client, "add", 1, queue="graves", concurrency={"most": 1}, retry={"max": 1, "intervals": [0]})
    for _ in range(2):
        valkey.zadd(LEASES, {"dead": 1})
        valkey.hset("rq:worker:dead", mapping={"queues": "graves", "birth": ""})
        claims = RedisSession(valkey, "dead", give_up=lambda: True)
        [claimed] = claims.claim(["graves"], claims.new_executions(1))  # type: ignore[misc]
        claims.begins(claimed, time.time())
        claims.settle()
        claims._connection.close()
        lost_workers.Sweeper(valkey)._remove_worker("dead")
    callback_processes.wait()
    assert status(valkey, lost) == "failed"


def use_schedules(client: FlaskClient) -> None:
    for name in ("nightly", "gone"):
        rule = {"function": "life.add", "args": [1], "cron": "0 2 * * *", "overlap": "skip"}
        send(client, f"/schedules/{name}", rule, "PUT")
        send(client, f"/schedules/{name}/trigger")
    send(client, "/schedules/nightly/pause")
    send(client, "/schedules/nightly/resume")
    send(client, "/schedules/gone", method="DELETE")


def pending(valkey: redis.Redis) -> list[bytes]:
    """Keys of what is still to be done."""
    patterns = (
        "rq:wip:*", "rq:scheduled:*", "rq:queue:*", "jobline:limit*:waiting", "jobline:schedules:open_runs",
        "jobline:workflows:open",
    )  # fmt: skip
    found = [key for pattern in patterns for key in valkey.keys(pattern) if key != f"rq:queue:{HELD}".encode()]
    return found + ([OUTBOX.encode()] if valkey.xlen(OUTBOX) else [])


def without_expiry(valkey: redis.Redis, but: str = "") -> list[str]:
    """Keys with no expiry and no reason for it, each with its type."""
    reasons = re.compile("|".join(filter(None, (*LASTING, but))))
    return [
        f"{key.decode()} ({valkey.type(key).decode()})"
        for key in valkey.keys()
        if valkey.ttl(key) == -1 and not reasons.fullmatch(key.decode())
    ]


def expire(valkey: redis.Redis) -> None:
    """As if the time of all keys that have an expiry were over."""
    for key in valkey.keys():
        if valkey.ttl(key) != -1:
            valkey.delete(key)


def contents(valkey: redis.Redis, key: str) -> str:
    kind = valkey.type(key)
    if kind == b"hash":
        return str(valkey.hgetall(key))
    if kind in (b"set", b"zset"):
        return str(valkey.smembers(key) if kind == b"set" else valkey.zrange(key, 0, -1))
    return str(valkey.xrange(key) if kind == b"stream" else valkey.lrange(key, 0, -1))


@pytest.mark.usefixtures("listening")
def test_every_key_has_an_expiry_and_nothing_is_left_when_it_is_over(
    client: FlaskClient, valkey: redis.Redis, receiver: Receiver
) -> None:
    with Watcher(valkey) as watcher:
        send(client, f"/queues/{HELD}/pause")
        send(client, "/queues/other/pause")
        send(client, "/queues/other/resume")
        use_jobs(client, valkey, receiver)
        use_workflows(client, valkey, receiver)
        use_rq(client, valkey)
        use_schedules(client)
        forsaken = put(client, "add", 1, depends_on=[put(client, "fail", delay=1)])
        until(lambda: not pending(valkey), 40)
    assert watcher.problems <= {"type string of rq:job:garbage"}, "docs/redis.md is of app/redis/keys.py and fields.py"
    assert ours() - watcher.seen <= NOT_SEEN.keys()
    until(lambda: not valkey.keys("jobline:limit:*"))
    waiting = [key.decode() for key in valkey.lrange(f"rq:queue:{HELD}", 0, -1)]
    send(client, f"/queues/{HELD}/empty")
    made = {key.decode().split(":")[2] for key in valkey.keys("rq:job:*") if b":job::" not in key} | set(waiting)
    made = {job_id for job_id in made if not job_id.startswith("schedule-")}
    made |= {key.decode().split(":")[2] for key in valkey.keys("jobline:workflow:*")}
    assert len(made) > 100

    alive = "|".join((r"rq:workers(:\w+)?", "jobline:leases", f"rq:job::?{forsaken}(:dependencies)?"))
    assert not without_expiry(valkey, alive)

    expire(valkey)
    walk(valkey, ahead=400 * 86_400)
    assert status(valkey, forsaken) == "canceled"
    assert not without_expiry(valkey, alive)
    expire(valkey)
    walk(valkey, ahead=400 * 86_400)
    Worker(["default", "other", "webhooks", "graves", HELD], connection=valkey).run_maintenance_tasks()
    assert not without_expiry(valkey, alive)
    left = [key.decode() for key in valkey.keys() if not re.fullmatch(NAMES_JOBS, key.decode())]
    texts = {key: contents(valkey, key) for key in left if valkey.type(key) != b"string"}
    assert not {key: job_id for key, text in texts.items() for job_id in made if job_id in text}
