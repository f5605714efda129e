"""The clock that due times go by, and what happens when it is set back.

The clock is that of Redis: those of the scheduler, of workers and of API processes may differ from it and from each
other. If it is set back by an hour (by NTP, or because Redis moves to another machine), a job due in a minute would
become due in an hour and a minute. So the leading scheduler records the time. When it reads an earlier one, it moves
everything that is measured in elapsed time (delayed jobs, retries, intervals, limits, breakers) back by the
difference. Wall-clock times (`at`, a cron expression) follow the new time, and no due moment of theirs runs twice; an
hourly cron expression continues at once.
"""

import math
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import cast

import redis
import structlog
from redis.client import Pipeline

from app.catalog.catalog import Catalog
from app.catalog.fields import SCHEDULE_ID_PREFIX
from app.redis.client import batches, seconds_now
from app.redis.keys import CLOCK, CLOCK_JUMP_SECONDS, breaker_key
from app.redis.scripts import Script
from app.schedules import store
from app.schedules.lease import Lease
from app.schedules.state import State
from app.schedules.timing import Cron, Interval, is_hourly

MEASUREMENT_TOLERANCE_SECONDS = 0.1
SAMPLE_INTERVAL_SECONDS = 0.2  # between two samples the clock advances with this process's monotonic clock

SHIFT_DUE_TIMES = Script("schedules/shift_due_times")

log = structlog.get_logger("jobline.scheduler")


class RedisClock:
    """The time of Redis in seconds since 1970, sampled at intervals. Raises redis.RedisError."""

    def __init__(self, connection: redis.Redis) -> None:
        self.connection = connection
        self._seconds, self._sampled_at = 0.0, -SAMPLE_INTERVAL_SECONDS

    def __call__(self) -> float:
        elapsed = time.monotonic() - self._sampled_at
        if elapsed >= SAMPLE_INTERVAL_SECONDS:
            self._sampled_at = time.monotonic()
            self._seconds, elapsed = seconds_now(self.connection), 0.0
        return self._seconds + elapsed


class ClockSetbackMonitor:
    """Detects that the clock was set back, and moves due times accordingly. Used by the leading scheduler."""

    def __init__(self, connection: redis.Redis, catalog: Catalog, lease: Lease) -> None:
        self.connection, self.catalog, self.lease = connection, catalog, lease
        self._recorded, self._recorded_at = "", 0.0

    def check(self, now: float) -> None:
        """Record the time, `now`, or shift due times if it is earlier than expected. Call it often.

        Raises:
            redis.RedisError, LeaseLost: the next call repeats what was missed.
        """
        recorded = (self.connection.get(CLOCK) or b"").decode()
        expected = float(recorded or now)
        if recorded and recorded == self._recorded:
            expected += time.monotonic() - self._recorded_at
        if expected - now > CLOCK_JUMP_SECONDS:
            # Rounded, so that due times in whole seconds stay whole.
            seconds = math.floor(expected - now + MEASUREMENT_TOLERANCE_SECONDS)
            log.warning(
                "the clock was put back: delayed jobs, retries and intervals go on by elapsed time", seconds=seconds
            )
            self._shift_due_times(seconds, now)
        else:
            self.connection.set(CLOCK, repr(now))
        self._recorded, self._recorded_at = repr(now), time.monotonic()

    def _shift_due_times(self, seconds: float, now: float) -> None:
        """Move due times back by `seconds`.

        The time is recorded last: if this scheduler dies before, the next one repeats the shift. What is shifted
        already is skipped then: an interval that is due within its length is left as it is.
        """
        entries = self.connection.zrangebyscore(store.DUE_SCHEDULES, f"({now}", "+inf")
        names = [entry.decode(errors="replace").removeprefix(SCHEDULE_ID_PREFIX) for entry in entries]
        for batch in batches(names, store.BATCH_SIZE):
            update = partial(_shift_schedules, seconds=seconds, now=now)
            store.transact(self.connection, batch, update, self.lease)
        for function in self.catalog.functions.values():
            if function.options.breaker:
                self._shorten_breaker(function.name, cast(float, function.options.breaker.cool_down))
        SHIFT_DUE_TIMES(self.connection, seconds=seconds, now=repr(now))

    def _shorten_breaker(self, function: str, cool_down: float) -> None:
        key = breaker_key(function, "open")
        if self.connection.pttl(key) > 1000 * cool_down:
            self.connection.pexpire(key, int(1000 * cool_down))


def _shift_schedules(states: dict[str, store.StoredState], pipeline: Pipeline, seconds: float, now: float) -> None:
    shifted = [state for state in states.values() if isinstance(state, State) and _shift_schedule(state, seconds, now)]
    store.write(pipeline, shifted)


def _shift_schedule(state: State, seconds: float, now: float) -> bool:
    """Make a schedule due sooner. Returns whether it changed."""
    if state.due is None:
        return False
    timing, moment = state.schedule.timing(state.first), datetime.fromtimestamp(now, UTC)
    if isinstance(timing, Interval):
        not_begun = state.schedule.start is not None and state.runs == 0
        if not_begun or state.due <= moment + timing.step:
            return False
        state.first, state.due = timing.first - timedelta(seconds=seconds), state.due - timedelta(seconds=seconds)
        return True
    if isinstance(timing, Cron) and is_hourly(timing.expression):
        due = state.schedule.after(moment, state.first)
        if due and due < state.due:
            state.due = due
            return True
    return False
