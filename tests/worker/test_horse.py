"""The work horse in this process: what it runs, and when and how it leaves."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from rq.job import Dependency, JobStatus
from rq.suspension import suspend

from app.author.options import Limit
from app.catalog.catalog import Catalog
from app.enqueue import new_job
from app.lifecycle import actions, executions, recovery
from app.rq_adapter.rq_parts import Job, override_catalog
from app.settings import get_settings
from app.testing import in_process
from app.views import job_view
from app.worker import horse as module
from app.worker import next_job
from app.worker.horse import Horse, Limits
from app.worker.prefetched import PrefetchedExecutions
from app.worker.shared_status import Leaving, SharedStatus
from tests.conftest import status, until
from tests.contents import Contents, changed, contents
from tests.invariants import broken
from tests.scripts.hand import Hand, put

BURST = Limits(burst=True)


class Stable:
    """One horse, and its parent's ends of what they share."""

    def __init__(
        self, connection: redis.Redis, box: PrefetchedExecutions, line: tuple[socket.socket, socket.socket]
    ) -> None:
        self.hand, self.status_board, self.prefetched, self.line = Hand(connection), SharedStatus(), box, line

    def run(self, limits: Limits = BURST) -> Leaving:
        self.horse = Horse(self.hand.worker, self.status_board, self.prefetched, self.line[1], limits)
        with in_process._restored_alarm():
            leaving = self.horse.run()
        assert broken(self.hand.connection) == []
        return leaving


@pytest.fixture
def stable(valkey: redis.Redis) -> Iterator[Stable]:
    line = socket.socketpair()
    with contextlib.closing(PrefetchedExecutions()) as box, line[0], line[1]:
        yield Stable(valkey, box, line)


def statuses(connection: redis.Redis, *job_ids: str) -> list[str]:
    return [status(connection, job_id) for job_id in job_ids]


def end_as_rq_does(connection: redis.Redis) -> None:
    """By RQ's own methods: it has a callback, which is not called when it fails."""
    connection.hset("rq:job:job", "success_callback_name", "jobs.demo.add")


def test_a_burst_runs_all_that_there_is(valkey: redis.Redis, stable: Stable) -> None:
    ids = [put(valkey, str(number), "demo.fail" if number % 7 == 6 else "demo.add") for number in range(60)]
    assert stable.run() is Leaving.EMPTY
    assert statuses(valkey, *ids) == ["failed" if number % 7 == 6 else "finished" for number in range(60)]
    assert stable.horse.performed == stable.status_board.begun == 60
    assert stable.status_board.running == []
    jobs = [job for job in job_view.fetch(valkey, ids) if job]
    assert [job["started_at"] for job in jobs] == sorted(job["started_at"] for job in jobs)
    assert {job["attempts"] for job in jobs} == {1}
    assert {job["worker"] for job in jobs} == {"w"}


def test_results_and_errors_are_kept(valkey: redis.Redis, stable: Stable) -> None:
    put(valkey, "good", result_ttl=100)
    put(valkey, "bad", "demo.fail", failure_ttl=200)
    stable.run()
    good, bad = job_view.fetch(valkey, ["good", "bad"])
    assert good
    assert bad
    assert (good["result"], bad["error"]["type"], bad["error"]["message"]) == (3, "RuntimeError", "no")
    assert 98 <= valkey.ttl("rq:results:good") <= 100
    assert 198 <= valkey.ttl("rq:results:bad") <= 200


def test_a_result_that_is_too_large_is_a_failure(
    valkey: redis.Redis, stable: Stable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESULT_LIMIT", "2")
    get_settings.cache_clear()
    put(valkey, "fits", "demo.add", 50, 49)
    put(valkey, "too-large", "demo.add", 50, 50)
    stable.run()
    job = job_view.fetch(valkey, ["too-large"])[0]
    assert job
    assert status(valkey, "fits") == "finished"
    assert "the result is 3 bytes, RESULT_LIMIT is 2" in job["error"]["message"]


def test_it_leaves_when_all_is_suspended(valkey: redis.Redis, stable: Stable) -> None:
    put(valkey, "job")
    suspend(valkey)
    assert stable.run() is Leaving.SUSPENDED
    assert status(valkey, "job") == "queued"


def test_it_does_not_leave_before_it_has_a_lease_again(valkey: redis.Redis, stable: Stable) -> None:
    put(valkey, "job")
    valkey.zrem("jobline:leases", "w")
    threading.Timer(0.3, lambda: valkey.zincrby("jobline:leases", 1, "w")).start()
    assert stable.run() is Leaving.EMPTY
    assert status(valkey, "job") == "finished"


@pytest.mark.parametrize("burst", [True, False])
def test_it_runs_so_many_jobs_and_no_more(valkey: redis.Redis, stable: Stable, burst: bool) -> None:
    ids = [put(valkey, str(number)) for number in range(5)]
    assert stable.run(Limits(burst=burst, jobs=3)) is Leaving.ENOUGH
    assert statuses(valkey, *ids) == ["finished"] * 3 + ["queued"] * 2
    assert valkey.lrange("rq:queue:default", 0, -1) == [b"3", b"4"]


def test_it_leaves_when_it_was_idle_for_long(
    valkey: redis.Redis, stable: Stable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHECK_INTERVAL_SECONDS", 0.1)
    threading.Timer(0.5, lambda: put(valkey, "job")).start()
    began = time.monotonic()
    assert stable.run(Limits(idle=1)) is Leaving.IDLE
    assert status(valkey, "job") == "finished"
    assert 1.4 < time.monotonic() - began < 5


def test_it_finishes_its_job_when_it_is_to_stop_and_gives_the_others_back(
    valkey: redis.Redis, stable: Stable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(next_job, "BATCH_SECONDS", 1.0)
    ids = [put(valkey, str(number)) for number in range(100)]
    show = stable.status_board.show

    def show_and_stop(*words: Any) -> None:
        show(*words)
        if stable.status_board.begun > 10 and stable.horse.next_job._claimed:
            stable.status_board.order_to_stop()

    monkeypatch.setattr(stable.status_board, "show", show_and_stop)
    assert stable.run(Limits()) is Leaving.STOPPED
    done = stable.status_board.begun
    assert 10 < done < 99
    assert statuses(valkey, *ids) == ["finished"] * done + ["queued"] * (100 - done)
    assert valkey.lrange("rq:queue:default", 0, -1) == [job_id.encode() for job_id in ids[done:]]
    assert valkey.zcard("rq:wip:default") == 0


def test_it_leaves_when_its_parent_is_gone(
    valkey: redis.Redis, stable: Stable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHECK_INTERVAL_SECONDS", 0.1)
    stable.line[0].close()
    assert stable.run(Limits()) is Leaving.STOPPED


@pytest.mark.parametrize(
    ("name", "value", "done"), [("HORSE_JOBS", "4", 4), ("HORSE_GROWTH", "1", 30), ("HORSE_JOBS", "100", 30)]
)
def test_it_is_replaced_when_it_has_done_enough(
    valkey: redis.Redis, stable: Stable, monkeypatch: pytest.MonkeyPatch, name: str, value: str, done: int
) -> None:
    monkeypatch.setenv(name, value)
    get_settings.cache_clear()
    monkeypatch.setattr(module, "GROWTH_CHECK_INTERVAL_SECONDS", 0)
    monkeypatch.setattr(module, "_memory", lambda: 1000 + 2 * (stable.status_board.begun // 30))
    ids = [put(valkey, str(number)) for number in range(40)]
    expected = Leaving.EMPTY if (name, value) == ("HORSE_JOBS", "100") else Leaving.RECYCLED
    assert stable.run() is expected
    done = 40 if expected is Leaving.EMPTY else done
    assert statuses(valkey, *ids) == ["finished"] * done + ["queued"] * (40 - done)


@pytest.mark.parametrize(("threads", "expected"), [(32, Leaving.EMPTY), (33, Leaving.RECYCLED)])
def test_it_is_replaced_when_jobs_have_left_too_many_threads_behind(
    valkey: redis.Redis, stable: Stable, monkeypatch: pytest.MonkeyPatch, threads: int, expected: Leaving
) -> None:
    counts = iter([5])
    monkeypatch.setattr(threading, "active_count", lambda: next(counts, 5 + threads))
    ids = [put(valkey, "first"), put(valkey, "second")]
    assert stable.run() is expected
    assert statuses(valkey, *ids) == ["finished", "finished" if expected is Leaving.EMPTY else "queued"]


def test_it_is_replaced_when_the_functions_have_changed(
    valkey: redis.Redis, stable: Stable, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Changed:
        def is_stale(self) -> bool:
            return True

    put(valkey, "job")
    put(valkey, "next")
    monkeypatch.setattr(module, "catalog", Changed)
    assert stable.run() is Leaving.RECYCLED
    assert valkey.lrange("rq:queue:default", 0, -1) == [b"job", b"next"]
    assert valkey.hget("rq:job:job", "attempts") is None


def test_a_timeout_is_raised_in_the_job(valkey: redis.Redis, stable: Stable) -> None:
    put(valkey, "job", "demo.sleep", 30, timeout=1)
    put(valkey, "next")
    stable.run()
    found = job_view.fetch(valkey, ["job"])[0]
    assert found
    assert found["error"]["type"] == "rq.timeouts.JobTimeoutException"
    assert status(valkey, "next") == "finished"


def test_its_place_is_free_when_it_has_ended(valkey: redis.Redis, stable: Stable) -> None:
    put(valkey, "first", concurrency=Limit(1))
    put(valkey, "bad", "demo.fail", concurrency=Limit(1, by="queue"))
    put(valkey, "second", concurrency=Limit(1, by="queue"))
    put(valkey, "third", concurrency=Limit(1))
    stable.run()
    assert statuses(valkey, "first", "bad", "second", "third") == ["finished", "failed", "finished", "finished"]
    assert valkey.keys("jobline:limit:*:held") == []


def test_the_place_of_a_job_that_cannot_be_read_is_free(valkey: redis.Redis, stable: Stable) -> None:
    put(valkey, "bad", concurrency=Limit(1))
    valkey.hset("rq:job:bad", "timeout", "no number")
    put(valkey, "next", concurrency=Limit(1))
    stable.run()
    assert statuses(valkey, "bad", "next") == ["failed", "finished"]
    assert valkey.keys("jobline:limit:*:held") == []


MARKS = """
from pathlib import Path


def touch(path: str) -> None:
    Path(path).touch()
"""


@pytest.mark.parametrize(("timeout", "status_then"), [("60", "finished"), ("no number", "failed")])
def test_a_job_that_cannot_be_read_is_not_called(
    valkey: redis.Redis,
    stable: Stable,
    write_module: Callable[[str, str], None],
    tmp_path: Path,
    timeout: str,
    status_then: str,
) -> None:
    write_module("marks", MARKS)
    with override_catalog(Catalog()):
        put(valkey, "job")
        call = new_job.encode_call("jobs.marks.touch", [str(tmp_path / "called")], {})
        valkey.hset("rq:job:job", mapping={"data": call, "timeout": timeout})
        stable.run()
    assert status(valkey, "job") == status_then
    assert (tmp_path / "called").exists() == (status_then == "finished")


@pytest.mark.parametrize(("field", "left"), [("webhook", 0), ("workflow_webhook", 0), ("tags", 1)])
def test_what_follows_an_end_is_done_at_once(valkey: redis.Redis, stable: Stable, field: str, left: int) -> None:
    put(valkey, "job")
    valkey.hset("rq:job:job", field, '{"url": "http://localhost/", "events": []}')
    valkey.xadd("jobline:outbox", {"job_id": "another"})
    stable.run()
    assert status(valkey, "job") == "finished"
    assert valkey.xlen("jobline:outbox") == left


def test_a_job_that_is_deleted_while_it_runs_leaves_nothing(valkey: redis.Redis, stable: Stable) -> None:
    put(valkey, "job", "demo.sleep", 0.3)

    def delete() -> None:
        until(lambda: status(valkey, "job") == "started")
        valkey.delete("rq:job:job")

    threading.Thread(target=delete).start()
    stable.run()
    assert valkey.keys("*job:job*") == valkey.keys("rq:results:*") == []


def test_a_job_that_was_canceled_before_it_was_claimed_is_not_run(valkey: redis.Redis, stable: Stable) -> None:
    put(valkey, "job")
    actions.cancel(valkey, "job")
    stable.run()
    assert (status(valkey, "job"), stable.horse.performed) == ("canceled", 0)


@pytest.mark.parametrize("retries", [None, [60]])
def test_the_failure_of_a_job_that_was_taken_counts_no_more(
    valkey: redis.Redis, stable: Stable, retries: list[int] | None
) -> None:
    put(valkey, "job", "demo.sleep", 30, timeout=1, retry_waits=retries)
    before: list[Contents] = []

    def take() -> None:
        until(lambda: status(valkey, "job") == "started")
        recovery.give_back(valkey, [execution.id for execution in executions.held_by(valkey, "w")])
        Hand(valkey, "other").run()
        before.append(contents(valkey))

    threading.Thread(target=take).start()
    stable.run()
    found = changed(before[0], contents(valkey))
    assert set(found) <= {stable.hand.key, "rq:worker:other"}


RUDE = """
import signal

def ignore() -> None:
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
"""


def test_a_timeout_is_raised_after_a_job_that_took_its_signal(
    valkey: redis.Redis, stable: Stable, write_module: Callable[[str, str], None]
) -> None:
    write_module("rude", RUDE)
    with override_catalog(Catalog()):
        put(valkey, "rude")
        valkey.hset("rq:job:rude", "data", new_job.encode_call("jobs.rude.ignore", [], {}))
        put(valkey, "late", "demo.sleep", 30, timeout=1)
        stable.run()
    assert statuses(valkey, "rude", "late") == ["finished", "failed"]


def test_meta_that_cannot_be_read_is_left_alone_by_a_retry_of_rqs_own_way(valkey: redis.Redis, stable: Stable) -> None:
    put(valkey, "job", "demo.fail", retry_waits=[60])
    end_as_rq_does(valkey)
    valkey.hset("rq:job:job", "meta", b"\x80pickle")
    stable.run()
    assert status(valkey, "job") == "scheduled"
    assert valkey.hget("rq:job:job", "meta") == b"\x80pickle"


def test_a_status_is_written_with_the_rest_of_its_transaction(valkey: redis.Redis) -> None:
    put(valkey, "job")
    job = Job.fetch("job", connection=valkey)
    with valkey.pipeline() as pipeline:
        job.set_status(JobStatus.FAILED, pipeline)
        assert status(valkey, "job") == "queued"
        pipeline.execute()
    assert status(valkey, "job") == "failed"


def test_an_end_that_redis_does_not_take_is_settled_with_the_jobs_own_error(
    valkey: redis.Redis, stable: Stable
) -> None:
    put(valkey, "job", "demo.fail")
    end_as_rq_does(valkey)
    stable.hand.worker.handle_job_failure = lambda *_, **__: None  # type: ignore[method-assign]
    stable.run()
    job = job_view.fetch(valkey, ["job"])[0]
    assert job
    assert (job["status"], job["error"]["type"], job["error"]["message"]) == ("failed", "RuntimeError", "no")
    assert valkey.zcard("rq:wip:default") == 0


@pytest.mark.parametrize(
    ("said", "status_then"),
    [({}, "failed"), ({"retry_waits": [0]}, "failed"), ({"retry_waits": [60]}, "scheduled")],
)
def test_a_failure_is_retried_as_its_options_say(
    valkey: redis.Redis, stable: Stable, said: dict[str, object], status_then: str
) -> None:
    put(valkey, "job", "demo.fail", **said)
    stable.run()
    job = job_view.fetch(valkey, ["job"], history=True)[0]
    assert job
    assert job["status"] == status_then
    retried = ["retried"] * len(said.get("retry_waits", []))  # type: ignore[arg-type]
    assert [attempt["outcome"] for attempt in job["history"]] == ["failed"][: status_then == "failed"] + retried
    assert job["attempts"] == len(job["history"])
    assert job["retries_left"] == 0


CHOOSY = """
from app import Discard, Retry, job


@job(retry=Retry(1, intervals=[60], on=(OSError,), not_on=(FileNotFoundError,)))
def raises(name: str) -> None:
    raise {"Discard": Discard, "OSError": OSError, "FileNotFoundError": FileNotFoundError, "KeyError": KeyError}[name]
"""


@pytest.mark.parametrize("taken", [True, False], ids=["taken", "not taken"])
@pytest.mark.parametrize(
    ("error", "status_then"),
    [("OSError", "scheduled"), ("KeyError", "failed"), ("FileNotFoundError", "failed"), ("Discard", "failed")],
)
def test_only_the_errors_that_its_function_names_are_retried(
    valkey: redis.Redis,
    stable: Stable,
    write_module: Callable[[str, str], None],
    error: str,
    status_then: str,
    taken: bool,
) -> None:
    """Also where Redis does not take the end that RQ writes."""
    write_module("choosy", CHOOSY)
    if not taken:
        stable.hand.worker.handle_job_failure = lambda *_, **__: None  # type: ignore[method-assign]
    with override_catalog(Catalog()):
        put(valkey, "job", "demo.fail", retry_waits=[60])
        valkey.hset("rq:job:job", "data", new_job.encode_call("jobs.choosy.raises", [error], {}))
        if not taken:
            end_as_rq_does(valkey)
        stable.run()
    assert status(valkey, "job") == status_then


UNENCODABLE = """
def fail() -> None:
    raise ValueError("x\\udc80y")
"""


@pytest.mark.parametrize("by_rq", [False, True], ids=["plain", "ended by RQ"])
def test_an_error_that_utf_8_cannot_encode_is_a_failure_like_any_other(
    valkey: redis.Redis, stable: Stable, write_module: Callable[[str, str], None], by_rq: bool
) -> None:
    write_module("unencodable", UNENCODABLE)
    with override_catalog(Catalog()):
        put(valkey, "job", "demo.fail")
        valkey.hset("rq:job:job", "data", new_job.encode_call("jobs.unencodable.fail", [], {}))
        if by_rq:
            end_as_rq_does(valkey)
        stable.run()
    job = job_view.fetch(valkey, ["job"])[0]
    assert job
    assert (job["status"], job["function"]) == ("failed", "unencodable.fail")
    assert (job["error"]["type"], job["error"]["message"]) == ("ValueError", "x?y")


@pytest.mark.parametrize(("said", "child"), [({}, "queued"), ({"retry_waits": [60]}, "deferred")])
@pytest.mark.parametrize("broken_at", ["its failure", "its dependents"])
def test_what_waits_for_a_failure_is_queued_though_a_line_breaks_at_the_end(
    valkey: redis.Redis, stable: Stable, said: dict[str, Any], child: str, broken_at: str
) -> None:
    """RQ queues it after the transaction of the failure, and swallows what goes wrong there."""
    put(valkey, "job", "demo.fail", **said)
    end_as_rq_does(valkey)
    queue = stable.hand.worker.queues[0]
    queue.enqueue("jobs.demo.add", 1, 2, job_id="child", depends_on=Dependency(["job"], allow_failure=True))
    owner, name = (
        (stable.hand.worker, "handle_job_failure") if broken_at == "its failure" else (queue, "enqueue_dependents")
    )
    whole, breaks = getattr(owner, name), iter([True])

    def break_once(*args: Any, **words: Any) -> Any:
        if next(breaks, False):
            raise redis.ConnectionError
        return whole(*args, **words)

    setattr(owner, name, break_once)
    stable.run(Limits(burst=True, jobs=1))
    assert status(valkey, "job") == ("scheduled" if said else "failed")
    assert status(valkey, "child") == child
