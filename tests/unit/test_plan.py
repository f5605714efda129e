"""What a scheduler does about a schedule that is due: late, busy, over."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.schedules.plan import ON_TIME_WINDOW, Plan, plan
from app.schedules.rule import Schedule
from app.schedules.state import State

DUE = datetime(2026, 1, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def planned(late: timedelta, busy: bool = False, runs: int = 0, buffered: datetime | None = None, **said: Any) -> Plan:
    """For a schedule of every minute that was due at DUE."""
    said = {"interval": 60, **said} if "cron" not in said else said
    schedule = Schedule(name="s", function="demo.add", **said)
    return plan(State(schedule=schedule, first=DUE, due=DUE, runs=runs, buffered=buffered), DUE + late, busy)


@pytest.mark.parametrize("rule", [{"interval": 60}, {"cron": "* * * * *"}])
@pytest.mark.parametrize(
    ("catch_up", "late", "runs", "misses"),
    [
        ("none", timedelta(seconds=3), [0], 0),
        ("one", timedelta(seconds=3), [0], 0),
        ("all", timedelta(seconds=3), [0], 0),
        ("none", 5 * MINUTE + timedelta(seconds=3), [5], 5),
        ("none", 5 * MINUTE + timedelta(seconds=30), [], 6),
        ("one", 5 * MINUTE + timedelta(seconds=30), [5], 5),
        ("all", 5 * MINUTE + timedelta(seconds=30), [0, 1, 2, 3, 4, 5], 0),
    ],
)
def test_what_was_missed_is_caught_up_as_it_is_said(
    rule: dict[str, Any], catch_up: str, late: timedelta, runs: list[int], misses: int
) -> None:
    made = planned(late, catch_up=catch_up, **rule)
    assert [(run - DUE) // MINUTE for run in made.runs] == runs
    assert made.misses == misses
    assert made.due == DUE + (late // MINUTE + 1) * MINUTE


def test_what_is_older_than_the_window_is_missed() -> None:
    made = planned(5 * MINUTE, catch_up="all", catch_up_window=120)
    assert [(run - DUE) // MINUTE for run in made.runs] == [3, 4, 5]
    assert made.misses == 3
    assert planned(5 * MINUTE + timedelta(seconds=59), catch_up="one", catch_up_window=30).runs == []


def test_very_many_are_caught_up_in_steps() -> None:
    made = planned(1000 * MINUTE, catch_up="all")
    assert len(made.runs) == 100
    assert made.due == DUE + 100 * MINUTE


@pytest.mark.parametrize(
    ("overlap", "runs", "skips", "buffered"), [("allow", 1, 0, None), ("skip", 0, 1, None), ("buffer_one", 0, 0, DUE)]
)
def test_while_the_last_run_is_not_over(overlap: str, runs: int, skips: int, buffered: datetime | None) -> None:
    made = planned(timedelta(), busy=True, overlap=overlap)
    assert (len(made.runs), made.skips, made.buffered, made.due) == (runs, skips, buffered, DUE + MINUTE)


def test_no_more_than_one_is_kept_for_later() -> None:
    made = planned(timedelta(), busy=True, overlap="buffer_one", buffered=DUE - MINUTE)
    assert (made.runs, made.skips, made.buffered) == ([], 1, DUE - MINUTE)


def test_a_schedule_ends_with_its_last_run_and_at_its_end() -> None:
    assert planned(timedelta(), runs=2, max_runs=3).due is None
    assert planned(timedelta(), runs=1, max_runs=3).due == DUE + MINUTE
    assert planned(10 * MINUTE, runs=1, max_runs=3, catch_up="all").runs == [DUE, DUE + MINUTE]
    assert planned(timedelta(), runs=3, max_runs=3).runs == []
    assert planned(timedelta(), end=DUE + timedelta(seconds=30)).due is None
    late = planned(10 * MINUTE, end=DUE + 2 * MINUTE)
    assert (late.runs, late.misses, late.due) == ([DUE + 2 * MINUTE], 2, None)


JITTERED = Schedule(name="s", function="demo.add", interval=60, jitter=30)


def jitter_of(number: int) -> float:
    """Seconds by which this run is late."""
    due = DUE + number * MINUTE
    return JITTERED.jittered(due) - due.timestamp()


def test_jitter_is_the_same_whoever_reckons_and_within_its_bound() -> None:
    found = [jitter_of(number) for number in range(100)]
    assert found[:3] == pytest.approx([25.44, 29.589, 9.199], abs=0.001)  # in each process, and after each update
    other = JITTERED.model_copy(update={"name": "t"})
    assert other.jittered(DUE) - DUE.timestamp() == pytest.approx(22.132, abs=0.001)  # not all at the same moment
    assert 0 <= min(found) < 3
    assert 27 < max(found) <= 30
    assert planned(timedelta(seconds=found[0] - 0.01), jitter=30).runs == []
    assert planned(timedelta(seconds=found[0] + 0.01), jitter=30).runs == [DUE]


def test_jitter_counts_as_no_delay() -> None:
    """A run that jitter puts off by more than ON_TIME_WINDOW has not been missed, nor one that is as late again."""
    number = max(range(100), key=jitter_of)
    assert jitter_of(number) > ON_TIME_WINDOW.total_seconds() + 10
    for late in (0.01, 14):
        schedule = JITTERED.model_copy(update={"catch_up": "none"})
        state = State(schedule=schedule, first=DUE, due=DUE + number * MINUTE)
        made = plan(state, DUE + number * MINUTE + timedelta(seconds=jitter_of(number) + late), False)
        assert (made.runs, made.misses) == ([DUE + number * MINUTE], 0)


def test_a_run_that_jitter_puts_off_is_not_the_latest_before_its_time() -> None:
    """The one before it is, and this one is still to come."""
    number = next(n for n in range(3, 100) if jitter_of(n) > 20 and jitter_of(n - 1) < jitter_of(n))
    now = DUE + number * MINUTE + timedelta(seconds=jitter_of(number) - 5)
    state = State(schedule=JITTERED.model_copy(update={"catch_up": "one"}), first=DUE, due=DUE)
    made = plan(state, now, False)
    assert (made.runs, made.misses, made.due) == ([DUE + (number - 1) * MINUTE], number - 1, DUE + number * MINUTE)


@pytest.mark.parametrize(
    ("overlap", "runs", "skips", "buffered"),
    [("allow", 4, 0, None), ("skip", 1, 3, None), ("buffer_one", 1, 2, DUE + MINUTE)],
)
def test_runs_that_are_caught_up_together_overlap_each_other(
    overlap: str, runs: int, skips: int, buffered: datetime | None
) -> None:
    made = planned(3 * MINUTE, catch_up="all", overlap=overlap)
    assert made.runs == [DUE + number * MINUTE for number in range(runs)]
    assert (made.skips, made.buffered, made.misses, made.due) == (skips, buffered, 0, DUE + 4 * MINUTE)
