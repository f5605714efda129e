"""Graphs without a worker process: how they end, what they count, how long Redis keeps them, what a requeue reopens."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import redis

from app.lifecycle.quarantine import quarantine
from app.redis.client import rq_timestamp
from app.redis.keys import ended_key, job_key
from app.rq_adapter import rq_parts
from app.testing import Jobs, run_jobs
from app.workflows import store

START = datetime(2027, 1, 1, tzinfo=UTC)
URL = "/api/v1/workflows"
DAY, MONTH = 86_400, 30 * 86_400


@pytest.fixture
def jobs() -> Iterator[Jobs]:
    with run_jobs(at=START) as found:
        yield found


def add(name: str, *after: Any, **options: Any) -> dict[str, Any]:
    args = [1] if "each" in options else [1, 2]
    return {"name": name, "function": "demo.add", "args": args, "after": list(after), **options}


def fail(name: str, *after: Any, **options: Any) -> dict[str, Any]:
    return {"name": name, "function": "demo.fail", "args": ["no"], "after": list(after), **options}


def even_if_failed(name: str) -> dict[str, Any]:
    return {"name": name, "even_if_failed": True}


def submit(jobs: Jobs, *nodes: dict[str, Any], **options: Any) -> str:
    answer = jobs.client.post(URL, json={"jobs": nodes, **options})
    assert answer.status_code == 202, answer.get_json()
    return str(answer.get_json()["id"])


def shown(jobs: Jobs, workflow: str) -> dict[str, Any]:
    found: dict[str, Any] = jobs.client.get(f"{URL}/{workflow}").get_json()
    return found


def states(jobs: Jobs, workflow: str) -> dict[str, str]:
    return {job["name"]: job["status"] for job in shown(jobs, workflow)["jobs"]}


def counts(jobs: Jobs, workflow: str) -> dict[str, int]:
    """Those that are not 0."""
    return {name: count for name, count in shown(jobs, workflow)["counts"].items() if count}


def lifetimes(jobs: Jobs, *keys: str) -> list[int]:
    return [jobs.redis.ttl(key) for key in keys]


def parts(workflow: str) -> list[str]:
    return [f"jobline:workflow:{workflow}{part}" for part in ("", ":ended", ":results")]


def tell_end(jobs: Jobs, job_id: str, status: str) -> None:
    store.ADVANCE(jobs.redis, id=job_id, status=status, now=rq_timestamp(datetime.now(UTC)))


SUM = {"name": "sum", "function": "demo.add", "args": [{"$result": "one"}, 1], "after": ["one"]}


@pytest.mark.parametrize(("nodes", "kept"), [((add("one"), SUM), DAY), ((add("one"), SUM, fail("bad")), MONTH)])
def test_a_workflow_is_kept_for_its_time_after_its_end_and_without_limit_before(
    jobs: Jobs, nodes: tuple[dict[str, Any], ...], kept: int
) -> None:
    workflow = submit(jobs, *nodes, add("late", delay="1h"))
    jobs.run()
    assert lifetimes(jobs, *parts(workflow)) == [-1, -1, -1]
    jobs.advance(hours=1)
    assert lifetimes(jobs, *parts(workflow)) == [kept] * 3
    jobs.advance(seconds=kept + 1)
    assert jobs.client.get(f"{URL}/{workflow}").status_code == 404
    assert jobs.client.get(URL).get_json()["workflows"] == []
    assert jobs.redis.keys(f"*{workflow}*") == []


def test_a_list_forgets_workflows_that_have_run_out_and_shows_the_others(jobs: Jobs) -> None:
    first, gone, last = (submit(jobs, add("one", delay="1h")) for _ in range(3))
    jobs.redis.delete(*parts(gone))
    assert {flow["id"] for flow in jobs.client.get(URL).get_json()["workflows"]} == {first, last}
    assert jobs.redis.zscore("jobline:workflows", gone) is None


def test_what_is_canceled_with_its_parent_is_kept_as_a_failure_and_told_for_a_minute(jobs: Jobs) -> None:
    workflow = submit(jobs, fail("bad"), add("child", "bad"))
    jobs.run()
    child = f"{workflow}-child"
    assert lifetimes(jobs, job_key(child), ended_key(child)) == [MONTH, 60]
    assert jobs.redis.zscore("rq:canceled:default", child) == START.timestamp()
    assert jobs.redis.zcard("rq:deferred:default") == 0
    child_hash = jobs.redis.hgetall(job_key(child))
    assert child_hash[b"reason"] == b"it needs bad, which is failed"


@pytest.mark.parametrize("times", [1, 3])
def test_an_end_is_counted_once_however_often_it_is_told(jobs: Jobs, times: int) -> None:
    workflow = submit(jobs, add("one", each=[1, 2, 3]), add("after", "one"))
    for _ in range(times):
        tell_end(jobs, f"{workflow}-one-0", "finished")
    assert counts(jobs, workflow) == {"total": 4, "finished": 1}
    assert states(jobs, workflow)["after"] == "deferred"
    tell_end(jobs, f"{workflow}-one-1", "finished")
    assert states(jobs, workflow)["after"] == "deferred"  # there is a third
    jobs.run()
    for _ in range(times):
        tell_end(jobs, f"{workflow}-after", "failed")
    assert counts(jobs, workflow) == {"total": 4, "finished": 4}
    assert shown(jobs, workflow)["status"] == "finished"


def test_an_end_of_a_job_that_no_workflow_has_changes_nothing(jobs: Jobs) -> None:
    workflow = submit(jobs, add("one"))
    tell_end(jobs, f"{workflow}-other", "failed")
    assert counts(jobs, workflow) == {"total": 1}
    assert states(jobs, workflow) == {"one": "queued"}


def test_every_end_is_counted_by_its_state(jobs: Jobs) -> None:
    workflow = submit(jobs, add("ok"), fail("bad", each=["x", "y"], args=[]), add("lost", "bad", each=[1, 2, 3]))
    jobs.run()
    assert counts(jobs, workflow) == {"total": 6, "finished": 1, "failed": 2, "canceled": 3}
    assert shown(jobs, workflow)["status"] == "failed"


def test_a_job_waits_for_all_its_parents_each_with_all_its_jobs(jobs: Jobs) -> None:
    workflow = submit(jobs, add("now"), add("many", each=[1, 2], delay=60), add("later", delay=120),
                      add("child", "now", "many", "later"))  # fmt: skip
    for minutes, state in ((0, "deferred"), (1, "deferred"), (1, "finished")):
        jobs.advance(minutes=minutes)
        assert states(jobs, workflow)["child"] == state


def test_a_failed_parent_cancels_at_once_and_its_grandchildren_too(jobs: Jobs) -> None:
    workflow = submit(jobs, fail("bad"), add("slow", delay=60), add("child", "bad", "slow"), add("grand", "child"),
                      add("anyway", even_if_failed("child"), "slow"))  # fmt: skip
    jobs.run()
    waiting = {"bad": "failed", "slow": "scheduled", "child": "canceled", "grand": "canceled", "anyway": "deferred"}
    assert states(jobs, workflow) == waiting
    assert shown(jobs, workflow)["status"] == "running"
    jobs.advance(minutes=1)
    assert states(jobs, workflow) == {**waiting, "slow": "finished", "anyway": "finished"}
    assert counts(jobs, workflow) == {"total": 5, "finished": 2, "failed": 1, "canceled": 2}


def test_a_result_from_further_up_makes_a_job_wait_and_does_not_cancel_it(jobs: Jobs) -> None:
    """What is between allows a failure: it is not known whether the result is needed for it."""
    taker = add("taker", even_if_failed("between"), args=[{"$result": "bad"}, 1])
    workflow = submit(jobs, fail("bad"), add("between", "bad"), taker)
    jobs.run()
    assert states(jobs, workflow) == {"bad": "failed", "between": "canceled", "taker": "failed"}
    assert "int" in jobs.get(f"{workflow}-taker")["error"]["message"]  # it was called, with null


def test_one_failure_of_many_cancels_what_needs_them_at_once(jobs: Jobs) -> None:
    workflow = submit(jobs, add("many", each=[1, 2]), add("child", "many"), add("anyway", even_if_failed("many")))
    tell_end(jobs, f"{workflow}-many-0", "failed")
    found = states(jobs, workflow)
    assert (found["child"], found["anyway"]) == ("canceled", "deferred")


def test_a_job_that_was_deleted_is_canceled_and_fails_the_workflow(jobs: Jobs) -> None:
    workflow = submit(jobs, add("first"), add("gone", "first"), add("child", "gone"), add("other", "first"),
                      on_success={"function": "demo.add", "args": [0, 1]},
                      on_failure={"function": "demo.add", "args": [0, 2]})  # fmt: skip
    jobs.client.delete(f"/api/v1/jobs/{workflow}-gone")
    jobs.run()
    found = {"first": "finished", "gone": "canceled", "child": "canceled", "other": "finished"}
    hooks = {"on_success": "canceled", "on_failure": "finished"}
    assert {name: state for name, state in states(jobs, workflow).items() if name in found} == found
    assert {name: state for name, state in states(jobs, workflow).items() if name in hooks} == hooks
    assert counts(jobs, workflow) == {"total": 4, "finished": 2, "canceled": 2}
    assert shown(jobs, workflow)["status"] == "failed"
    assert lifetimes(jobs, parts(workflow)[0]) == [MONTH]


def test_a_job_that_has_gone_is_canceled_at_the_next_look(jobs: Jobs) -> None:
    workflow = submit(jobs, add("gone", delay="1h"), add("child", "gone"))
    jobs.redis.delete(job_key(f"{workflow}-gone"))
    jobs.advance(seconds=30)
    assert states(jobs, workflow) == {"gone": "canceled", "child": "canceled"}
    assert counts(jobs, workflow) == {"total": 2, "canceled": 2}
    assert shown(jobs, workflow)["status"] == "failed"


def test_a_deleted_job_among_others_of_its_node_lets_them_run(jobs: Jobs) -> None:
    workflow = submit(jobs, add("first"), add("many", "first", each=[1, 2, 3]), add("child", even_if_failed("many")))
    jobs.client.delete(f"/api/v1/jobs/{workflow}-many-1")
    tell_end(jobs, f"{workflow}-first", "finished")
    assert states(jobs, workflow)["child"] == "deferred"
    jobs.run()
    assert [job["status"] for job in shown(jobs, workflow)["jobs"]] == [
        "finished", "finished", "canceled", "finished", "finished",
    ]  # fmt: skip
    assert shown(jobs, workflow)["status"] == "failed"


@pytest.mark.parametrize("state", ["finished", "failed", "canceled"])
def test_the_jobs_that_follow_the_end_are_those_for_its_state(jobs: Jobs, state: str) -> None:
    hooks = {name: {"function": "demo.add", "args": [1, 2]} for name in ("on_success", "on_failure", "on_complete")}
    workflow = submit(jobs, fail("one") if state == "failed" else add("one"), **hooks)
    if state == "canceled":
        assert jobs.client.post(f"{URL}/{workflow}/cancel").status_code == 202
    jobs.run()
    of_hook = {name: jobs.get(f"{workflow}-{name}")["status"] for name in hooks}
    success, failure = ("finished", "canceled") if state == "finished" else ("canceled", "finished")
    assert of_hook == {"on_success": success, "on_failure": failure, "on_complete": "finished"}
    assert shown(jobs, workflow)["status"] == state
    assert counts(jobs, workflow) == {"total": 1, state: 1}


@pytest.mark.parametrize(("front", "order"), [(False, ["other", "child"]), (True, ["child", "other"])])
def test_a_job_that_may_begin_comes_into_its_queue_at_the_end_that_it_asks_for(
    jobs: Jobs, front: bool, order: list[str]
) -> None:
    workflow = submit(jobs, add("first", queue="high", delay="1h"), add("child", "first", at_front=front, ttl=600))
    jobs.advance(seconds=590)
    jobs.enqueue_with({"id": "other"}, "demo.add", 1, 2)
    tell_end(jobs, f"{workflow}-first", "finished")
    found = [job_id.decode().removeprefix(f"{workflow}-") for job_id in jobs.redis.lrange("rq:queue:default", 0, -1)]
    assert found == order
    assert lifetimes(jobs, job_key(f"{workflow}-child")) == [600]
    assert jobs.redis.zcard("rq:deferred:default") == 0


def test_very_many_jobs_of_a_node_are_queued_once_each_in_their_order(jobs: Jobs) -> None:
    workflow = submit(jobs, add("first", queue="high"), add("many", "first", each=list(range(2500))))
    tell_end(jobs, f"{workflow}-first", "finished")
    found = [job_id.decode() for job_id in jobs.redis.lrange("rq:queue:default", 0, -1)]
    assert found == [f"{workflow}-many-{number}" for number in range(2500)]


def test_a_delay_counts_from_when_the_job_could_begin(jobs: Jobs) -> None:
    workflow = submit(jobs, add("first", delay=60), add("child", "first", delay=30))
    jobs.advance(seconds=89)
    assert states(jobs, workflow) == {"first": "finished", "child": "scheduled"}
    jobs.advance(seconds=1)
    assert states(jobs, workflow)["child"] == "finished"


def test_a_stop_cancels_what_has_not_begun_and_says_why(jobs: Jobs) -> None:
    workflow = submit(jobs, fail("bad"), add("slow", delay=60), add("after", "slow"), on_error="stop")
    jobs.run()
    assert states(jobs, workflow) == {"bad": "failed", "slow": "canceled", "after": "canceled"}
    assert jobs.redis.hget(job_key(f"{workflow}-after"), "reason") == b"the workflow stops, for bad is failed"
    assert shown(jobs, workflow)["status"] == "failed"
    jobs.run()  # a look finds that all has ended
    assert jobs.redis.keys("jobline:workflows:*") == []


def test_a_requeued_job_reopens_what_was_canceled_for_its_sake(jobs: Jobs) -> None:
    hook = {"function": "demo.add", "args": [1, 2]}
    workflow = submit(jobs, add("ok"), fail("bad"), fail("worse"), add("child", "bad", ttl=600), add("lost", "worse"),
                      on_success=hook, on_failure=hook)  # fmt: skip
    jobs.run()
    assert counts(jobs, workflow) == {"total": 5, "finished": 1, "failed": 2, "canceled": 2}
    for name in ("bad", "worse"):
        assert jobs.client.post(f"/api/v1/jobs/{workflow}-{name}/requeue").status_code == 202
    assert shown(jobs, workflow)["status"] == "running"
    assert states(jobs, workflow)["child"] == "deferred"
    assert jobs.redis.smembers("jobline:workflows:open") == {workflow.encode()}  # the scheduler looks after it again
    assert counts(jobs, workflow) == {"total": 5, "finished": 1}
    keys = [*parts(workflow)[:2], job_key(f"{workflow}-child"), job_key(f"{workflow}-bad")]
    assert lifetimes(jobs, *keys) == [-1] * 4
    assert jobs.redis.zcard("rq:canceled:default") == 0
    for name in ("bad", "worse"):
        jobs.redis.lrem("rq:queue:default", 0, f"{workflow}-{name}")
        tell_end(jobs, f"{workflow}-{name}", "finished")
        assert shown(jobs, workflow)["status"] == "running"
    jobs.run()
    found = states(jobs, workflow)
    assert {found[name] for name in ("child", "lost")} == {"finished"}
    assert shown(jobs, workflow)["status"] == "finished"
    assert counts(jobs, workflow) == {"total": 5, "finished": 5}
    assert lifetimes(jobs, parts(workflow)[0]) == [DAY]


def listen(jobs: Jobs) -> None:
    jobs.redis.xadd("jobline:events", {"ids": ""})


def told(jobs: Jobs, job_id: str) -> list[str]:
    entries = jobs.redis.xrange("jobline:events")
    return [raw[b"status"].decode() for _, raw in entries if job_id.encode() in raw[b"ids"].split()]


def act(jobs: Jobs, action: str, job_id: str) -> None:
    assert jobs.client.post(f"/api/v1/jobs/{job_id}/{action}").status_code in (200, 202)


def test_a_job_that_is_delayed_or_waits_again_is_told_to_the_event_stream(jobs: Jobs) -> None:
    listen(jobs)
    workflow = submit(jobs, add("first"), add("late", "first", delay=60), fail("bad"), add("child", "bad"))
    jobs.run()
    assert told(jobs, f"{workflow}-late") == ["deferred", "scheduled"]
    act(jobs, "requeue", f"{workflow}-bad")
    assert told(jobs, f"{workflow}-child") == ["deferred", "canceled", "deferred"]


def test_a_job_that_is_canceled_while_it_waits_lets_its_workflow_end(jobs: Jobs) -> None:
    workflow = submit(jobs, add("first"), add("child", "first"), add("even", even_if_failed("child")))
    act(jobs, "cancel", f"{workflow}-child")
    jobs.run()
    assert states(jobs, workflow) == {"first": "finished", "child": "canceled", "even": "finished"}
    assert (shown(jobs, workflow)["status"], counts(jobs, workflow)) == (
        "failed", {"total": 3, "finished": 2, "canceled": 1}
    )  # fmt: skip


def test_a_job_that_is_canceled_before_the_rest_of_its_node_counts_once(jobs: Jobs) -> None:
    workflow = submit(jobs, fail("bad"), add("many", "bad", each=[1, 2]))
    act(jobs, "cancel", f"{workflow}-many-0")
    jobs.run()
    assert counts(jobs, workflow) == {"total": 3, "failed": 1, "canceled": 2}


def test_a_job_that_was_canceled_for_another_and_is_requeued_itself_lets_its_workflow_end(jobs: Jobs) -> None:
    workflow = submit(jobs, fail("bad"), add("many", "bad", each=[1, 2]))
    jobs.run()
    act(jobs, "requeue", f"{workflow}-many-1")
    assert shown(jobs, workflow)["status"] == "running"
    jobs.run()
    assert shown(jobs, workflow)["status"] == "failed"
    assert counts(jobs, workflow) == {"total": 3, "failed": 1, "canceled": 1, "finished": 1}


def test_a_failure_that_is_mended_leaves_the_workflow_failed_for_another(jobs: Jobs) -> None:
    workflow = submit(jobs, fail("bad"), add("child", "bad"))
    jobs.run()
    act(jobs, "requeue", f"{workflow}-child")
    jobs.run()
    assert (states(jobs, workflow), shown(jobs, workflow)["status"]) == (
        {"bad": "failed", "child": "finished"}, "failed"
    )  # fmt: skip


@pytest.mark.parametrize("parent", ["add", "fail"])
def test_a_job_that_is_canceled_and_requeued_while_the_others_of_its_node_wait_runs_once(
    jobs: Jobs, parent: str
) -> None:
    first = add("first", delay=60) if parent == "add" else fail("first", delay=60)
    workflow = submit(jobs, first, add("many", "first", each=[1, 2], queue="high"))
    act(jobs, "cancel", f"{workflow}-many-0")
    act(jobs, "requeue", f"{workflow}-many-0")
    tell_end(jobs, f"{workflow}-first", "finished" if parent == "add" else "failed")
    jobs.redis.zrem("rq:scheduled:default", f"{workflow}-first")
    assert jobs.redis.hget(job_key(f"{workflow}-many-0"), "status") == b"queued"
    assert shown(jobs, workflow)["status"] == "running"
    jobs.run()
    ended = {"finished": 3} if parent == "add" else {"finished": 1, "failed": 1, "canceled": 1}
    assert counts(jobs, workflow) == {"total": 3, **ended}
    assert shown(jobs, workflow)["status"] == ("finished" if parent == "add" else "failed")


def test_what_is_canceled_for_a_deleted_job_ends_when_that_is_seen(jobs: Jobs) -> None:
    workflow = submit(jobs, add("first", delay="2h"), add("child", "first"))
    jobs.advance(hours=1)
    jobs.client.delete(f"/api/v1/jobs/{workflow}-first")
    store.sweep(jobs.redis, 0, 1)
    assert jobs.get(f"{workflow}-child")["ended_at"].startswith("2027-01-01T01:00:00")


def test_a_requeued_job_ends_the_stop(jobs: Jobs) -> None:
    """Though no look had come between, by which all that was to stop has stopped."""
    workflow = submit(jobs, fail("bad"), add("other", queue="high"), on_error="stop")
    jobs.redis.lrem("rq:queue:default", 0, f"{workflow}-bad")
    jobs.redis.hset(job_key(f"{workflow}-bad"), mapping={"status": "failed"})
    tell_end(jobs, f"{workflow}-bad", "failed")
    assert jobs.redis.smembers("jobline:workflows:stopping") == {workflow.encode()}
    assert jobs.client.post(f"/api/v1/jobs/{workflow}-bad/requeue", json={}).status_code == 202
    store.sweep(jobs.redis, 0)
    assert states(jobs, workflow) == {"bad": "queued", "other": "queued"}
    assert not jobs.redis.exists("jobline:workflows:stopping")


def test_a_requeued_job_does_not_make_up_for_others_of_its_node(jobs: Jobs) -> None:
    workflow = submit(jobs, fail("bad", each=["x", "y"], args=[]), add("child", "bad"))
    jobs.run()
    assert counts(jobs, workflow) == {"total": 3, "failed": 2, "canceled": 1}
    for number, then in enumerate(("canceled", "finished")):
        assert jobs.client.post(f"/api/v1/jobs/{workflow}-bad-{number}/requeue", json={}).status_code == 202
        jobs.redis.lrem("rq:queue:default", 0, f"{workflow}-bad-{number}")
        tell_end(jobs, f"{workflow}-bad-{number}", "finished")
        jobs.run()
        assert states(jobs, workflow)["child"] == then
    assert shown(jobs, workflow)["status"] == "finished"


def test_a_job_that_cannot_be_read_fails_its_workflow(jobs: Jobs) -> None:
    workflow = submit(jobs, add("bad"), add("child", "bad"))
    job_id = f"{workflow}-bad"
    jobs.redis.lrem("rq:queue:default", 0, job_id)
    assert quarantine(jobs.redis, job_id.encode(), "default", ValueError("no timeout")) == job_id
    assert states(jobs, workflow) == {"bad": "failed", "child": "canceled"}
    assert counts(jobs, workflow) == {"total": 2, "failed": 1, "canceled": 1}
    assert shown(jobs, workflow)["status"] == "failed"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (redis.ConnectionError("it is away"), "finished"),
        (redis.ResponseError("LOADING Redis is loading the dataset in memory"), "finished"),
        (redis.ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value"), "failed"),
    ],
    ids=["away", "loading", "wrong type"],
)
def test_a_job_waits_until_the_results_that_it_uses_can_be_read(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch, error: redis.RedisError, status: str
) -> None:
    errors, read = iter([error, error]), rq_parts.with_results

    def try_to_read(connection: redis.Redis, job_id: str, *call: Any) -> Any:
        if job_id.endswith("-sum") and (problem := next(errors, None)):
            raise problem
        return read(connection, job_id, *call)

    monkeypatch.setattr(rq_parts, "with_results", try_to_read)
    monkeypatch.setattr(rq_parts, "REDIS_RETRY_SECONDS", 0)
    workflow = submit(jobs, add("one"), SUM)
    jobs.run()
    assert states(jobs, workflow) == {"one": "finished", "sum": status}
    assert jobs.get(f"{workflow}-sum")["attempts"] == 1


def test_a_job_that_is_gone_without_an_end_is_shown_as_canceled(jobs: Jobs) -> None:
    workflow = submit(jobs, add("gone", delay=60))
    jobs.redis.delete(job_key(f"{workflow}-gone"))  # as others may
    assert states(jobs, workflow) == {"gone": "canceled"}


@pytest.mark.parametrize(("failure_ttl", "kept"), [(0, 60), (10, 60), (600, 600)])
def test_what_is_canceled_is_kept_for_a_minute_at_least(jobs: Jobs, failure_ttl: int, kept: int) -> None:
    workflow = submit(jobs, fail("bad"), add("child", "bad", failure_ttl=failure_ttl))
    jobs.run()
    assert states(jobs, workflow)["child"] == "canceled"
    assert lifetimes(jobs, job_key(f"{workflow}-child")) == [kept]


def test_a_job_that_was_deleted_while_it_waited_cancels_what_needs_it_though_others_run(jobs: Jobs) -> None:
    workflow = submit(jobs, add("first"), add("many", "first", each=[1, 2], delay=60), add("child", "many"))
    jobs.client.delete(f"/api/v1/jobs/{workflow}-many-0")
    jobs.run()
    assert states(jobs, workflow)["child"] == "canceled"
    jobs.advance(seconds=60)
    assert (counts(jobs, workflow), shown(jobs, workflow)["status"]) == (
        {"total": 4, "finished": 2, "canceled": 2}, "failed"
    )  # fmt: skip


def test_a_retry_of_a_job_with_callbacks_is_told_once(jobs: Jobs) -> None:
    listen(jobs)
    failing = jobs.enqueue_with({"retry": {"max": 1, "intervals": [10]}}, "demo.fail", "no")
    jobs.redis.hset(job_key(failing.id), "failure_callback_name", "jobs.demo.add")
    jobs.run()
    assert told(jobs, failing.id) == ["queued", "started", "scheduled"]
