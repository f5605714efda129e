"""`on_start`, `on_stop` and the Context: what the catalogue makes of them, and how the test kit runs them."""

import threading
from collections.abc import Callable

import pytest

from app import Context, on_start
from app.author.hooks import hook_of
from app.catalog.catalog import Catalog
from app.catalog.hook import Hook
from app.testing import Jobs, Refused, run_jobs
from app.worker.process_hooks import process_hooks

Write = Callable[[str, str], None]

CLIENT = """
from app import Context, job, on_start, on_stop

calls = []


@on_start
async def open_client(context: Context) -> None:
    calls.append("open")
    context.client = "client"


@on_stop
def close_client(context: Context) -> None:
    calls.append(f"close {context.client}")
"""
JOBS = """
from app import Context, job, on_start, on_stop
from jobs._hookclient import calls


@on_start
def second(context: Context) -> None:
    calls.append(f"second after {context.client}")


@on_stop
def last() -> None:
    calls.append("last")


@job
def first(context: Context, url: str) -> list[str]:
    return [context.client, url]


async def middle(a: int, context: "Context", b: int = 2, *more: int) -> list[object]:
    return [a, context.client, b, *more]


def by_name(url: str = "none", *, context: Context) -> list[str]:
    return [context.client, url]


def without(context: Context) -> object:
    return context.pool
"""


@pytest.fixture
def shop(write_module: Write) -> None:
    write_module("_hookclient", CLIENT)
    write_module("hookshop", JOBS)


def calls() -> list[str]:
    from jobs import _hookclient  # type: ignore[attr-defined]

    found: list[str] = _hookclient.calls
    return found


def test_the_context_is_no_argument(shop: None) -> None:
    functions = Catalog().refresh().functions
    schemas = {name: functions[f"hookshop.{name}"].schema for name in ("first", "middle", "by_name", "without")}
    assert [list(schema.get("properties", {})) for schema in schemas.values()] == [
        ["url"], ["a", "b", "more"], ["url"], []
    ]  # fmt: skip
    assert schemas["first"]["required"] == ["url"]


def test_hooks_are_no_jobs(shop: None) -> None:
    catalog = Catalog().refresh()
    assert not {"hookshop.second", "hookshop.last"} & catalog.functions.keys()
    assert "hookshop.first" in catalog.functions
    assert not [name for name in catalog.rejected if name.startswith("hookshop")]


def test_jobs_receive_the_context_wherever_they_name_it(shop: None, jobs: Jobs) -> None:
    ids = [
        jobs.enqueue("hookshop.first", "u"),
        jobs.enqueue("hookshop.first", url="u"),
        jobs.enqueue("hookshop.middle", 1),
        jobs.enqueue("hookshop.middle", 1, 3, 4),
        jobs.enqueue("hookshop.middle", a=1, b=3),
        jobs.enqueue("hookshop.by_name", "u"),
    ]
    jobs.run(raise_errors=True)
    assert [job.result for job in ids] == [
        ["client", "u"], ["client", "u"], [1, "client", 2], [1, "client", 3, 4], [1, "client", 3], ["client", "u"]
    ]  # fmt: skip


def test_nobody_can_send_a_context(shop: None, jobs: Jobs) -> None:
    with pytest.raises(Refused, match="#/kwargs/context"):
        jobs.enqueue("hookshop.first", "u", context={"client": "mine"})


def test_hooks_run_once_before_the_first_job_and_after_the_last(shop: None) -> None:
    with run_jobs() as jobs:
        jobs.enqueue("hookshop.by_name")
        assert calls() == []
        jobs.run()
        jobs.enqueue("hookshop.by_name")
        jobs.run()
        assert calls() == ["open", "second after client"]
    assert calls()[2:] == ["last", "close client"]


def test_a_test_gives_a_context_of_its_own(shop: None) -> None:
    with run_jobs(context=Context(client="fake")) as jobs:
        job = jobs.enqueue("hookshop.first", "u")
        jobs.run()
        assert job.result == ["fake", "u"]
    assert calls() == []


def test_what_no_hook_has_set_is_named(shop: None, jobs: Jobs) -> None:
    job = jobs.enqueue("hookshop.without")
    jobs.run()
    assert job.error
    assert job.error["message"] == "the context has no pool: no on_start hook has set it in this process"


def test_a_context_shows_no_values() -> None:
    assert repr(Context(password="secret")) == "Context(password)"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("@on_start\ndef wrong(context, other): ...", "a hook takes one argument, the Context, or none"),
        ("@on_stop\ndef wrong(*, context): ...", "a hook takes one argument, the Context, or none"),
        ("@job\n@on_start\ndef wrong(): ...", "a hook is no job: remove @job, or the decorator of the hook"),
    ],
)
def test_a_hook_that_cannot_be_called_is_set_aside(write_module: Write, source: str, reason: str) -> None:
    write_module("hookwrong", f"from app import job, on_start, on_stop\n\n{source}\n")
    catalog = Catalog().refresh()
    assert catalog.rejected["hookwrong.wrong"].reason == reason
    assert "hookwrong.wrong" not in [hook.name for hook in catalog.hooks]


def test_a_long_start_shows_that_the_process_is_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.worker.process_hooks.TICK_INTERVAL_SECONDS", 0.01)
    ticked = threading.Event()

    @on_start
    def load(context: Context) -> None:
        context.was_seen = ticked.wait(5)

    declaration = hook_of(load)
    assert declaration
    context = Context()
    with process_hooks([Hook("slow.load", load, declaration)], ticked.set, context):
        assert context.was_seen
