"""The clock that due times go by, and what happens when it is put back.

It is the clock of Redis: those of the scheduler, of workers and of API processes may differ from it and each other.
If it is put back by an hour (by NTP, or as Redis moves to another machine), what was due in a minute would be due in an
hour and a minute. So the leading scheduler notes the time; when it sees an earlier one, it moves all that goes by
elapsed time (delayed jobs, retries, intervals, limits, breakers) back by as much. What has a time of its own (`at`, a
cron expression) goes by the new time, and no due moment of it runs twice; a cron expression for every hour goes on at
once.
"""

import math
import time
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import redis
import structlog
from redis.client import Pipeline

from app.catalog.catalog import Catalog
from app.redis.client import batches, seconds_now
from app.redis.keys import CLOCK, CLOCK_JUMP_SECONDS, breaker_key
from app.redis.scripts import Script
from app.schedules import store
from app.schedules.lease import Lease
from app.schedules.state import State
from app.schedules.timing import Cron, Interval, hourly

MEASURED_WITHIN = 0.1  # seconds
SAMPLE_EVERY = 0.2  # seconds; between two samples the clock goes on as this process's monotonic one does

PUT_CLOCK_BACK = Script("schedules/put_clock_back")

log = structlog.get_logger("jobline.scheduler")


class RedisClock:
    """Seconds since 1970, as Redis has it. Raises redis.RedisError."""

    def __init__(self, connection: redis.Redis) -> None:
        self.connection = connection
        self._seconds, self._sampled_at = 0.0, -SAMPLE_EVERY

    def __call__(self) -> float:
        passed = time.monotonic() - self._sampled_at
        if passed >= SAMPLE_EVERY:
            self._sampled_at = time.monotonic()
            self._seconds, passed = seconds_now(self.connection), 0.0
        return self._seconds + passed


class PutBack:
    """Notices that the clock was put back, and lets what goes by elapsed time go on. For the leading scheduler."""

    def __init__(self, connection: redis.Redis, catalog: Catalog, lease: Lease) -> None:
        self.connection, self.catalog, self.lease = connection, catalog, lease
        self._noted, self._noted_at = "", 0.0

    def look(self, now: float) -> None:
        """Note the time, `now`, or move due times if it is earlier than the one that was noted. Call it often.

        Raises:
            redis.RedisError, LeaseLost: the next look makes up for it.
        """
        known = (self.connection.get(CLOCK) or b"").decode()
        expected = float(known or now)
        if known and known == self._noted:
            expected += time.monotonic() - self._noted_at
        if expected - now > CLOCK_JUMP_SECONDS:
            by = math.floor(expected - now + MEASURED_WITHIN)  # due times that are whole seconds stay so
            log.warning("the clock was put back: delayed jobs, retries and intervals go on by elapsed time", seconds=by)
            self._go_on(by, now)
        else:
            self.connection.set(CLOCK, repr(now))
        self._noted, self._noted_at = repr(now), time.monotonic()

    def _go_on(self, by: float, now: float) -> None:
        """The time is noted in the last step: a scheduler that dies before leaves it to the next one.

        What was done before is not done again then: an interval that is due within its length is left as it is.
        """
        waiting = self.connection.zrangebyscore(store.ALARMS, f"({now}", "+inf")
        names = [entry.decode(errors="replace").removeprefix(store.PREFIX) for entry in waiting]
        for batch in batches(names, store.BATCH):
            store.transact(self.connection, batch, lambda found, pipeline: _bring(found, pipeline, by, now), self.lease)
        for function in self.catalog.functions.values():
            if function.options.breaker:
                self._bring_breaker(function.name, cast(float, function.options.breaker.cool_down))
        PUT_CLOCK_BACK(self.connection, by=by, now=repr(now))

    def _bring_breaker(self, function: str, cool_down: float) -> None:
        key = breaker_key(function, "open")
        if self.connection.pttl(key) > 1000 * cool_down:
            self.connection.pexpire(key, int(1000 * cool_down))


def _bring(found: dict[str, Any], pipeline: Pipeline, by: float, now: float) -> None:
    moved = [state for state in found.values() if isinstance(state, State) and _is_moved(state, by, now)]
    store.write(pipeline, moved)


def _is_moved(state: State, by: float, now: float) -> bool:
    """Whether the schedule is now due sooner."""
    if state.due is None:
        return False
    timing, moment = state.schedule.timing(state.first), datetime.fromtimestamp(now, UTC)
    if isinstance(timing, Interval):
        to_come = state.schedule.start is not None and state.runs == 0
        if to_come or state.due <= moment + timing.step:
            return False
        state.first, state.due = timing.first - timedelta(seconds=by), state.due - timedelta(seconds=by)
        return True
    if isinstance(timing, Cron) and hourly(timing.expression):
        due = state.schedule.after(moment, state.first)
        if due and due < state.due:
            state.due = due
            return True
    return False
