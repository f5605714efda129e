"""Due times of a rule: cron in a time zone, an interval, or a single moment. Pure arithmetic; all moments are UTC.

Cron follows local time. A local time that a daylight-saving change skips is due at the next moment that exists; one
that occurs twice is due the first time. An expression for every hour runs in every real hour, as with Debian's cron.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
SECOND = timedelta(seconds=1)
MAX_CLOCK_CHANGE = timedelta(hours=3)  # of a daylight-saving change, at most


class Timing(ABC):
    """A sequence of due moments in ascending order."""

    @abstractmethod
    def after(self, moment: datetime) -> datetime | None:
        """Return the first due moment later than `moment`."""

    @abstractmethod
    def latest(self, moment: datetime) -> datetime | None:
        """Return the last due moment not later than `moment`."""


@dataclass(frozen=True)
class Once(Timing):
    at: datetime

    def after(self, moment: datetime) -> datetime | None:
        return self.at if self.at > moment else None

    def latest(self, moment: datetime) -> datetime | None:
        return self.at if self.at <= moment else None


@dataclass(frozen=True)
class Interval(Timing):
    """Every `step` from `first` on. A late run does not delay the next one."""

    first: datetime
    step: timedelta

    def after(self, moment: datetime) -> datetime | None:
        return self.first + (max(-1, (moment - self.first) // self.step) + 1) * self.step

    def latest(self, moment: datetime) -> datetime | None:
        return None if moment < self.first else self.first + (moment - self.first) // self.step * self.step


@dataclass(frozen=True)
class Cron(Timing):
    """A cron expression of five fields, or six with seconds first, as read by cronsim 2.8."""

    expression: str
    zone: ZoneInfo

    def after(self, moment: datetime) -> datetime | None:
        return next((due for due in self._instants(moment, reverse=False) if due > moment), None)

    def latest(self, moment: datetime) -> datetime | None:
        return next((due for due in self._instants(moment, reverse=True) if due <= moment), None)

    def _instants(self, moment: datetime, reverse: bool) -> Iterator[datetime]:
        local = moment.astimezone(self.zone)
        edge = SECOND if reverse else timedelta()
        if is_hourly(self.expression):
            start = (local.astimezone(UTC) + edge).astimezone(self.zone)
            return (due.astimezone(UTC) for due in CronSim(self.expression, start, reverse=reverse))
        naive = local.replace(tzinfo=None)
        if reverse:  # moments before the clocks went back have a later local time
            went_back = _offset(moment - MAX_CLOCK_CHANGE, self.zone) - _offset(moment, self.zone)
            naive += edge + max(went_back, timedelta())
        return (resolve_wall_time(due, self.zone) for due in CronSim(self.expression, naive, reverse=reverse))


@lru_cache(maxsize=10_000)
def parse_cron(expression: str, zone: str) -> Cron:
    """Parse a cron expression or a macro such as @daily.

    Raises:
        ValueError: the expression is invalid or never due.
        ZoneInfoNotFoundError: a KeyError; the time zone is unknown.
    """
    text = MACROS.get(expression.strip().lower(), " ".join(expression.split()))
    try:
        if len(CronSim(text, datetime(2024, 1, 1)).hours) == 24:
            fields = text.split()
            fields[-4] = "*"
            text = " ".join(fields)
        cron = Cron(text, ZoneInfo(zone))
        if cron.after(datetime(2024, 1, 1, tzinfo=UTC)) is None:
            raise ValueError("it is never due")
    except CronSimError as error:
        raise ValueError(str(error)) from None
    return cron


def is_hourly(expression: str) -> bool:
    """Whether the expression is for every hour."""
    return expression.split()[-4] == "*"


def resolve_wall_time(wall: datetime, zone: ZoneInfo) -> datetime:
    """Convert a local time to a moment: the first if it occurs twice, the next that exists if it is skipped."""
    before, after = (wall.replace(tzinfo=zone, fold=fold).utcoffset() or timedelta() for fold in (0, 1))
    if after <= before:  # no gap (PEP 495)
        return (wall - before).replace(tzinfo=UTC)
    early, late = (wall - after).replace(tzinfo=UTC), (wall - before).replace(tzinfo=UTC)
    while late - early > SECOND:  # search for the change between the two
        middle = early + (late - early) // SECOND // 2 * SECOND
        if _offset(middle, zone) == before:
            early = middle
        else:
            late = middle
    return late


def _offset(moment: datetime, zone: ZoneInfo) -> timedelta:
    return moment.astimezone(zone).utcoffset() or timedelta()
