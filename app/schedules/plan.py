"""What is to be done about one schedule now: which due moments run, which are skipped or missed, and what is next."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from app.schedules.state import State
from app.schedules.timing import Interval

ON_TIME = timedelta(seconds=15)  # a run so late is still one that catch_up "none" runs: longer than a takeover
MOST_RUNS = 100  # of one schedule in one step
MOST_MISSES = 1000  # counted one by one; of an interval, all


@dataclass
class Plan:
    """`runs` are due moments; the run of `buffered` waits for the end of the last one."""

    runs: list[datetime] = field(default_factory=list)
    skips: int = 0
    misses: int = 0
    buffered: datetime | None = None
    due: datetime | None = None


def plan(state: State, now: datetime, busy: bool) -> Plan:
    """For a schedule that is due; `busy` says that its last run is not over."""
    assert state.due
    made = Plan(buffered=state.buffered)
    first = _oldest(state, now) if state.schedule.catch_up == "all" else _latest(state, now)
    made.misses = _count(state, first)
    due: datetime | None = first
    left = MOST_RUNS if state.schedule.max_runs is None else state.schedule.max_runs - state.runs
    while due and _rings(state, due, now) and len(made.runs) < min(left, MOST_RUNS):
        _take(state, made, due, now, busy or bool(made.runs))
        due = state.schedule.after(due, state.first)
    made.due = due if len(made.runs) < left or state.schedule.max_runs is None else None
    return made


def _take(state: State, made: Plan, due: datetime, now: datetime, busy: bool) -> None:
    overlap = state.schedule.overlap
    if now - due > _window(state):
        made.misses += 1
    elif not busy or overlap == "allow":
        made.runs.append(due)
    elif overlap == "buffer_one" and made.buffered is None:
        made.buffered = due
    else:
        made.skips += 1


def _window(state: State) -> timedelta:
    """How late a run may be."""
    rule = state.schedule
    late = 0 if rule.catch_up == "none" else rule.catch_up_window
    return max(ON_TIME, timedelta(seconds=late)) + timedelta(seconds=rule.jitter)


def _oldest(state: State, now: datetime) -> datetime:
    """The first due moment that is not too late."""
    assert state.due
    found = state.schedule.after(now - _window(state) - timedelta(microseconds=1), state.first)
    return max(found, state.due) if found else state.due


def _latest(state: State, now: datetime) -> datetime:
    """The last due moment whose time has come."""
    assert state.due
    timing = state.schedule.timing(state.first)
    found = timing.latest(min(now, state.schedule.end or now))
    while found and found > state.due and not _rings(state, found, now):
        found = timing.latest(found - timedelta(microseconds=1))
    return max(found, state.due) if found else state.due


def _count(state: State, until: datetime) -> int:
    """How many due moments there are before `until`, from the one that is due."""
    assert state.due
    timing, due = state.schedule.timing(state.first), state.due
    if isinstance(timing, Interval):
        return (until - due) // timing.step
    count, following = 0, timing.after(due)
    while following and following <= until and count < MOST_MISSES:
        count, following = count + 1, timing.after(following)
    return count


def _rings(state: State, due: datetime, now: datetime) -> bool:
    return state.schedule.jittered(due) <= now.timestamp()
