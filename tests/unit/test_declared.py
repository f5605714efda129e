"""Entries of scheduler.py: each is a schedule with a name, or set aside with the reason; none raises."""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

import scheduler
from app import Retry
from app.schedules import cron, every, once
from app.schedules.declared import RejectedSchedule, parse_entries
from app.schedules.rule import Schedule
from tests.conftest import ROOT

AT = "2027-01-01T00:00:00Z"


def schedules(*entries: Any) -> list[Schedule]:
    found = list(parse_entries(entries))
    assert [one for one in found if isinstance(one, RejectedSchedule)] == []
    return [one for one in found if isinstance(one, Schedule)]


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (every("demo.add", minutes=5), {"interval": 300}),
        (every("demo.add", hours=1, minutes=30, seconds=1), {"interval": 5401}),
        (every("demo.add", "1h30m"), {"interval": 5400}),
        (every("demo.add", interval=timedelta(minutes=5)), {"interval": 300}),
        (every("demo.add", 5, jitter="1s", timeout="2m", catch_up_window="1d"),
         {"interval": 5, "jitter": 1, "timeout": 120, "catch_up_window": 86_400}),
        (cron("@daily", "demo.add", kwargs={"a": 1}, timezone="Asia/Tokyo"),
         {"cron": "@daily", "kwargs": {"a": 1}, "timezone": "Asia/Tokyo"}),
        (once(AT, "demo.add"), {"at": datetime(2027, 1, 1, tzinfo=UTC)}),
        (cron("@daily", "demo.add", args=[date(2027, 1, 1), (1, 2)]), {"args": ["2027-01-01", [1, 2]]}),
        ({"function": "demo.add", "interval": "5m"}, {"interval": 300}),
    ],
)  # fmt: skip
def test_a_schedule_is_read_and_named_after_its_function(entry: dict[str, Any], expected: dict[str, Any]) -> None:
    [schedule] = schedules(entry)
    assert schedule.name == schedule.function == "demo.add"
    assert {name: getattr(schedule, name) for name in expected} == expected


def test_retries_are_said_in_the_words_of_the_decorator_or_in_the_old_ones() -> None:
    words = (
        {"max": 2, "backoff": {"max_delay": "10s"}},
        {"max": 2, "backoff": {"max": "10s"}},
        Retry(2, max_delay="10s"),
    )
    found = [schedules(every("demo.add", 5, retry=said))[0].retry for said in words]
    assert found[0]
    assert found[0].as_retry() == Retry(2, max_delay=10)
    assert found == [found[0]] * 3
    [plain] = schedules(every("demo.add", 5, retry=2))
    assert plain.retry
    assert plain.retry.max == 2


@pytest.mark.parametrize(
    ("make", "name", "reason"),
    [
        (lambda: cron("0 2 * * mno", "demo.add"), "demo.add", "cron: no cron expression"),
        (lambda: cron("0 2 * * mno", "demo.add", name="nightly"), "nightly", "cron: no cron expression"),
        (lambda: cron("@daily"), "entry 2", "cron() missing 1 required positional argument: 'function'"),
        (lambda: cron(function="demo.add"), "demo.add", "missing 1 required positional argument: 'expression'"),
        (lambda: cron("@daily", "demo.add", "nightly"), "entry 2", "takes 2 positional arguments"),
        (lambda: cron("@daily", print), "entry 2", "function: Input should be a valid string"),
        (lambda: cron(5, "demo.add"), "demo.add", "cron: Input should be a valid string"),
        (lambda: cron("@daily", "demo.add", colour=1), "demo.add", "colour: there is no such option"),
        (lambda: cron("@daily", "demo.add", name="a b"), "a b", "name: String should match pattern"),
        (lambda: cron("@daily", "demo.add", name=5), "demo.add", "name: Input should be a valid string"),
        (lambda: cron("@daily", "demo.add", name=["s"]), "demo.add", "name: Input should be a valid string"),
        (lambda: cron("@daily", "demo.add", timezone="Mars/Base"), "demo.add", "timezone: there is no time zone"),
        (lambda: cron("@daily", "demo.add", args=5), "demo.add", "args: Input should be a valid list"),
        (lambda: cron("@daily", "demo.add", args=[object()]), "demo.add", "the arguments have no JSON form"),
        (lambda: cron("@daily", "demo.add", args=["\ud800"]), "demo.add", "the arguments have no JSON form"),
        (lambda: cron("@daily", "demo.add", args=[2**70]), "demo.add", "the arguments have no JSON form"),
        (lambda: cron("@daily", "demo.add", retry="x"), "demo.add", "retry: give a number of retries"),
        (lambda: cron("@daily", "demo.add", retry=Retry(3, longest=1)), "demo.add", "retry: Retry() got an unexpected"),
        (lambda: cron("@daily", "demo.add", retry=Retry(3, on=OSError)), "demo.add", "retry: on and not_on are set"),
        (lambda: cron("@daily", "demo.add", retry={"max": 0}), "demo.add", "retry.max: Input should be greater"),
        (lambda: cron("@daily", "demo.add", queue="my queue"), "demo.add", "queue: "),
        (lambda: every("demo.add"), "demo.add", "interval: Input should be greater than or equal to 0.1"),
        (lambda: every("demo.add", minutes="5"), "entry 2", "unsupported type for timedelta minutes component: str"),
        (lambda: every("demo.add", hours=1e300), "entry 2", "int"),
        (lambda: every("demo.add", "5 minutes"), "demo.add", "interval: Input should be seconds, or a duration"),
        (lambda: every("demo.add", "5m", minutes=5), "entry 2", "give interval, or seconds, minutes and hours"),
        (lambda: every("demo.add", 5, jitter=10), "demo.add", "jitter is longer than the interval"),
        (lambda: once("tomorrow", "demo.add"), "demo.add", "at: Input should be a time as RFC 3339 has it"),
        (lambda: once(datetime(2027, 1, 1), "demo.add"), "demo.add", "at: Input should have a time zone"),
        (lambda: {"name": "empty"}, "empty", "function: Field required"),
        (dict, "entry 2", "function: Field required"),
        (lambda: {"function": "demo.add", "cron": "@daily", "interval": 5}, "demo.add", "give one of cron, interval"),
        (lambda: "demo.add", "entry 2", "an entry is made by cron, every or once, or is a dict, not str"),
        (lambda: None, "entry 2", "not NoneType"),
        (lambda: {5: 6}, "entry 2", "function: Field required"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_set_aside_alone(make: Callable[[], Any], name: str, reason: str) -> None:
    before, wrong, after = parse_entries(
        [every("demo.add", 1, name="before"), make(), every("demo.add", 1, name="after")]
    )
    assert isinstance(wrong, RejectedSchedule)
    assert wrong.name == name
    assert reason in wrong.reason
    assert [one.name for one in (before, after)] == ["before", "after"]


def test_two_rules_for_one_function_have_names_that_stay() -> None:
    first, second, third = (every("demo.add", minutes=n, args=[n, 2]) for n in (1, 2, 3))
    names = [one.name for one in schedules(first, second, third)]
    assert names[0] == "demo.add"
    assert len(set(names)) == 3
    assert all(name.startswith("demo.add-") for name in names[1:])
    assert [one.name for one in schedules(first, third)] == [names[0], names[2]]
    assert [one.name for one in schedules(first, {**third, "description": "Add", "queue": "low"})][1] == names[2]


def test_a_name_that_is_said_goes_before_one_that_is_not() -> None:
    unnamed, named = schedules(every("demo.add", 1), every("demo.add", 2, name="demo.add"))
    assert (named.name, named.interval) == ("demo.add", 2)
    assert unnamed.name.startswith("demo.add-")


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ([every("demo.add", 1, name="s"), every("demo.add", 2, name="s")], "another entry has this name"),
        ([every("demo.add", 1), every("demo.add", seconds=1)], "another entry says the same"),
    ],
)
def test_the_first_of_two_holds(entries: list[dict[str, Any]], reason: str) -> None:
    first, second = parse_entries(entries)
    assert isinstance(first, Schedule)
    assert first.interval == 1
    assert isinstance(second, RejectedSchedule)
    assert reason in second.reason


def test_those_of_the_readme_and_of_the_project_are_schedules() -> None:
    page = (ROOT / "docs/guides/schedules.md").read_text()
    [source] = re.findall(r"^SCHEDULES = \[.*?^\]", page, re.MULTILINE | re.DOTALL)
    found: dict[str, Any] = {"cron": cron, "every": every, "once": once}
    exec(source, found)
    assert len(schedules(*found["SCHEDULES"])) == 3
    assert schedules(*scheduler.SCHEDULES)
