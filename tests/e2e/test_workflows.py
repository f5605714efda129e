"""Graphs of jobs with real workers: in their order, each once, with the results of those before; and how they end."""

import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import redis
from flask.testing import FlaskClient

from app.api.application import create_app
from app.author.options import WORKFLOW_EVENTS
from app.serializer import JSON
from app.settings import Settings
from app.workflows import store
from benchmarks import graphs, lab
from tests.conftest import ROOT, RQ_WORKER, Project, until
from tests.receiver import OTHER_SECRET, SECRET, Receiver

SOURCE = """
import time
from pathlib import Path


def add(*numbers: int) -> int:
    return sum(numbers)


def total(numbers: list[int]) -> int:
    return sum(numbers)


def wrap(value: object) -> dict[str, list[object]]:
    return {"values": [value]}


def echo(value: object = None) -> object:
    return value


def fail(message: str = "no") -> None:
    raise ValueError(message)


def fail_unless(path: str) -> str:
    if not Path(path).exists():
        raise FileNotFoundError(path)
    return "there"


def sleep(seconds: float) -> None:
    time.sleep(seconds)
"""
URL = "/api/v1/workflows"

few_and_many = pytest.mark.concurrency(1, 20)


@pytest.fixture
def client(project: Project, valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> FlaskClient:
    project.write("flow", SOURCE)
    monkeypatch.chdir(project.folder)
    return create_app(connection=valkey, catalog=catalog_of(project)).test_client()


def catalog_of(project: Project) -> Any:
    from app.catalog.catalog import Catalog, Function

    module: dict[str, Any] = {"__name__": "jobs.flow"}
    exec(SOURCE, module)
    catalog = Catalog()
    catalog.refresh()
    for name in ("add", "total", "wrap", "echo", "fail", "fail_unless", "sleep"):
        catalog.functions[f"flow.{name}"] = Function(f"flow.{name}", module[name])
    return catalog


@pytest.fixture
def worker(client: FlaskClient, project: Project, valkey: redis.Redis) -> Iterator[subprocess.Popen[bytes]]:
    process = project.start(*RQ_WORKER, LOG_LEVEL="ERROR")
    yield process
    process.terminate()
    process.communicate(timeout=10)


def job(name: str, function: str, *args: Any, after: Any = (), **said: Any) -> dict[str, Any]:
    return {"name": name, "function": f"flow.{function}", "args": list(args), "after": list(after), **said}


def result(text: str) -> dict[str, str]:
    return {"$result": text}


def submit(client: FlaskClient, *jobs: dict[str, Any], **said: Any) -> str:
    answer = client.post(URL, json={"jobs": jobs, **said})
    assert answer.status_code == 202, answer.json
    return str(answer.json["id"])


def ended(client: FlaskClient, workflow: str, seconds: float = 20) -> dict[str, Any]:
    def over() -> Any:
        found = client.get(f"{URL}/{workflow}").json
        return found["status"] != "running" and found

    found: dict[str, Any] = until(over, seconds)
    return found


def states(found: dict[str, Any]) -> dict[str, str]:
    return {job["name"]: job["status"] for job in found["jobs"]}


@few_and_many
def test_a_chain_hands_its_results_on(client: FlaskClient, worker: object) -> None:
    workflow = submit(
        client,
        job("one", "add", 1, 2),
        job("two", "wrap", result("one"), after=["one"]),
        job("three", "add", 10, result("two.values[0]"), after=["two"]),
    )
    found = ended(client, workflow)
    assert (found["status"], found["jobs"][-1]["result"]) == ("finished", 13)
    assert found["counts"] == {"total": 3, "finished": 3, "failed": 0, "stopped": 0, "canceled": 0}


@few_and_many
def test_a_group_and_a_chord(client: FlaskClient, worker: object) -> None:
    group = [job(f"part_{number}", "add", number) for number in range(20)]
    names = [one["name"] for one in group]
    workflow = submit(client, *group, job("sum", "total", [result(name) for name in names], after=names))
    assert ended(client, workflow)["jobs"][-1]["result"] == sum(range(20))


@few_and_many
def test_a_job_is_mapped_over_items_and_its_results_are_a_list(client: FlaskClient, worker: object) -> None:
    workflow = submit(
        client,
        job("parts", "add", 100, each=[1, 2, 3]),
        job("sum", "total", result("parts"), after=["parts"]),
        job("second", "echo", result("parts[1]"), after=["parts"]),
    )
    found = ended(client, workflow)
    assert {one["name"]: one["result"] for one in found["jobs"]} == {
        "parts[0]": None,
        "parts[1]": None,
        "parts[2]": None,
        "sum": 306,
        "second": 102,
    }


@few_and_many
def test_what_needs_a_dead_job_is_canceled_with_the_reason_and_the_rest_goes_on(
    client: FlaskClient, worker: object
) -> None:
    workflow = submit(
        client,
        job("bad", "fail"),
        job("child", "echo", after=["bad"]),
        job("grandchild", "echo", after=["child"]),
        job("other", "echo", 1),
        job("after_other", "echo", result("other"), after=["other"]),
        job("anyway", "echo", result("bad"), after=[{"name": "bad", "even_if_failed": True}]),
        job("even_so", "echo", result("child"), after=[{"name": "child", "even_if_failed": True}]),
    )
    found = ended(client, workflow)
    assert found["status"] == "failed"
    assert states(found) == {
        "bad": "failed",
        "child": "canceled",
        "grandchild": "canceled",
        "other": "finished",
        "after_other": "finished",
        "anyway": "finished",
        "even_so": "finished",
    }
    errors = {one["name"]: one["error"]["message"] for one in found["jobs"] if one["error"]}
    assert errors == {
        "bad": "no",
        "child": "it needs bad, which is failed",
        "grandchild": "it needs bad, which is failed",
    }


@few_and_many
@pytest.mark.parametrize("many", [{}, {"each": [1, 2]}])
def test_a_job_waits_for_the_results_it_takes_though_what_is_between_is_canceled(
    client: FlaskClient, project: Project, many: dict[str, Any]
) -> None:
    workflow = submit(
        client,
        job("bad", "fail"),
        job("slow", "echo", *([] if many else [1]), **many),
        job("between", "echo", after=["bad", "slow"]),
        job("last", "echo", result("slow"), after=[{"name": "between", "even_if_failed": True}], at_front=True),
    )
    project.work()
    found = ended(client, workflow, 1)
    assert states(found)["between"] == "canceled"
    assert found["jobs"][-1]["result"] == (many.get("each") or 1), found["jobs"][-1]["error"]


@few_and_many
def test_or_all_of_it_stops(client: FlaskClient, project: Project, valkey: redis.Redis, worker: object) -> None:
    scheduler = project.start("scheduler.py", LOG_LEVEL="ERROR")
    try:
        workflow = submit(
            client,
            job("bad", "fail"),
            job("slow", "sleep", 0.1),
            job("after_slow", "echo", after=["slow"]),
            job("later", "echo", delay=3600),
            on_error="stop",
        )
        found = ended(client, workflow)
        until(lambda: not valkey.exists("jobline:workflows:stopping"))
    finally:
        scheduler.terminate()
        scheduler.communicate(timeout=10)
    assert states(found)["after_slow"] == states(found)["later"] == "canceled"
    assert found["status"] == "failed"


def test_a_stop_leaves_alone_what_is_about_to_begin_and_cancels_it_if_it_goes_back(
    client: FlaskClient, valkey: redis.Redis
) -> None:
    workflow = submit(client, job("bad", "echo"), job("begins", "echo"), job("returns", "echo"), on_error="stop")
    queue, [bad, begins, returns] = "rq:queue:default", valkey.lrange("rq:queue:default", 0, -1)
    valkey.lrem(queue, 1, begins)  # as a claim of two
    valkey.lrem(queue, 1, returns)
    valkey.delete(b"rq:job:" + bad)
    store.sweep(valkey, 0)  # which finds that one of them is gone, so that the graph is to stop
    started = {"status": "started", "worker_name": "someone"}
    begin = threading.Timer(0.3, valkey.hset, [b"rq:job:" + begins], {"mapping": started})
    with valkey.pubsub(ignore_subscribe_messages=True) as heard:
        heard.subscribe("rq:pubsub:someone")
        heard.get_message(timeout=1)
        begin.start()
        store.sweep(valkey, 0)
        begin.join()
        assert heard.get_message(timeout=0.5) is None  # nobody is told to stop it
    valkey.rpush(queue, returns)
    store.sweep(valkey, 0)
    assert states(client.get(f"{URL}/{workflow}").json) == {
        "bad": "canceled",
        "begins": "started",
        "returns": "canceled",
    }
    store.sweep(valkey, 0)
    assert not valkey.exists("jobline:workflows:stopping")


@few_and_many
@pytest.mark.parametrize(
    ("first", "follows"), [("echo", {"on_success", "on_complete"}), ("fail", {"on_failure", "on_complete"})]
)
def test_jobs_follow_the_end(client: FlaskClient, worker: object, first: str, follows: set[str]) -> None:
    hooks = {name: {"function": "flow.echo", "args": [name]} for name in ("on_success", "on_failure", "on_complete")}
    workflow = submit(client, job("first", first), job("on_time", "echo"), **hooks)
    found = ended(client, workflow)
    assert found["counts"]["total"] == 2

    def hook_states() -> dict[str, str]:
        return {name: state for name, state in states(client.get(f"{URL}/{workflow}").json).items() if name in hooks}

    until(lambda: {name for name, state in hook_states().items() if state == "finished"} == follows)
    assert set(hook_states().values()) == {"finished", "canceled"}


@few_and_many
def test_a_dead_job_that_is_requeued_resumes_the_graph(client: FlaskClient, project: Project, worker: object) -> None:
    path = project.folder / "file"
    hook = {"function": "flow.echo", "args": [1]}
    workflow = submit(
        client,
        job("fragile", "fail_unless", str(path)),
        job("next", "echo", result("fragile"), after=["fragile"]),
        job("last", "echo", result("next"), after=["next"]),
        on_success=hook,
    )
    assert ended(client, workflow)["status"] == "failed"
    path.touch()
    assert client.post(f"/api/v1/jobs/{workflow}-fragile/requeue").status_code == 202
    found = until(lambda: (f := client.get(f"{URL}/{workflow}").json)["status"] == "finished" and f)
    assert {one["name"]: one["result"] for one in found["jobs"]}["last"] == "there"
    assert found["counts"] == {"total": 3, "finished": 3, "failed": 0, "stopped": 0, "canceled": 0}
    until(lambda: states(client.get(f"{URL}/{workflow}").json)["on_success"] == "finished")


@few_and_many
def test_a_workflow_is_canceled(client: FlaskClient, worker: object, concurrency: int) -> None:
    workflow = submit(
        client,
        job("slow", "sleep", 60),
        job("waits", "sleep", 60),
        job("child", "echo", after=["slow", "waits"]),
    )
    running = min(concurrency, 2)
    until(lambda: Counter(states(client.get(f"{URL}/{workflow}").json).values())["started"] == running)
    assert client.post(f"{URL}/{workflow}/cancel").status_code == 202
    assert ended(client, workflow, 1)["status"] == "canceled"
    expected = {"slow": "stopped", "waits": "canceled" if running == 1 else "stopped", "child": "canceled"}
    until(lambda: states(client.get(f"{URL}/{workflow}").json) == expected, 5)
    assert client.post(f"{URL}/{workflow}/cancel").status_code == 409


def test_a_job_that_is_deleted_holds_nothing_up(client: FlaskClient, valkey: redis.Redis) -> None:
    workflow = submit(client, job("gone", "echo"), job("child", "echo", after=["gone"]))
    assert client.delete(f"/api/v1/jobs/{workflow}-gone").status_code == 204
    for number in range(10):
        store.sweep(valkey, number)
    assert states(ended(client, workflow, 1)) == {"gone": "canceled", "child": "canceled"}


def test_the_result_of_a_job_that_is_deleted_while_it_waits_is_null(client: FlaskClient, project: Project) -> None:
    workflow = submit(
        client,
        job("first", "echo", 1),
        job("gone", "echo", after=["first"]),
        job("last", "wrap", result("gone"), after=[{"name": "gone", "even_if_failed": True}]),
    )
    assert client.delete(f"/api/v1/jobs/{workflow}-gone").status_code == 204
    project.work()
    found = ended(client, workflow, 1)
    assert states(found) == {"first": "finished", "gone": "canceled", "last": "finished"}
    assert found["jobs"][-1]["result"] == {"values": [None]}


def test_jobs_that_a_stock_worker_ran_move_the_graph_on(
    client: FlaskClient, project: Project, valkey: redis.Redis
) -> None:
    workflow = submit(client, job("one", "echo", 1), job("two", "echo", result("one"), after=["one"]))
    process = project.start("-m", "rq.cli", "worker", "--burst", "-S", "rq.serializers.JSONSerializer", "default",
                            "--url", project.url)  # fmt: skip
    process.communicate(timeout=30)
    for number in range(10):
        store.sweep(valkey, number)
    project.work()
    assert ended(client, workflow)["jobs"][-1]["result"] == 1


@pytest.mark.parametrize(
    ("jobs", "pointer"),
    [
        ([job("a", "echo", after=["b"]), job("b", "echo", after=["a"])], "#/jobs"),
        ([job("a", "echo", after=["nobody"])], "#/jobs/0/after/0"),
        ([job("a", "echo"), job("a", "echo")], "#/jobs/1/name"),
        ([job("a", "echo"), job("b", "echo", result("a"))], "#/jobs/1/args/0"),
        ([job("a", "echo", [{"x": result("nobody")}])], "#/jobs/0/args/0/0/x"),
        ([job("a", "echo", result("not a name"))], "#/jobs/0/args/0"),
        ([job("a", "add", "text")], "#/jobs/0/args/0"),
        ([job("a", "add", 1), job("b", "add", result("a"), "text", after=["a"])], "#/jobs/1/args/1"),
        ([job("a", "nothing")], "#/jobs/0/function"),
        ([job("a", "echo", id="mine")], "#/jobs/0"),
        ([job("on_success", "echo")], "#/jobs/0/name"),
    ],
)
def test_what_is_no_workflow_is_refused(
    client: FlaskClient, valkey: redis.Redis, jobs: list[dict[str, Any]], pointer: str
) -> None:
    answer = client.post(URL, json={"jobs": jobs})
    assert (answer.status_code, answer.json["errors"][0]["pointer"]) == (422, pointer)
    assert valkey.keys("*") == []


def test_workflows_are_listed_newest_first(client: FlaskClient) -> None:
    ids = [submit(client, job("a", "echo"), name=name) for name in ("x", "y", "x")]
    page = client.get(f"{URL}?limit=2").json
    assert [one["id"] for one in page["workflows"]] == [ids[2], ids[1]]
    rest = client.get(f"{URL}?cursor={page['next_cursor']}").json
    assert [one["id"] for one in rest["workflows"]] == [ids[0]]
    assert [one["id"] for one in client.get(f"{URL}?name=x").json["workflows"]] == [ids[2], ids[0]]
    assert client.get(f"{URL}?status=failed").json["workflows"] == []
    assert client.get(f"{URL}/unknown").status_code == 404


def test_a_large_group_is_done_in_seconds(client: FlaskClient, worker: object, valkey: redis.Redis) -> None:
    until(lambda: valkey.zcard("jobline:leases"))
    began = time.monotonic()
    workflow = submit(
        client, job("parts", "echo", each=list(range(4_000))), job("sum", "total", result("parts"), after=["parts"])
    )
    submitted = time.monotonic() - began
    until(lambda: valkey.hget(f"jobline:workflow:{workflow}", "status") == b"finished", 30)
    assert ended(client, workflow)["jobs"][-1]["result"] == sum(range(4_000))
    assert submitted < 10
    assert time.monotonic() - began < 20


def test_whoever_is_killed_every_graph_ends_right() -> None:
    sizes = replace(lab.SMOKE, graphs=150, graphs_seconds=60, settle_seconds=40)
    with lab.opened(sizes, seed=11, append_only=False) as found:
        figures = graphs.measure(found, graphs.ROWS[0])
    assert figures["wrong"] == figures["stuck"] == 0, figures
    assert len(figures["kills"]) == 3, figures  # of each kind


@pytest.fixture
def telling(project: Project, client: FlaskClient, valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> FlaskClient:
    """A client of a service that signs webhooks, and may reach the receiver."""
    project.write("webhooks", (ROOT / "jobs" / "webhooks.py").read_text())
    monkeypatch.setenv("WEBHOOK_SECRET", SECRET)
    monkeypatch.setenv("WEBHOOK_ALLOW_HOSTS", "127.0.0.1")
    return create_app(Settings(), connection=valkey, catalog=catalog_of(project)).test_client()


def told(receiver: Receiver, workflow: str) -> list[dict[str, Any]]:
    ids = [(JSON.loads(one.body)["data"]["id"], one) for one in receiver.received]
    return [one.verified() for found, one in ids if found == workflow]


@few_and_many
@pytest.mark.parametrize("status", ["finished", "failed", "canceled"])
def test_the_end_is_told_once_to_the_webhook_of_the_workflow(
    telling: FlaskClient, project: Project, valkey: redis.Redis, receiver: Receiver, worker: object, status: str
) -> None:
    jobs = {
        "finished": [job("a", "add", 1), job("b", "add", result("a"), 1, after=["a"])],
        "failed": [job("a", "fail"), job("b", "add", 1, after=["a"])],
        "canceled": [job("a", "add", 1, queue="nobody-takes"), job("b", "add", 1, after=["a"])],
    }[status]
    workflow = submit(telling, *jobs, webhook={"url": f"{receiver.base}/ok"}, name="sums")
    if status == "canceled":
        telling.post(f"{URL}/{workflow}/cancel")
    [message] = until(lambda: told(receiver, workflow), 10)
    found = ended(telling, workflow)
    found.pop("jobs")
    assert message == {"type": f"workflow.{status}", "timestamp": found["ended_at"], "data": found}
    assert found["webhook"] == {"url": f"{receiver.base}/ok", "events": [*WORKFLOW_EVENTS]}
    until(lambda: not valkey.xlen("jobline:outbox") and not valkey.zcard("rq:wip:webhooks"))
    assert len(told(receiver, workflow)) == 1


def test_a_webhook_hears_of_the_events_that_it_asks_for_with_its_own_secret(
    telling: FlaskClient, valkey: redis.Redis, receiver: Receiver, worker: object
) -> None:
    webhook = {"url": f"{receiver.base}/ok", "secret": OTHER_SECRET, "events": ["workflow.failed"]}
    silent = submit(telling, job("a", "add", 1), webhook=webhook)
    loud = submit(telling, job("a", "fail"), webhook=webhook)
    ended(telling, silent)
    until(lambda: [one for one in receiver.received if loud.encode() in one.body])
    [received] = receiver.received
    assert received.verified(OTHER_SECRET)["type"] == "workflow.failed"
    for key in valkey.scan_iter("rq:job:msg_*"):
        assert OTHER_SECRET not in str(telling.get(f"/api/v1/jobs/{key.decode().rpartition(':')[2]}").json)
    assert OTHER_SECRET not in str(telling.get(f"{URL}/{loud}").json)


@few_and_many
def test_the_webhook_of_the_service_is_for_workflows_too(
    telling: FlaskClient, project: Project, valkey: redis.Redis, receiver: Receiver, worker: object
) -> None:
    settings = Settings(webhook_url=f"{receiver.base}/ok")
    client = create_app(settings, connection=valkey, catalog=catalog_of(project)).test_client()
    workflow = submit(client, job("a", "add", 1))
    until(lambda: len(receiver.received) == 2)
    types = {message["type"]: message["data"]["id"] for message in (one.verified() for one in receiver.received)}
    assert types == {"job.finished": f"{workflow}-a", "workflow.finished": workflow}


def test_a_bad_webhook_of_a_workflow_is_named_and_nothing_is_made(telling: FlaskClient, valkey: redis.Redis) -> None:
    for webhook, pointer in (
        ({"url": "http://127.0.0.2/"}, "#/webhook/url"),
        ({"url": "https://example.com", "events": ["job.finished"]}, "#/webhook/events/0"),
    ):
        answer = telling.post(URL, json={"jobs": [job("a", "add", 1)], "webhook": webhook})
        assert (answer.status_code, answer.json["errors"][0]["pointer"]) == (422, pointer)
    assert not list(valkey.scan_iter("rq:job:*"))
