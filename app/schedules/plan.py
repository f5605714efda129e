"""Decide what a due schedule does: which due moments run, which are skipped or missed, and which comes next."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from app.schedules.state import State
from app.schedules.timing import Interval

ON_TIME_WINDOW = timedelta(seconds=15)  # lateness that catch_up "none" allows: longer than a takeover
MAX_RUNS_PER_STEP = 100  # of one schedule
MAX_COUNTED_MISSES = 1000  # of a cron expression: its moments are counted one by one


@dataclass
class Plan:
    """`runs` are the due moments to run now. The run of `buffered` waits until the last run has ended."""

    runs: list[datetime] = field(default_factory=list)
    skips: int = 0
    misses: int = 0
    buffered: datetime | None = None
    due: datetime | None = None


def plan(state: State, now: datetime, busy: bool) -> Plan:
    """Make the plan of a schedule that is due. `busy`: its last run has not ended."""
    assert state.due
    result = Plan(buffered=state.buffered)
    first = _oldest_in_window(state, now) if state.schedule.catch_up == "all" else _latest_due(state, now)
    result.misses = _count_due(state, first)
    due: datetime | None = first
    remaining = MAX_RUNS_PER_STEP if state.schedule.max_runs is None else state.schedule.max_runs - state.runs
    while due and _is_due(state, due, now) and len(result.runs) < min(remaining, MAX_RUNS_PER_STEP):
        _decide(state, result, due, now, busy or bool(result.runs))
        due = state.schedule.after(due, state.first)
    result.due = due if len(result.runs) < remaining or state.schedule.max_runs is None else None
    return result


def _decide(state: State, result: Plan, due: datetime, now: datetime, busy: bool) -> None:
    overlap = state.schedule.overlap
    if now - due > _max_lateness(state):
        result.misses += 1
    elif not busy or overlap == "allow":
        result.runs.append(due)
    elif overlap == "buffer_one" and result.buffered is None:
        result.buffered = due
    else:
        result.skips += 1


def _max_lateness(state: State) -> timedelta:
    """How late a run may start."""
    rule = state.schedule
    late = 0 if rule.catch_up == "none" else rule.catch_up_window
    return max(ON_TIME_WINDOW, timedelta(seconds=late)) + timedelta(seconds=rule.jitter)


def _oldest_in_window(state: State, now: datetime) -> datetime:
    """The earliest due moment that is not too late."""
    assert state.due
    oldest = state.schedule.after(now - _max_lateness(state) - timedelta(microseconds=1), state.first)
    return max(oldest, state.due) if oldest else state.due


def _latest_due(state: State, now: datetime) -> datetime:
    """The latest due moment whose time has come, jitter included."""
    assert state.due
    timing = state.schedule.timing(state.first)
    latest = timing.latest(min(now, state.schedule.end or now))
    while latest and latest > state.due and not _is_due(state, latest, now):
        latest = timing.latest(latest - timedelta(microseconds=1))
    return max(latest, state.due) if latest else state.due


def _count_due(state: State, until: datetime) -> int:
    """Count the due moments before `until`, starting with the current one."""
    assert state.due
    timing, due = state.schedule.timing(state.first), state.due
    if isinstance(timing, Interval):
        return (until - due) // timing.step
    count, following = 0, timing.after(due)
    while following and following <= until and count < MAX_COUNTED_MISSES:
        count, following = count + 1, timing.after(following)
    return count


def _is_due(state: State, due: datetime, now: datetime) -> bool:
    return state.schedule.jittered(due) <= now.timestamp()
