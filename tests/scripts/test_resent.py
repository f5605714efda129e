"""A script that is sent again, for its answer was lost, changes nothing. Each script has an entry here."""

import hashlib
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis

from app import job, limits
from app.api.application import create_app
from app.author.options import JOB_EVENTS, Breaker, Limit, Unique, Webhook
from app.catalog.catalog import Function
from app.enqueue import new_job, write
from app.enqueue.idempotency import Receipt
from app.lifecycle import actions, callback_processes, change_job, executions, outbox, queues, recovery
from app.lifecycle.empty_queues import EmptyQueueRemover
from app.lifecycle.leftovers import FORGET, REMOVE
from app.lifecycle.orphans import Orphans
from app.lifecycle.quarantine import quarantine
from app.lifecycle.recovery import Outcome
from app.metrics import store as metrics
from app.metrics.histogram import Histogram
from app.metrics.measures import Measures
from app.redis import script_source
from app.redis.client import rq_timestamp
from app.redis.keys import METRICS_UNMERGED
from app.redis.scripts import Script
from app.rq_adapter.rq_parts import Job
from app.schedules.clock import SHIFT_DUE_TIMES
from app.settings import get_settings
from app.testing import in_process
from app.views.registries import Registry
from app.worker.claimed import Claimed, Nothing
from app.worker.redis_session import FINISH, FINISH_AND_FOLLOW
from app.worker.reporter import LOG, PROGRESS
from app.workflows import store
from tests.contents import Contents, changed, contents
from tests.invariants import broken
from tests.receiver import SECRET
from tests.scripts.hand import CATALOG, Hand, put

EVAL = ("EVAL", "EVALSHA")
Scene = Callable[["Resent"], None]

SCENES: dict[str, tuple[str, Scene]] = {}
"""What sends a script: its name, and the scene."""
CLAIM = "worker/claim"
READ_ONLY = ("redis/page", "lifecycle/executions")
"""Not in the table: it is never sent again, for it would claim other jobs; see tests/worker/test_redis_session.py."""


class Resent(redis.Redis):
    """Sends one script twice, and notes what Redis held before, after the first and after the second."""

    connection_class = in_process._FakeConnection
    shas: frozenset[str] = frozenset()
    sent: list[tuple[Contents, Contents, Contents]]

    def execute_command(self, *words: Any, **options: Any) -> Any:
        if _text(words[0]) not in EVAL or _sha(words) not in self.shas:
            return super().execute_command(*words, **options)
        before = contents(self)
        answer = super().execute_command(*words, **options)
        first, wrong = contents(self), broken(self)
        time.sleep(0.002)  # a key that is given its expiry again expires later
        super().execute_command(*words, **options)
        self.sent.append((before, first, contents(self)))
        assert wrong == []
        return answer


def _text(word: Any) -> str:
    return word.decode() if isinstance(word, bytes) else str(word)


def _sha(words: tuple[Any, ...]) -> str:
    return hashlib.sha1(_text(words[1]).encode()).hexdigest() if _text(words[0]) == "EVAL" else _text(words[1])


def sends(name: str) -> Callable[[Scene], Scene]:
    def note(scene: Scene) -> Scene:
        SCENES[scene.__name__] = name, scene
        return scene

    return note


@sends("enqueue/enqueue")
def enqueued(client: Resent) -> None:
    jobs = [prepared(), prepared(at_front=True), prepared(ttl=60), prepared(at=later())]
    write.enqueue(client, jobs)


@sends("lifecycle/delete")
def a_queued_job_deleted(client: Resent) -> None:
    put(client, "job")
    actions.delete(client, "job")


@sends("lifecycle/delete")
def a_failed_job_deleted(client: Resent) -> None:
    failed(client)
    actions.delete(client, "job")


@sends("lifecycle/empty")
def a_queue_emptied(client: Resent) -> None:
    for job_id in "abc":
        put(client, job_id)
    queues.empty(client, "default")


@sends("lifecycle/cancel")
def a_queued_job_canceled(client: Resent) -> None:
    put(client, "job", webhook=HOOK)
    actions.cancel(client, "job")


@sends("lifecycle/cancel")
def a_scheduled_job_canceled(client: Resent) -> None:
    put(client, "job", at=later())
    actions.cancel(client, "job")


@sends("lifecycle/cancel")
def a_job_of_a_workflow_canceled(client: Resent) -> None:
    flow = workflow(client)
    actions.cancel(client, f"{flow}-one")


@sends("lifecycle/requeue")
def a_failed_job_requeued(client: Resent) -> None:
    failed(client)
    change_job.requeue(client, CATALOG, get_settings(), "job", queue="other", timeout=7)


@sends("lifecycle/requeue")
def a_job_of_a_workflow_requeued(client: Resent) -> None:
    flow = workflow(client)
    actions.cancel(client, f"{flow}-one")
    actions.requeue(client, f"{flow}-one")


@sends("lifecycle/move_due")
def delayed_jobs_moved(client: Resent) -> None:
    for job_id, at_front in (("job", False), ("front", True)):
        put(client, job_id, at=later(), at_front=at_front, ttl=90)
    assert actions.move_due(client, later() + timedelta(seconds=2)) == (2, [])


@sends("lifecycle/change")
def a_queued_job_put_in_front(client: Resent) -> None:
    put(client, "other")
    put(client, "job")
    change_job.update_before_start(client, "job", at_front=True)


@sends("lifecycle/change")
def a_queued_job_put_off(client: Resent) -> None:
    put(client, "job", concurrency=Limit(1, by="queue"))
    change_job.update_before_start(client, "job", at=later(), queue="other", tags=["red"], timeout=7)


@sends("lifecycle/change")
def a_scheduled_job_changed(client: Resent) -> None:
    put(client, "other")
    put(client, "job", at=later(), ttl=60)
    change_job.update_before_start(client, "job", at=datetime.now(UTC), queue="other", description="now")


@sends("redis/page")
def a_list_read(client: Resent) -> None:
    failed(client)
    assert [job_id for job_id, _ in Registry("failed", "default").after(client, None, 10)] == ["job"]


@sends("lifecycle/executions")
def executions_read(client: Resent) -> None:
    put(client, "job")
    Hand(client).run()
    assert [execution.job_id for execution in executions.executions(client)] == ["job"]


@sends("lifecycle/set_field")
def a_beat_of_a_job(client: Resent) -> None:
    put(client, "job")
    Hand(client).run()
    Job.fetch("job", connection=client).heartbeat(datetime.now(UTC), 60)


@sends("worker/progress")
def progress_kept(client: Resent) -> None:
    put(client, "job")
    hand = Hand(client)
    (claimed,) = hand.claim()
    hand.begin(claimed)
    PROGRESS(
        client, id="job", queue="default", execution=claimed.execution_id, attempt=1, old_meta="",
        new_meta='{"progress":{"current":1}}', report='{"current":1}',
    )  # fmt: skip


@sends("worker/log")
def lines_of_a_log(client: Resent) -> None:
    put(client, "job")
    LOG(client, ['{"text": "one"}', '{"text": "two"}'], id="job", queue="default", attempt=1, first=1)


@sends("lifecycle/forget")
def a_member_whose_key_is_gone(client: Resent) -> None:
    put(client, "job")
    actions.cancel(client, "job")
    put(client, "gone")
    actions.cancel(client, "gone")
    client.delete("rq:job:gone")
    FORGET(client, ["job", "gone"], key="rq:canceled:default", prefix="rq:job:")


@sends("lifecycle/remove_queues")
def empty_queues(client: Resent) -> None:
    client.sadd("rq:queues", "rq:queue:empty")
    remover = EmptyQueueRemover(client, [])
    remover.sweep()
    remover._next_sweep_at = 0.0
    remover.sweep()


@sends("lifecycle/remove")
def a_key_of_a_job_that_is_gone(client: Resent) -> None:
    put(client, "job")
    client.sadd("rq:job:gone:dependents", "child")
    client.sadd("rq:job:job:dependents", "child")
    REMOVE(client, ["rq:job:gone:dependents", "gone", "rq:job:job:dependents", "job"])


@sends("schedules/shift_due_times")
def a_delayed_job_when_the_clock_was_put_back(client: Resent) -> None:
    put(client, "job", delay=7200)
    SHIFT_DUE_TIMES(client, seconds=3600, now=repr(time.time() - 3600))


@sends("lifecycle/put_back")
def an_orphan_put_back(client: Resent) -> None:
    put(client, "job")
    client.lrem("rq:queue:default", 0, "job")
    orphans = Orphans(client)
    orphans._seen["job"] = 0.0
    orphans._put_back("job")


@sends("lifecycle/note_end")
def an_end_noted(client: Resent) -> None:
    put(client, "job", webhook=HOOK)
    [job] = Hand(client).run()
    client.hset("rq:job:job", mapping={"status": "failed", "ended_at": rq_timestamp(datetime.now(UTC))})
    client.zrem("rq:wip:default", f"job:{job.execution_id}")
    client.zadd("rq:failed:default", {"job": time.time() + FAILURE_TTL})
    client.expire("rq:job:job", FAILURE_TTL)
    with client.pipeline() as pipeline:
        outbox.record_end(pipeline, "job", "finished", datetime.now(UTC))
        [(words, options)] = pipeline.command_stack
    client.execute_command(*words, **options)


@sends("worker/begin")
def a_beginning(client: Resent) -> None:
    put(client, "job")
    Hand(client, client=client).run()


@sends("worker/finish")
def an_end(client: Resent) -> None:
    put(client, "job", webhook=HOOK)
    for child, said in {"child": {}, "front": {"at_front": True}, "dies": {"ttl": 60}}.items():
        put(client, child, depends_on=["job"], **said)
    hand = Hand(client, client=client)
    [job] = hand.run()
    hand.beat(job)
    hand.finish(job, ran=5)


@sends("worker/finish")
def an_end_of_a_job_that_was_requeued(client: Resent) -> None:
    failed(client, result_ttl=-1)
    actions.requeue(client, "job")
    hand = Hand(client, "v", client=client)
    hand.finish(hand.run()[0], None, ttl=-1)


@sends("worker/finish")
def an_end_of_a_job_that_was_deleted(client: Resent) -> None:
    put(client, "job")
    hand = Hand(client, client=client)
    [job] = hand.run()
    client.delete("rq:job:job")
    hand.finish(job)


@sends("worker/finish")
def an_end_in_a_workflow(client: Resent) -> None:
    workflow(client)
    hand = Hand(client, client=client)
    hand.finish(hand.run()[0])


@sends("worker/beat")
def a_beat(client: Resent) -> None:
    put(client, "job")
    hand = Hand(client)
    hand.beat(hand.run()[0], now=time.time())


@sends("lifecycle/end_attempt")
def a_job_returned(client: Resent) -> None:
    recovered(client, Outcome.RETURNED)


@sends("lifecycle/end_attempt")
def a_job_run_again(client: Resent) -> None:
    recovered(client, Outcome.AGAIN)


@sends("lifecycle/end_attempt")
def a_job_retried(client: Resent) -> None:
    recovered(client, Outcome.RETRIED, retry_waits=[0, 0])


@sends("lifecycle/end_attempt")
def a_job_retried_later(client: Resent) -> None:
    recovered(client, Outcome.RETRIED, retry_waits=[60, 90])


@sends("lifecycle/end_attempt")
def a_job_failed(client: Resent) -> None:
    recovered(client, Outcome.FAILED)


@sends("lifecycle/end_attempt")
def a_job_stopped(client: Resent) -> None:
    recovered(client, Outcome.STOPPED)


@sends("limits/count_failure")
def a_failure_counted(client: Resent) -> None:
    @job(breaker=Breaker(failures=2, window=60, cool_down=30))
    def fragile() -> None: ...

    for _ in range(3):
        limits.count_failure(client, Function("demo.add", fragile))


@sends("limits/release")
def a_place_released(client: Resent) -> None:
    hand, job = limited(client)
    hand.finish(job)
    hand.release(job)


@sends("limits/look")
def a_place_found_free(client: Resent) -> None:
    hand, job = limited(client)
    hand.finish(job)
    client.zadd("jobline:limits:waiting", dict.fromkeys(client.zrange("jobline:limits:waiting", 0, -1), 1))
    limits.sweep(client)


@sends("workflows/cancel")
def a_workflow_canceled(client: Resent) -> None:
    store.cancel(client, workflow(client))


@sends("workflows/advance")
def an_end_that_nobody_told(client: Resent) -> None:
    flow = workflow(client)
    client.delete(f"rq:job:{flow}-one")
    client.delete("rq:queue:default")
    store.sweep(client, 0, parts=1)


@sends("lifecycle/quarantine")
def an_unreadable_job_set_aside(client: Resent) -> None:
    put(client, "job", webhook=HOOK)
    [job] = Hand(client).claim()
    quarantine(client, b"job", "default", ValueError("no"), job.execution_id)


@sends("workflows/create")
def a_workflow_created(client: Resent) -> None:
    workflow(client)


VARIANTS = {"worker/finish": {FINISH.sha, FINISH_AND_FOLLOW.sha}}
"""Scripts that are sent with and without a library."""
FAILURE_TTL = 30 * 86_400  # seconds
HOOK = Webhook("https://example.com/hook", JOB_EVENTS)


def later() -> datetime:
    return datetime.now(UTC) + timedelta(hours=1)


def prepared(**said: Any) -> new_job.NewJob:
    return new_job.prepare(CATALOG.get("demo.add"), get_settings(), [1, 2], {}, **said)


def recovered(client: Resent, to: Outcome, **said: Any) -> None:
    put(client, "job", webhook=HOOK, **said)
    hand = Hand(client)
    [job] = hand.run()
    hand.beat(job)
    recovery.recover(client, executions.Execution("default", "job", job.execution_id), recovery.LOST, lambda _: to)
    callback_processes.wait()


def failed(client: Resent, **said: Any) -> None:
    """By a worker that is lost."""
    put(client, "job", **said)
    hand = Hand(client)
    [job] = hand.run()
    recovery.recover(
        client, executions.Execution("default", "job", job.execution_id), recovery.LOST, lambda _: Outcome.FAILED
    )
    callback_processes.wait()


def limited(client: Resent) -> tuple[Hand, Claimed]:
    """A job that runs, and two that wait for its place."""
    for job_id in ("job", "second", "third"):
        put(client, job_id, concurrency=Limit(1))
    hand = Hand(client, client=client)
    [job] = hand.run()
    assert hand.ask() is Nothing.EMPTY
    client.hset(hand.key, "state", "busy")
    return hand, job


def workflow(client: Resent) -> str:
    """Of two jobs, one after the other; its id."""
    jobs = [
        {"name": "one", "function": "demo.add", "args": [1, 2]},
        {"name": "two", "function": "demo.add", "args": [{"$result": "one"}, 2], "after": ["one"]},
    ]
    hook = {"function": "demo.add", "args": [1, 2]}
    body = {"jobs": jobs, "on_complete": hook, "webhook": {"url": HOOK.url}}
    answer = create_app(connection=client, catalog=CATALOG).test_client().post("/api/v1/workflows", json=body)
    assert answer.status_code == 202, answer.text
    return str(answer.json["id"])


@pytest.fixture
def client(valkey: redis.Redis, valkey_url: str, monkeypatch: pytest.MonkeyPatch) -> Resent:
    monkeypatch.setenv("WEBHOOK_SECRET", SECRET)
    client = Resent.from_url(valkey_url)
    client.xadd("jobline:events", {"ids": "", "queue": "", "status": ""})  # somebody listens
    yield client
    client.close()


@pytest.mark.parametrize("name", SCENES)
def test_the_second_changes_nothing(client: Resent, name: str) -> None:
    script, scene = SCENES[name]
    client.shas, client.sent = frozenset(VARIANTS.get(script, {Script(script).sha})), []
    scene(client)
    assert client.sent, "the scene does not send the script"
    for before, first, second in client.sent:
        if script == "worker/beat":  # a sign of life as good as the first
            assert set(changed(first, second, slack=1000)) == {"jobline:leases"}
        else:
            assert changed(first, second) == {}
        assert bool(changed(before, first)) is (script not in READ_ONLY)


@sends("metrics/add")
def metrics_written(client: Resent) -> None:
    metrics.add(client, {("demo.add", "default"): measured(), ("demo.fail", "default"): measured()}, "batch")


@sends("metrics/collect")
def metrics_of_scripts_collected(client: Resent) -> None:
    put(client, "job")
    metrics.COLLECT(client)


@sends("metrics/merge")
def an_interval_merged(client: Resent) -> None:
    metrics.add(client, {("demo.add", "default"): measured()}, "batch")
    [start] = client.smembers(METRICS_UNMERGED)
    metrics.MERGE(client, start=int(start))


def measured() -> Measures:
    times = Histogram(1.5, 1.0, Counter({-4: 1, 0: 1}))
    return Measures(Counter(finished=2), times, times)


def test_every_script_has_an_entry() -> None:
    assert set(script_source.names()) == {name for name, _ in SCENES.values()} | {CLAIM}


@pytest.mark.parametrize("receipt", [False, True])
def test_new_jobs_that_look_others_up_are_written_once(client: Resent, receipt: bool) -> None:
    put(client, "parent")
    client.shas, client.sent = frozenset({write.ENQUEUE.sha}), []
    rule = prepared(unique=Unique())
    jobs = [prepared(id="mine", named=True), prepared(depends_on=["parent"], at_front=True), rule]
    write.enqueue(client, jobs, Receipt.of("me", "key", b"request") if receipt else None)
    [(before, first, second)] = client.sent
    assert changed(first, second) == {}
    assert len(changed(before, first)) > 3
