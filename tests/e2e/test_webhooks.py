"""Each end of a job with a webhook is told exactly once: however it ends, and whoever is killed."""

import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest
import redis
from rq.command import send_stop_job_command

from app.author.options import Webhook
from app.catalog.catalog import Catalog, Function
from app.enqueue import new_job, write
from app.enqueue.new_job import NewJob
from app.lifecycle import actions, outbox
from app.serializer import JSON
from app.settings import Settings
from app.views import job_view
from tests.conftest import ROOT, RQ_WORKER, Project, status, until
from tests.receiver import OTHER_SECRET, SECRET, Received, Receiver

SOURCE = """
import os, signal, time
from app import Discard, Retry, job


def value(x: object = 3) -> object:
    return x


def fail() -> None:
    raise ValueError("no")


def nap(seconds: float) -> None:
    time.sleep(seconds)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@job(idempotent=True)
def work(number: int) -> int:
    time.sleep(0.02)
    if number % 5 == 0:
        raise ValueError(number)
    return number
"""
ENVIRONMENT = {
    "WEBHOOK_SECRET": SECRET,
    "WEBHOOK_ALLOW_HOSTS": "127.0.0.1",
    "LOG_LEVEL": "ERROR",
}  # nobody reads what they print

Started = list[subprocess.Popen[bytes]]


@pytest.fixture
def started() -> Iterator[Started]:
    processes: Started = []
    yield processes
    for process in processes:
        kill(process)


def kill(process: subprocess.Popen[bytes]) -> None:
    with_children = []
    if process.poll() is None:
        with_children = psutil.Process(process.pid).children(recursive=True)
        process.kill()
    for child in with_children:
        if child.is_running():
            child.kill()
    process.wait()
    if process.stdout:
        process.stdout.close()


@pytest.fixture
def site(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    project.write("kinds", SOURCE)
    project.write("webhooks", (ROOT / "jobs" / "webhooks.py").read_text())
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    return project


def worker(project: Project, started: Started, *queues: str) -> subprocess.Popen[bytes]:
    started.append(project.start(*RQ_WORKER, *queues))
    return started[-1]


def prepared(name: str, url: str, *args: object, secret: str = "", **said: Any) -> NewJob:
    def call() -> None: ...

    webhook = Webhook(url, secret=secret)
    return new_job.prepare(Function(f"kinds.{name}", call), Settings(), list(args), {}, webhook=webhook, **said)


def put(connection: redis.Redis, name: str, url: str, *args: object, **said: Any) -> str:
    job = prepared(name, url, *args, **said)
    write.enqueue(connection, [job])
    return job.id


def told(receiver: Receiver, job_id: str) -> list[Received]:
    return [one for one in receiver.received if JSON.loads(one.body)["data"]["id"] == job_id]


def is_put_off(connection: redis.Redis, job_id: str) -> bool:
    """RQ schedules a retry in several steps: the execution ends in the last."""
    return status(connection, job_id) == "scheduled" and not connection.zcard("rq:wip:webhooks")


def stop(connection: redis.Redis, job_id: str) -> None:
    until(lambda: status(connection, job_id) == "started")
    send_stop_job_command(connection, job_id, JSON)


def cancel(connection: redis.Redis, job_id: str) -> None:
    actions.cancel(connection, job_id)
    outbox.follow_up(connection)


def nothing(connection: redis.Redis, job_id: str) -> None: ...


WAYS: dict[str, tuple[str, list[object], dict[str, Any], Callable[[redis.Redis, str], None], str]] = {
    "finished": ("value", [], {}, nothing, "finished"),
    "finished, kept for ever": ("value", [], {"result_ttl": -1}, nothing, "finished"),
    "finished, and not kept": ("value", [], {"result_ttl": 0}, nothing, "finished"),
    "failed": ("fail", [], {}, nothing, "failed"),
    "failed after retries": ("fail", [], {"retry_waits": [0, 0]}, nothing, "failed"),
    "timed out": ("nap", [60], {"timeout": 1}, nothing, "failed"),
    "the horse was killed": ("die", [], {}, nothing, "failed"),
    "an unknown function": ("nobody", [], {}, nothing, "failed"),
    "stopped": ("nap", [60], {}, stop, "stopped"),
    "canceled": ("value", [], {"queue": "nobody-takes"}, cancel, "canceled"),
}


@pytest.mark.parametrize("way", WAYS)
def test_each_way_of_ending_is_told_once(
    site: Project, valkey: redis.Redis, receiver: Receiver, started: Started, way: str
) -> None:
    name, args, said, then, event = WAYS[way]
    worker(site, started, "default", "webhooks")
    job_id = put(valkey, name, f"{receiver.base}/ok", *args, **said)
    then(valkey, job_id)
    [received] = until(lambda: told(receiver, job_id))
    message = received.verified()
    assert message["type"] == f"job.{event}"
    assert message["data"]["status"] == event
    assert message["timestamp"] == message["data"]["ended_at"]
    assert message["data"]["result"] == (3 if event == "finished" else None)
    if event in ("failed", "stopped"):
        assert message["data"]["error"]["message"]
    delivery = received.headers["webhook-id"]
    until(lambda: status(valkey, delivery) == "finished")
    [job] = job_view.fetch(valkey, [delivery])
    assert job
    assert (job["result"]["status"], job["result"]["attempt"], job["tags"]) == (204, 1, ["webhook"])
    assert valkey.xlen("jobline:outbox") == 0
    outbox.follow_up(valkey)
    assert valkey.llen("rq:queue:webhooks") == 0
    assert len(told(receiver, job_id)) == 1


def test_an_unreadable_job_is_told_as_failed(
    site: Project, valkey: redis.Redis, receiver: Receiver, started: Started
) -> None:
    job = prepared("value", f"{receiver.base}/ok", queue="held")
    write.enqueue(valkey, [job])
    valkey.hset(f"rq:job:{job.id}", "timeout", "soon")
    worker(site, started, "held", "webhooks")
    started.append(site.start("-m", "scheduler"))
    [received] = until(lambda: told(receiver, job.id))
    assert received.verified()["type"] == "job.failed"
    assert received.verified()["data"]["error"]["type"] == "UnreadableJob"


def test_what_killed_processes_left_behind_the_scheduler_delivers(
    site: Project, valkey: redis.Redis, receiver: Receiver, started: Started
) -> None:
    job_id = put(valkey, "value", f"{receiver.base}/ok", queue="nobody-takes")
    actions.cancel(valkey, job_id)  # and whoever canceled it died here
    assert valkey.xlen("jobline:outbox") == 1
    worker(site, started, "webhooks")
    started.append(site.start("-m", "scheduler"))
    assert until(lambda: told(receiver, job_id))[0].verified()["type"] == "job.canceled"


def test_a_failed_delivery_is_retried_and_can_be_replayed(
    site: Project, valkey: redis.Redis, receiver: Receiver, started: Started
) -> None:
    worker(site, started, "default", "webhooks")
    job_id = put(valkey, "value", f"{receiver.base}/status/500")
    [first] = until(lambda: told(receiver, job_id))
    delivery = first.headers["webhook-id"]
    until(lambda: is_put_off(valkey, delivery))
    due = valkey.zscore("rq:scheduled:webhooks", delivery) - time.time()
    assert 2 < due < 7
    job: Any = job_view.fetch(valkey, [delivery])[0]
    assert (job["attempts"], job["retries_left"]) == (1, 8)
    cancel(valkey, delivery)
    actions.requeue(valkey, delivery)
    _, second = until(lambda: len(told(receiver, job_id)) == 2 and told(receiver, job_id))
    assert second.headers["webhook-id"] == delivery
    assert second.verified() == first.verified()


def test_retry_after_decides_when_to_try_again(
    site: Project, valkey: redis.Redis, receiver: Receiver, started: Started
) -> None:
    worker(site, started, "default", "webhooks")
    job_id = put(valkey, "value", f"{receiver.base}/busy/429/600")
    [received] = until(lambda: told(receiver, job_id))
    delivery = received.headers["webhook-id"]
    until(lambda: is_put_off(valkey, delivery))
    assert 590 < valkey.zscore("rq:scheduled:webhooks", delivery) - time.time() < 602


def test_an_answer_that_drips_ends_at_the_timeout_and_is_retried(
    site: Project, valkey: redis.Redis, receiver: Receiver, started: Started
) -> None:
    job_id = put(valkey, "value", f"{receiver.base}/drip")
    first = worker(site, started, "default")
    delivery = until(lambda: valkey.lrange("rq:queue:webhooks", 0, -1))[0].decode()
    kill(first)
    valkey.hset(f"rq:job:{delivery}", "timeout", 1)  # as it stands after 24 of its 25 seconds
    worker(site, started, "webhooks")
    until(lambda: is_put_off(valkey, delivery))
    assert len(told(receiver, job_id)) == 1
    [job] = job_view.fetch(valkey, [delivery])
    assert job
    assert job["retries_left"] == 8


def test_410_fails_at_once_and_so_does_what_follows(
    site: Project, valkey: redis.Redis, receiver: Receiver, started: Started
) -> None:
    worker(site, started, "default", "webhooks")
    for _ in range(2):
        put(valkey, "value", f"{receiver.base}/status/410")
    until(lambda: valkey.zcard("rq:failed:webhooks") == 2)
    assert len(receiver.received) == 1
    for delivery in valkey.zrange("rq:failed:webhooks", 0, -1):
        [job] = job_view.fetch(valkey, [delivery.decode()])
        assert job
        assert "410 Gone" in job["error"]["message"]


def test_the_secret_of_a_job_shows_nowhere_but_in_its_hash(
    site: Project, valkey: redis.Redis, receiver: Receiver, started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOG_LEVEL", "DEBUG")
    process = worker(site, started, "default", "webhooks")
    good = put(valkey, "value", f"{receiver.base}/ok", secret=OTHER_SECRET)
    bad = put(valkey, "fail", f"{receiver.base}/status/500", secret=OTHER_SECRET)
    for job_id in (good, bad):
        [received] = until(lambda job_id=job_id: told(receiver, job_id))  # type: ignore[misc]
        assert received.verified(OTHER_SECRET)
    until(lambda: valkey.zcard("rq:scheduled:webhooks") == 1 and valkey.zcard("rq:finished:webhooks") == 1)
    process.send_signal(signal.SIGTERM)
    output = process.communicate(timeout=20)[0].decode()
    hidden = OTHER_SECRET.removeprefix("whsec_")
    assert "job finished" in output
    assert hidden not in output
    for key in valkey.keys():
        kind = valkey.type(key)
        if kind == b"hash":
            fields = valkey.hgetall(key)
            for name in (b"webhook_secret", b"delivery_secret"):
                assert fields.pop(name, b"") in (b"", OTHER_SECRET.encode())
            assert hidden not in str(fields)
        elif kind == b"stream":
            assert hidden not in str(valkey.xrange(key))


def test_ends_are_told_once_whoever_is_killed(
    site: Project, valkey: redis.Redis, receiver: Receiver, started: Started
) -> None:
    """Nobody takes the deliveries, so that all can be counted."""
    chance, jobs = random.Random(5), 300
    made = [
        prepared("work", f"{receiver.base}/ok", number, **[{}, {"result_ttl": 0}, {"retry_waits": [0]}][number % 3])
        for number in range(jobs)
    ]
    write.enqueue(valkey, made)
    started.append(site.start("-m", "scheduler"))
    workers = [worker(site, started, "default") for _ in range(2)]
    kills = 0
    until(lambda: valkey.scard("rq:workers") == 2)
    while valkey.llen("rq:queue:default"):
        time.sleep(chance.uniform(0.1, 0.5))
        chosen = chance.randrange(2)
        process = workers[chosen]
        horses = psutil.Process(process.pid).children()
        what = chance.choice(["horse", "all"])
        if what == "all":
            kill(process)
            workers[chosen] = worker(site, started, "default")
        elif horses:
            os.kill(horses[0].pid, signal.SIGKILL)
        kills += 1
    assert kills > 5

    def all_told() -> bool:
        return not valkey.zcard("rq:wip:default") and not valkey.llen("rq:queue:default") and not outbox()

    def outbox() -> int:
        return int(valkey.xlen("jobline:outbox"))

    until(all_told, 60)
    ids = [delivery.decode() for delivery in valkey.lrange("rq:queue:webhooks", 0, -1)]
    messages = [job["args"][1] for job in job_view.fetch(valkey, ids) if job]
    ends = Counter(message["data"]["id"] for message in messages)
    assert set(ends) == {job.id for job in made}
    assert set(ends.values()) == {1}
    for message in messages:
        assert message["type"] == f"job.{message['data']['status']}"
        assert status(valkey, message["data"]["id"]) in (message["data"]["status"], "none")


def test_the_catalogue_has_the_delivery_with_its_timeout() -> None:
    options = Catalog().by_path("jobs.webhooks.deliver").options
    assert (options.queue, options.timeout, options.idempotent) == ("webhooks", 25, True)
