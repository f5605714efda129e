"""Nothing of a job is left in Redis when the job is gone: each way in which something was, step by step."""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import redis
import rq
from flask.testing import FlaskClient
from rq.executions import Execution
from rq.job import JobStatus
from rq.serializers import JSONSerializer

from app import limits
from app.api.application import create_app
from app.events.stream import Hub
from app.lifecycle import actions, callback_processes, executions, lost_workers, recovery
from app.lifecycle.leftovers import LeftoverRemover
from app.lifecycle.lost_workers import Sweeper
from app.lifecycle.quarantine import quarantine
from app.redis.keys import EVENTS, LEASES
from app.rq_adapter.rq_parts import Job
from app.settings import Settings, get_settings
from app.worker import Worker
from app.worker.claimed import Claimed
from app.worker.redis_session import RedisSession
from tests.conftest import Project, status, until

ADD = {"function": "demo.add", "args": [1, 2]}
DAY = 86_400


@pytest.fixture
def client(valkey: redis.Redis) -> FlaskClient:
    return create_app(Settings(), valkey).test_client()


@pytest.fixture
def claims(valkey: redis.Redis) -> Iterator[RedisSession]:
    """Of a worker named w."""
    valkey.zadd(LEASES, {"w": 0})
    valkey.hset("rq:worker:w", mapping={"birth": "", "state": "started", "queues": "default"})
    found = RedisSession(valkey, "w", give_up=lambda: True)
    yield found
    found._connection.close()


def enqueued(client: FlaskClient, **said: Any) -> str:
    answer = client.post("/api/v1/jobs", json={**ADD, **said})
    assert answer.status_code == 202, answer.json
    return str(answer.json["id"])


def begun(claims: RedisSession) -> Claimed:
    found = claims.claim(["default"], claims.new_executions(1))
    assert isinstance(found, list)
    [claimed] = found
    claims.begins(claimed, time.time())
    claims.settle()
    return claimed


def worker_of(valkey: redis.Redis, claimed: Claimed) -> tuple[Worker, Job]:
    """One that runs a job which was claimed."""
    worker = Worker(["default"], connection=valkey, name="w")
    worker.execution = Execution(claimed.execution_id, claimed.id, valkey, "w")
    return worker, Job.fetch(claimed.id, connection=valkey)


def fail(worker: Worker, job: Job) -> None:
    """As a worker does when a job has raised."""
    queue = worker.queues[0]
    worker.handle_execution_ended(job, queue, 60)
    worker.handle_job_failure(job, queue, exc_string="ValueError: no")


def lasting(valkey: redis.Redis, but: tuple[bytes, ...] = ()) -> set[str]:
    """Keys of jobs that have no expiry."""
    found = {key for pattern in ("rq:job:*", "rq:results:*", "rq:execution*") for key in valkey.keys(pattern)}
    return {key.decode() for key in found if valkey.ttl(key) == -1} - {key.decode() for key in but}


def walk(valkey: redis.Redis, ahead: float = 0) -> None:
    """The scheduler's, by a clock that is so many seconds ahead."""
    for _ in LeftoverRemover(valkey, lambda: time.time() + ahead).walk():
        pass


@pytest.mark.parametrize("retries", [0, 1, 2])
def test_the_failure_of_a_job_that_was_deleted_while_it_ran_does_not_bring_it_back(
    client: FlaskClient, claims: RedisSession, valkey: redis.Redis, retries: int
) -> None:
    wait = {"max": retries, "intervals": [retries - 1]} if retries else None
    job_id = enqueued(client, retry=wait)
    worker, job = worker_of(valkey, begun(claims))
    valkey.delete(f"rq:job:{job_id}")
    fail(worker, job)
    assert not lasting(valkey)
    assert not valkey.exists(f"rq:job:{job_id}", "rq:queue:default", "rq:scheduled:default", "rq:failed:default")


def test_the_success_of_a_job_that_was_deleted_while_it_ran_does_not_bring_it_back(
    client: FlaskClient, claims: RedisSession, valkey: redis.Redis
) -> None:
    job_id = enqueued(client)
    worker, job = worker_of(valkey, begun(claims))
    valkey.delete(f"rq:job:{job_id}")
    worker.handle_execution_ended(job, worker.queues[0], 60)
    job.started_at, job._result = job.ended_at, 3
    worker.handle_job_success(job, worker.queues[0], worker.queues[0].started_job_registry)
    assert not valkey.exists(f"rq:job:{job_id}", f"rq:results:{job_id}", "rq:finished:default")


def test_what_a_job_that_is_gone_saves_does_not_bring_it_back(client: FlaskClient, valkey: redis.Redis) -> None:
    job = Job.fetch(enqueued(client), connection=valkey)
    job.meta["mine"] = 1
    job.save_meta()
    assert json.loads(valkey.hget(job.key, "meta")) == {"mine": 1}
    valkey.delete(job.key)
    job.save_meta()
    job.heartbeat(datetime.now(UTC), 60)
    assert not valkey.exists(job.key)


def test_a_job_that_rq_requeues_does_not_expire_while_it_runs(
    client: FlaskClient, claims: RedisSession, valkey: redis.Redis
) -> None:
    job_id = enqueued(client, failure_ttl=50)
    fail(*worker_of(valkey, begun(claims)))
    assert 0 < valkey.ttl(f"rq:job:{job_id}") <= 50
    queue = rq.Queue("default", connection=valkey, serializer=JSONSerializer)
    queue.failed_job_registry.requeue(job_id)
    begun(claims)
    assert valkey.ttl(f"rq:job:{job_id}") == -1


@pytest.mark.parametrize("wait", [0, 5])
def test_an_execution_whose_time_has_run_out_is_settled_once(
    client: FlaskClient, claims: RedisSession, valkey: redis.Redis, wait: int
) -> None:
    job_id = enqueued(client, retry={"max": 3, "intervals": [wait]})
    claims.claim(["default"], claims.new_executions(1))
    [member] = valkey.zrange("rq:wip:default", 0, -1)
    valkey.zadd("rq:wip:default", {member: time.time() - 1})
    valkey.zrem(LEASES, "w")
    Worker(["default"], connection=valkey, name="other").run_maintenance_tasks()
    Sweeper(valkey).sweep()
    assert (status(valkey, job_id), valkey.hget(f"rq:job:{job_id}", "retries_left")) == ("queued", b"3")
    assert valkey.lrange("rq:queue:default", 0, -1) == [job_id.encode()]
    assert not valkey.exists("rq:scheduled:default")


def test_rq_s_maintenance_goes_on_cleaning_the_other_registries(valkey: redis.Redis) -> None:
    valkey.zadd("rq:finished:default", {"old": time.time() - 1, "new": time.time() + 60})
    valkey.zadd("rq:failed:default", {"old": time.time() - 1, "new": time.time() + 60})
    valkey.sadd("rq:workers:default", "rq:worker:gone")
    worker = Worker(["default"], connection=valkey)
    worker.run_maintenance_tasks()
    assert not worker.should_run_maintenance_tasks
    assert valkey.zrange("rq:finished:default", 0, -1) == valkey.zrange("rq:failed:default", 0, -1) == [b"new"]
    assert not valkey.exists("rq:workers:default", "rq:clean_registries:default")


def test_the_results_of_a_job_that_failed_expire_if_rq_was_given_no_failure_ttl(
    claims: RedisSession, valkey: redis.Redis
) -> None:
    queue = rq.Queue("default", connection=valkey, serializer=JSONSerializer)
    queue.enqueue("jobs.demo.add", job_id="job")
    fail(*worker_of(valkey, begun(claims)))
    assert not lasting(valkey)
    assert get_settings().failure_ttl - 60 < valkey.ttl("rq:results:job") <= get_settings().failure_ttl


@pytest.mark.parametrize("outcome", ["failed", "stopped"])
def test_nothing_is_kept_of_a_lost_job_whose_failure_ttl_is_0(
    client: FlaskClient, claims: RedisSession, valkey: redis.Redis, outcome: str
) -> None:
    job_id = enqueued(client, failure_ttl=0)
    child = enqueued(client, depends_on=[job_id])
    claimed = begun(claims)
    recovery.recover(
        valkey, executions.Execution("default", job_id, claimed.execution_id), "no", lambda _: recovery.Outcome(outcome)
    )
    callback_processes.wait()
    assert lasting(valkey) == {f"rq:job:{child}", f"rq:job::{child}:dependencies"}
    assert not valkey.exists(f"rq:job:{job_id}", f"rq:results:{job_id}")


def test_a_failure_with_a_failure_ttl_of_0_is_told_once(
    client: FlaskClient, claims: RedisSession, valkey: redis.Redis
) -> None:
    job_id = enqueued(client, failure_ttl=0)
    valkey.hset(f"rq:job:{job_id}", mapping={"follow": "webhook", "webhook": "{}"})
    fail(*worker_of(valkey, begun(claims)))
    assert [entry[b"status"] for _, entry in valkey.xrange("jobline:outbox")] == [b"failed"]


@pytest.mark.parametrize(("failure_ttl", "kept"), [(0, 60), (500, 500), (None, 30 * DAY), (-1, -1)])
def test_all_of_a_canceled_job_expires(
    client: FlaskClient, valkey: redis.Redis, failure_ttl: int | None, kept: int
) -> None:
    parent, job_id = enqueued(client), enqueued(client, failure_ttl=failure_ttl, depends_on=[])
    middle = enqueued(client, failure_ttl=failure_ttl, depends_on=[parent])
    child = enqueued(client, depends_on=[middle])
    if failure_ttl is None:
        valkey.hdel(f"rq:job:{middle}", "failure_ttl")  # as RQ enqueues it
        valkey.hdel(f"rq:job:{job_id}", "failure_ttl")
    for one in (job_id, middle):
        actions.cancel(valkey, one)
    keys = (f"rq:job:{job_id}", f"rq:job:{middle}", f"rq:job:{middle}:dependents", f"rq:job::{middle}:dependencies")
    assert {valkey.ttl(key) for key in keys} <= {kept, kept - 1}
    actions.requeue(valkey, middle)
    assert {valkey.ttl(key) for key in keys[1:]} == {-1}
    assert status(valkey, child) == "deferred"


def test_a_parent_that_had_finished_has_no_dependents(
    client: FlaskClient, claims: RedisSession, valkey: redis.Redis
) -> None:
    done, pending = enqueued(client), enqueued(client, delay=60)
    begun(claims)
    valkey.hset(f"rq:job:{done}", "status", JobStatus.FINISHED.value)
    child = enqueued(client, depends_on=[done, pending])
    assert not valkey.exists(f"rq:job:{done}:dependents")
    assert valkey.smembers(f"rq:job:{pending}:dependents") == {child.encode()}
    assert valkey.smembers(f"rq:job::{child}:dependencies") == {done.encode(), pending.encode()}


@pytest.mark.parametrize("outcome", ["returned", "failed"])
def test_a_lost_execution_gives_up_its_place(
    client: FlaskClient, claims: RedisSession, valkey: redis.Redis, outcome: str
) -> None:
    first, second = enqueued(client, concurrency={"most": 1}), enqueued(client, concurrency={"most": 1})
    claimed = begun(claims)
    claims.claim(["default"], claims.new_executions(1))
    assert (status(valkey, first), status(valkey, second)) == ("started", "scheduled")
    recovery.recover(
        valkey, executions.Execution("default", first, claimed.execution_id), "no", lambda _: recovery.Outcome(outcome)
    )
    callback_processes.wait()
    assert (status(valkey, first), status(valkey, second)) == ({"returned": "queued"}.get(outcome, outcome), "queued")
    assert not valkey.keys("jobline:limit:*:held")


def test_the_place_of_a_job_that_is_deleted_before_it_begins_is_given_up(
    client: FlaskClient, claims: RedisSession, valkey: redis.Redis
) -> None:
    enqueued(client, concurrency={"most": 1})
    second = enqueued(client, concurrency={"most": 1})
    claimed = begun(claims)
    claims.claim(["default"], claims.new_executions(1))
    claims.releases(claimed)
    claims.settle()
    assert valkey.keys("jobline:limit:*:let_go")
    valkey.delete(f"rq:job:{second}")
    valkey.delete("rq:queue:default")
    until(lambda: limits.sweep(valkey) and not valkey.keys("jobline:limit*"))


def test_an_unreadable_job_is_kept_for_ever_if_failures_are(
    valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAILURE_TTL", "-1")
    get_settings.cache_clear()
    valkey.set("rq:job:bad", "no hash")
    quarantine(valkey, b"bad", "default", ValueError("no"))
    assert {valkey.ttl(key) for key in ("rq:job:bad", "rq:results:bad", "jobline:unreadable:bad")} == {-1}
    assert valkey.zscore("rq:failed:default", "bad") == -1


def test_an_unreadable_job_gives_up_its_place(client: FlaskClient, project: Project, valkey: redis.Redis) -> None:
    job_id = enqueued(client, concurrency={"most": 1})
    valkey.hset(f"rq:job:{job_id}", "timeout", "no number")
    project.work()
    assert status(valkey, job_id) == "failed"
    assert not valkey.keys("jobline:limit*")


def test_a_worker_that_was_given_up_leaves_no_hash(
    client: FlaskClient, claims: RedisSession, valkey: redis.Redis
) -> None:
    enqueued(client)
    lost_workers.forget(valkey, "w")
    claims.claim(["default"], claims.new_executions(1))
    assert not valkey.exists("rq:worker:w")
    valkey.set("rq:suspended", 1)
    claims.claim(["default"], claims.new_executions(1))
    assert not valkey.exists("rq:worker:w")
    recovery.fence(valkey, "w")
    assert valkey.ttl("rq:worker:w") > 0


def test_a_job_is_canceled_when_what_it_depends_on_is_gone(client: FlaskClient, valkey: redis.Redis) -> None:
    gone, there = enqueued(client, ttl=100), enqueued(client)
    orphan, patient = enqueued(client, depends_on=[gone]), enqueued(client, depends_on=[gone, there])
    valkey.delete(f"rq:job:{gone}")  # as if it had expired
    walk(valkey)
    assert status(valkey, orphan) == "deferred"
    walk(valkey, ahead=61)
    assert (status(valkey, orphan), status(valkey, patient)) == ("canceled", "deferred")
    error = client.get(f"/api/v1/jobs/{orphan}").get_json()["error"]
    assert (error["type"], "had not finished" in error["message"]) == ("Canceled", True)
    assert valkey.ttl(f"rq:job:{orphan}") > 0
    assert not valkey.exists(f"rq:job:{gone}:dependents")


def test_registries_forget_what_is_gone(client: FlaskClient, valkey: redis.Redis) -> None:
    canceled, kept, child = enqueued(client), enqueued(client), enqueued(client, delay=60)
    deferred = enqueued(client, depends_on=[child], ttl=50)
    for one in (canceled, kept):
        actions.cancel(valkey, one)
    flow = client.post("/api/v1/workflows", json={"jobs": [{"name": "a", **ADD}]}).get_json()["id"]
    valkey.delete(f"rq:job:{canceled}", f"rq:job:{deferred}", f"jobline:workflow:{flow}")
    valkey.xadd(f"rq:results:{canceled}", {"type": 1})  # RQ forgets it when it deletes the job
    valkey.sadd("jobline:schedulers", "rq:scheduler_instance:gone")
    walk(valkey)
    assert valkey.zrange("rq:canceled:default", 0, -1) == [kept.encode()]
    assert not valkey.exists(
        "rq:deferred:default", f"rq:job::{deferred}:dependencies", f"rq:results:{canceled}", "jobline:workflows",
        "jobline:schedulers",
    )  # fmt: skip
    assert valkey.exists(f"rq:job:{kept}", f"rq:job:{child}") == 2


def test_registries_of_a_queue_that_no_worker_serves_are_cleaned_too(valkey: redis.Redis) -> None:
    valkey.sadd("rq:queues", "rq:queue:left")
    for registry in ("finished", "failed"):
        valkey.zadd(f"rq:{registry}:left", {"old": time.time() - 1, "new": time.time() + 60, "ever": -1})
    walk(valkey)
    assert valkey.zrange("rq:finished:left", 0, -1) == valkey.zrange("rq:failed:left", 0, -1) == [b"ever", b"new"]


def test_a_job_of_a_workflow_that_never_began_expires_and_waits_again_without_expiry(
    client: FlaskClient, claims: RedisSession, valkey: redis.Redis
) -> None:
    body = {"jobs": [{"name": "a", **ADD}, {"name": "b", **ADD, "after": ["a"]}], "on_success": ADD}
    flow = client.post("/api/v1/workflows", json=body).get_json()["id"]
    fail(*worker_of(valkey, begun(claims)))
    assert {status(valkey, f"{flow}-{name}") for name in ("b", "on_success")} == {"canceled"}
    assert not lasting(valkey)
    actions.requeue(valkey, f"{flow}-a")
    assert lasting(valkey) == {f"rq:job:{flow}-{name}" for name in ("a", "b", "on_success")}


def test_a_listener_hears_all_where_the_stream_of_events_runs_out_as_it_comes(valkey: redis.Redis) -> None:
    class Late(redis.Redis):
        def xlen(self, name: Any) -> Any:
            found = super().xlen(name)
            self.delete(EVENTS)  # as if it had expired here
            return found

    hub = Hub(Late.from_url(get_settings().redis_url.get_secret_value()), 1)  # type: ignore[union-attr]
    valkey.xadd(EVENTS, {"ids": ""})
    assert hub._latest() == valkey.xrevrange(EVENTS, count=1)[0][0].decode()
    assert valkey.ttl(EVENTS) > 0


def test_urls_that_are_disabled_are_forgotten_in_the_end(valkey: redis.Redis) -> None:
    from app.webhooks.webhook_delivery import DISABLED_SECONDS, _disable

    _disable(valkey, "https://example.com/")
    assert DISABLED_SECONDS - 10 < valkey.ttl("jobline:webhooks:disabled") <= DISABLED_SECONDS
