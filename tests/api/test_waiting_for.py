"""`waiting_for`: why a job is scheduled or deferred, for what, and until when."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient

from app.serializer import utc
from app.testing import Jobs, run_jobs
from app.views import job_view

START = datetime(2027, 1, 1, tzinfo=UTC)


SHOP = """
from app import Breaker, Limit, Retry, job


@job(rate_limit=Limit("1/m", key="{user}"))
def limited(user: str) -> None: ...


@job(breaker=Breaker(failures=1, window=60, cool_down=30), retry=Retry(max=1, intervals=(120,)))
def fragile() -> None:
    raise ConnectionError("no")
"""


def after(**duration: float) -> str:
    return utc(START + timedelta(**duration))


@pytest.fixture
def jobs(write_module: Callable[[str, str], None]) -> Iterator[Jobs]:
    write_module("shop", SHOP)
    with run_jobs(at=START) as found:
        yield found


def waiting_for(jobs: Jobs, job_id: str) -> object:
    """As the job itself says it, and the list in the same way."""
    alone = jobs.get(job_id)["waiting_for"]
    [listed] = [one for one in jobs.client.get("/api/v1/jobs").get_json()["jobs"] if one["id"] == job_id]
    assert listed["waiting_for"] == alone
    return alone


def test_a_delay_is_waited_for_until_its_time(jobs: Jobs) -> None:
    delayed = jobs.client.post("/api/v1/jobs", json={"function": "demo.add", "args": [1, 2], "delay": 60}).get_json()
    said = {"reason": "delay", "name": None, "until": after(seconds=60)}
    assert delayed["waiting_for"] == said
    assert waiting_for(jobs, delayed["id"]) == said
    jobs.advance(seconds=60)
    assert waiting_for(jobs, delayed["id"]) is None


def test_a_queued_job_waits_for_nothing(jobs: Jobs) -> None:
    assert waiting_for(jobs, jobs.enqueue("demo.add", 1, 2).id) is None


def on(reason: str, name: str) -> dict[str, object]:
    return {"reason": reason, "name": name, "until": None}


def test_a_deferred_job_waits_for_the_first_parent_that_has_not_ended(jobs: Jobs) -> None:
    first, late = jobs.enqueue("demo.add", 1, 2), jobs.enqueue_with({"delay": 60}, "demo.add", 1, 2)
    child = jobs.enqueue_with({"depends_on": [first.id, late.id]}, "demo.add", 1, 2)
    assert waiting_for(jobs, child.id) == on("dependency", first.id)
    jobs.run()
    assert waiting_for(jobs, child.id) == on("dependency", late.id)
    jobs.advance(seconds=60)
    assert (child.status, waiting_for(jobs, child.id)) == ("finished", None)


@pytest.mark.parametrize("end", ["failed", "canceled", "deleted"])
def test_a_parent_that_can_never_finish_is_named(jobs: Jobs, end: str) -> None:
    parent = jobs.enqueue("demo.fail", "no") if end == "failed" else jobs.enqueue("demo.add", 1, 2)
    child = jobs.enqueue_with({"depends_on": [parent.id]}, "demo.add", 1, 2)
    if end == "failed":
        jobs.run()
    elif end == "canceled":
        jobs.client.post(f"/api/v1/jobs/{parent.id}/cancel")
    else:
        jobs.client.delete(f"/api/v1/jobs/{parent.id}")
    assert waiting_for(jobs, child.id) == on("dead_dependency", parent.id)


@pytest.mark.parametrize("gone_first", [True, False])
def test_a_parent_that_failed_is_named_rather_than_one_that_was_deleted(jobs: Jobs, gone_first: bool) -> None:
    failing, gone = jobs.enqueue("demo.fail", "no"), jobs.enqueue("demo.add", 1, 2)
    parents = [gone.id, failing.id] if gone_first else [failing.id, gone.id]
    child = jobs.enqueue_with({"depends_on": parents}, "demo.add", 1, 2)
    jobs.client.delete(f"/api/v1/jobs/{gone.id}")
    jobs.run()
    assert waiting_for(jobs, child.id) == on("dead_dependency", failing.id)


def test_a_parent_that_is_requeued_is_waited_for_again(jobs: Jobs) -> None:
    parent = jobs.enqueue("demo.add", 1, 2)
    child = jobs.enqueue_with({"depends_on": [parent.id]}, "demo.add", 1, 2)
    jobs.client.post(f"/api/v1/jobs/{parent.id}/cancel")
    jobs.client.post(f"/api/v1/jobs/{parent.id}/requeue")
    assert waiting_for(jobs, child.id) == on("dependency", parent.id)
    jobs.run()
    assert child.status == "finished"


def test_a_parent_that_was_deleted_beside_one_that_runs_holds_up_nothing(jobs: Jobs) -> None:
    gone, other = jobs.enqueue("demo.add", 1, 2), jobs.enqueue_with({"delay": 60}, "demo.add", 1, 2)
    child = jobs.enqueue_with({"depends_on": [gone.id, other.id]}, "demo.add", 1, 2)
    jobs.client.delete(f"/api/v1/jobs/{gone.id}")
    assert waiting_for(jobs, child.id) == on("dependency", other.id)
    jobs.advance(seconds=60)
    assert child.status == "finished"


def test_a_job_that_a_failure_lets_begin_waits_for_no_failed_one(jobs: Jobs) -> None:
    failing, other = jobs.enqueue("demo.fail", "no"), jobs.enqueue_with({"delay": 60}, "demo.add", 1, 2)
    child = jobs.enqueue_with({"depends_on": [failing.id, other.id]}, "demo.add", 1, 2)
    jobs.redis.hset(f"rq:job:{child.id}", "allow_dependency_failures", 1)
    jobs.run()
    assert waiting_for(jobs, child.id) == on("dependency", other.id)


def test_a_job_of_a_workflow_waits_for_its_workflow(jobs: Jobs) -> None:
    nodes = [{"name": "a", "function": "demo.add", "args": [1, 2]}]
    nodes.append({**nodes[0], "name": "b", "after": ["a"]})
    workflow = jobs.client.post("/api/v1/workflows", json={"jobs": nodes}).get_json()["id"]
    assert waiting_for(jobs, f"{workflow}-b") == on("dependency", workflow)


def test_a_retry_is_waited_for_until_its_time(jobs: Jobs) -> None:
    failing = jobs.enqueue_with({"retry": {"max": 1, "intervals": [10]}}, "demo.fail", "no")
    jobs.run()
    assert waiting_for(jobs, failing.id) == {"reason": "retry", "name": None, "until": after(seconds=10)}


def test_a_requeued_job_that_is_delayed_waits_for_no_retry(jobs: Jobs) -> None:
    failing = jobs.enqueue("demo.fail", "no")
    jobs.run()
    jobs.client.post(f"/api/v1/jobs/{failing.id}/requeue")
    jobs.client.patch(f"/api/v1/jobs/{failing.id}", json={"delay": 60})
    assert waiting_for(jobs, failing.id) == {"reason": "delay", "name": None, "until": after(seconds=60)}


def test_a_rate_limit_is_named_with_the_value_of_its_key(jobs: Jobs) -> None:
    jobs.enqueue("shop.limited", "ann")
    second = jobs.enqueue("shop.limited", "ann")
    jobs.run()
    found: Any = waiting_for(jobs, second.id)
    assert (found["reason"], found["name"]) == ("rate_limit", "function:shop.limited:ann")
    assert after(seconds=60) <= found["until"] <= after(seconds=62)
    jobs.advance(seconds=62)
    assert (second.status, waiting_for(jobs, second.id)) == ("finished", None)


def test_concurrency_is_waited_for_without_a_time(jobs: Jobs) -> None:
    waits = jobs.enqueue_with({"concurrency": {"most": 1, "by": "queue"}}, "demo.add", 1, 2)
    jobs.redis.sadd("jobline:limit:slots:queue:default::held", "default|another:1")
    jobs.run()
    assert waiting_for(jobs, waits.id) == {"reason": "concurrency", "name": "queue:default", "until": None}


def test_a_breaker_is_waited_for_until_its_end_and_then_the_retry(jobs: Jobs) -> None:
    first, second = jobs.enqueue("shop.fragile"), jobs.enqueue("shop.fragile")
    jobs.run()
    assert waiting_for(jobs, first.id) == {"reason": "retry", "name": None, "until": after(seconds=120)}
    breaker = {"reason": "breaker", "name": "function:shop.fragile", "until": after(seconds=30.001)}
    assert waiting_for(jobs, second.id) == breaker
    jobs.advance(seconds=31)
    jobs.run()
    assert jobs.get(second.id)["attempts"] == 1
    assert jobs.redis.hget(f"rq:job:{second.id}", "waits_for") is None
    said: Any = waiting_for(jobs, second.id)
    assert said["reason"] == "retry"


@pytest.mark.parametrize("change", [{"delay": 3600}, {"queue": "low", "delay": 3600}])
def test_a_job_that_is_put_off_by_hand_waits_for_its_limit_no_more(jobs: Jobs, change: dict[str, object]) -> None:
    jobs.enqueue("shop.limited", "ann")
    second = jobs.enqueue("shop.limited", "ann")
    jobs.run()
    jobs.client.patch(f"/api/v1/jobs/{second.id}", json=change)
    assert waiting_for(jobs, second.id) == {"reason": "delay", "name": None, "until": after(hours=1)}


def test_a_job_that_was_canceled_while_it_waited_waits_anew_when_it_is_requeued(jobs: Jobs) -> None:
    """In its place in the order, not beside it until a time that is only a safeguard."""
    jobs.enqueue("shop.limited", "ann")
    second, third = jobs.enqueue("shop.limited", "ann"), jobs.enqueue("shop.limited", "ann")
    jobs.run()
    jobs.client.post(f"/api/v1/jobs/{second.id}/cancel")
    jobs.client.post(f"/api/v1/jobs/{second.id}/requeue")
    jobs.run()
    found: Any = waiting_for(jobs, second.id)
    assert found["reason"] == "rate_limit"
    waiting = jobs.redis.lrange("jobline:limit:rate:function:shop.limited:ann:waiting", 0, -1)
    assert waiting == [third.id.encode(), second.id.encode()]


def test_the_time_of_a_list_is_read_with_the_jobs(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    """No round trip more than one for the jobs and one for the times of those that are scheduled."""
    ids = [jobs.enqueue_with({"delay": 60}, "demo.add", n, 0).id for n in range(5)]
    trips: list[int] = []
    make = jobs.redis.pipeline
    monkeypatch.setattr(jobs.redis, "pipeline", lambda *said, **more: (trips.append(1), make(*said, **more))[1])
    assert [one and one["waiting_for"] for one in job_view.fetch(jobs.redis, ids)] == [
        {"reason": "delay", "name": None, "until": after(seconds=60)}
    ] * 5
    assert len(trips) == 2


def test_the_parents_of_a_list_are_read_with_the_times(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    parent = jobs.enqueue_with({"delay": 60}, "demo.add", 1, 2)
    children = [jobs.enqueue_with({"depends_on": [parent.id]}, "demo.add", n, 0).id for n in range(5)]
    trips: list[int] = []
    make = jobs.redis.pipeline
    monkeypatch.setattr(jobs.redis, "pipeline", lambda *said, **more: (trips.append(1), make(*said, **more))[1])
    shown = job_view.fetch(jobs.redis, [parent.id, *children])
    assert [one and one["waiting_for"] for one in shown[1:]] == [on("dependency", parent.id)] * 5
    assert len(trips) == 2


def test_the_openapi_document_lists_what_a_state_and_a_reason_may_be(jobs: Jobs) -> None:
    client: FlaskClient = jobs.client
    schemas = client.get("/openapi.json").get_json()["components"]["schemas"]
    states = ["created", "queued", "deferred", "scheduled", "started", "finished", "failed", "stopped", "canceled"]
    for name in ("Job", "JobDetail", "WorkflowJob", "ScheduledRun"):
        assert schemas[name]["properties"]["status"]["enum"] == states
    reasons = ["delay", "retry", "rate_limit", "concurrency", "breaker", "dependency", "dead_dependency"]
    assert schemas["WaitingFor"]["properties"]["reason"]["enum"] == reasons
    assert schemas["Worker"]["properties"]["state"]["enum"] == ["started", "suspended", "busy", "idle", "?"]
    assert schemas["Health"]["properties"]["status"]["enum"] == ["ok", "degraded"]
    assert "job.finished" in str(schemas["Webhook"]["properties"]["events"])
    assert schemas["Limit"]["properties"]["by"]["enum"] == ["function", "queue"]
    assert schemas["AuditEntry"]["properties"]["method"]["enum"] == ["POST", "PUT", "PATCH", "DELETE"]
