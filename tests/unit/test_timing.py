"""When a rule is due: against calculations that share nothing with it, through every change of the clock."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from rq.utils import utcformat

from app.redis.client import rq_time
from app.schedules.rule import When
from app.schedules.timing import Cron, Interval, Once, Timing, parse_cron

ZONES = (
    "America/New_York",
    "Europe/Berlin",
    "Europe/London",
    "Australia/Lord_Howe",
    "America/Sao_Paulo",
    "Africa/Cairo",
    "UTC",
)
BEGIN, END = datetime(2026, 1, 1, tzinfo=UTC), datetime(2029, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def due_moments(cron: Cron, begin: datetime = BEGIN, end: datetime = END) -> list[datetime]:
    found, moment = [], begin
    while (due := cron.after(moment)) and due < end:
        found.append(due)
        moment = due
    return found


def offsets(zone: str) -> list[tuple[datetime, timedelta]]:
    """Each change of the clock: the moment, and the offset from then on. Found minute by minute, day by day."""
    found, moment = [], BEGIN - 2 * DAY
    info = ZoneInfo(zone)
    known = moment.astimezone(info).utcoffset() or timedelta()
    found.append((moment, known))
    while moment < END + DAY:
        if (moment + DAY).astimezone(info).utcoffset() != known:
            while moment.astimezone(info).utcoffset() == known:
                moment += timedelta(minutes=1)
            known = moment.astimezone(info).utcoffset() or timedelta()
            found.append((moment, known))
        moment += DAY
    return found


def first_showing(wall: datetime, changes: list[tuple[datetime, timedelta]]) -> datetime:
    """The first moment when the clock on the wall shows `wall` or has gone past it."""
    for number, (since, offset) in enumerate(changes):
        until = changes[number + 1][0] if number + 1 < len(changes) else END + 2 * DAY
        moment = (wall - offset).replace(tzinfo=UTC)
        if moment < until:
            return max(moment, since)
    raise AssertionError(wall)


def walls(hours: list[int], minutes: list[int]) -> Iterator[datetime]:
    day = datetime(2025, 12, 31)
    while day < datetime(2029, 1, 2):
        yield from (day.replace(hour=hour, minute=minute) for hour in hours for minute in minutes)
        day += DAY


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize(
    ("expression", "hours", "minutes"),
    [
        ("30 2 * * *", [2], [30]),
        ("0 2 * * *", [2], [0]),
        ("0 0 * * *", [0], [0]),
        ("30 1 * * *", [1], [30]),
        ("*/15 1-3 * * *", [1, 2, 3], [0, 15, 30, 45]),
        ("0 */2 * * *", list(range(0, 24, 2)), [0]),
        ("@daily", [0], [0]),
        ("0 30 2 * * *", [2], [30]),
    ],
)
def test_cron_goes_by_the_clock_on_the_wall(zone: str, expression: str, hours: list[int], minutes: list[int]) -> None:
    changes = offsets(zone)
    expected = sorted({first_showing(wall, changes) for wall in walls(hours, minutes)})
    assert due_moments(parse_cron(expression, zone)) == [moment for moment in expected if BEGIN < moment < END]


@pytest.mark.parametrize("zone", ZONES)
def test_a_rule_for_every_hour_runs_in_every_real_hour(zone: str) -> None:
    info, moment, expected = ZoneInfo(zone), BEGIN, []
    while moment < END:
        if moment.astimezone(info).minute == 15:
            expected.append(moment)
        moment += timedelta(minutes=15)
    found = due_moments(parse_cron("15 * * * *", zone))
    assert found == expected
    if zone != "Australia/Lord_Howe":  # whose clock changes by half an hour
        assert {later - earlier for earlier, later in pairwise(found)} == {timedelta(hours=1)}


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("expression", ["30 2 * * *", "*/15 1-3 * * *", "15 * * * *", "10 30 2 * * *"])
def test_the_latest_due_moment_is_the_one_before_the_next(zone: str, expression: str) -> None:
    cron = parse_cron(expression, zone)
    for begin in (moment - DAY for moment, _ in offsets(zone)[1:]):
        found = due_moments(cron, begin, begin + 2 * DAY)
        for earlier, later in pairwise(found):
            assert cron.latest(later - timedelta(seconds=1)) == earlier
            assert cron.latest(later) == later


@pytest.mark.parametrize(
    ("expression", "after", "due"),
    [
        ("@hourly", "2026-03-04T05:06:07", "2026-03-04T06:00:00"),
        ("0 9 * * mon-fri", "2026-03-06T10:00:00", "2026-03-09T09:00:00"),
        ("0 9 L * *", "2026-02-01T00:00:00", "2026-02-28T09:00:00"),
        ("0 9 * * 5#2", "2026-03-01T00:00:00", "2026-03-13T09:00:00"),
        ("0 9 * * 5L", "2026-03-01T00:00:00", "2026-03-27T09:00:00"),
        ("0 0 29 2 *", "2026-03-01T00:00:00", "2028-02-29T00:00:00"),
        ("0,30 8-10/2 1,15 jan,mar *", "2026-01-15T10:30:00", "2026-03-01T08:00:00"),
        ("*/20 * * * * *", "2026-03-04T05:06:07", "2026-03-04T05:06:20"),
    ],
)
def test_what_expressions_mean(expression: str, after: str, due: str) -> None:
    moment = datetime.fromisoformat(after).replace(tzinfo=UTC)
    assert parse_cron(expression, "UTC").after(moment) == datetime.fromisoformat(due).replace(tzinfo=UTC)


@pytest.mark.parametrize("expression", ["", "x", "60 * * * *", "* * * *", "* * * * * * *", "0 0 30 2 *", "@never"])
def test_what_is_no_expression_is_refused(expression: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_cron(expression, "UTC")


def test_an_interval_does_not_drift() -> None:
    first = datetime(2026, 1, 1, tzinfo=UTC)
    interval = Interval(first, timedelta(seconds=1))
    moment = first - timedelta(microseconds=1)
    for _ in range(11):
        due = interval.after(moment)
        assert due
        moment = due + timedelta(milliseconds=300)
    assert due == first + timedelta(seconds=10)
    assert interval.latest(first + timedelta(seconds=7.9)) == first + timedelta(seconds=7)
    assert interval.latest(first - timedelta(seconds=1)) is None
    assert interval.after(first - timedelta(days=1)) == first


def test_once_is_due_once() -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    assert Once(at).after(at - timedelta(seconds=1)) == at
    assert Once(at).after(at) is None


def test_start_and_end_bound_a_rule() -> None:
    when = When.model_validate({"cron": "0 * * * *", "start": "2026-01-01T10:00:00Z", "end": "2026-01-01T12:00:00Z"})
    due, found = when.after(BEGIN, None), []
    while due:
        found.append(due.hour)
        due = when.after(due, None)
    assert found == [10, 11, 12]


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ({"cron": "*/5 * * * *"}, "Every 5 minutes (UTC)"),
        ({"cron": "0 2 * * *", "timezone": "Europe/Berlin"}, "At 02:00 AM (Europe/Berlin)"),
        ({"interval": "1h"}, "Every hour"),
        ({"interval": 90}, "Every 90 seconds"),
        ({"at": "2027-01-01T00:00:00Z"}, "Once, at 2027-01-01T00:00:00Z"),
    ],
)
def test_a_rule_in_words(said: dict[str, object], text: str) -> None:
    assert When.model_validate(said).text() == text


NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    "timing",
    [Once(NOON), Interval(NOON, timedelta(minutes=1)), parse_cron("0 12 * * *", "UTC"), parse_cron("0 * * * *", "UTC")],
    ids=["once", "interval", "daily", "hourly"],
)
def test_a_due_moment_is_its_own_latest_and_none_after_itself(timing: Timing) -> None:
    assert timing.latest(NOON) == NOON
    assert timing.after(NOON - timedelta(microseconds=1)) == NOON
    following = timing.after(NOON)
    assert following is None or following > NOON


def test_a_rule_for_all_hours_but_one_leaves_that_one_out() -> None:
    rule = parse_cron("0 0-22 * * *", "UTC")
    assert rule.after(NOON.replace(hour=22)) == NOON.replace(day=2, hour=0)
    assert rule.latest(NOON.replace(hour=23, minute=30)) == NOON.replace(hour=22)


@pytest.mark.parametrize("seconds", [0.0, 1.5, 1_790_000_000.123456, 1_790_000_000.9999996, 1_790_000_001.0000004])
def test_a_time_is_formatted_as_rq_formats_it(seconds: float) -> None:
    assert rq_time(seconds) == utcformat(datetime.fromtimestamp(seconds, UTC))
