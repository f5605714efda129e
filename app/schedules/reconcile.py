"""Stores what is declared, and looks anew at what could not run. A bad entry is set aside, and stops no other."""

from collections.abc import Callable, Iterable
from dataclasses import asdict
from datetime import datetime
from functools import partial
from typing import Any

import redis
import structlog
from redis.client import Pipeline

from app.catalog.catalog import Catalog
from app.enqueue.new_job import NewJob
from app.redis.client import batches
from app.schedules import manage, store
from app.schedules.declared import RejectedSchedule, read
from app.schedules.lease import Lease
from app.schedules.rule import Schedule
from app.schedules.state import State
from app.schedules.store import BATCH_SIZE, StoredState
from app.settings import Settings

log = structlog.get_logger("jobline.scheduler")


class Reconciler:
    """Of one scheduler that leads."""

    def __init__(self, connection: redis.Redis, catalog: Catalog, settings: Settings, lease: Lease) -> None:
        self.connection, self.catalog, self.settings, self.lease = connection, catalog, settings, lease
        self._notes = store.TransactionLog()

    def reconcile(self, declared: Iterable[dict[str, Any]], now: datetime) -> None:
        """New and changed ones are put, removed ones erased, all others checked.

        Raises:
            LeaseLost, redis.RedisError
        """
        names: set[str] = set()
        rejected: list[RejectedSchedule] = []
        for some in batches(read(declared), BATCH_SIZE):
            rejected += [one for one in some if isinstance(one, RejectedSchedule)]
            schedules = {one.name: one for one in some if isinstance(one, Schedule)}
            names |= schedules.keys()
            self._transact(list(schedules), partial(self._put, schedules=schedules, now=now))
        for one in rejected:
            log.error("a declared schedule is set aside", schedule=one.name, function=one.function, reason=one.reason)
        self._transact([], lambda _, pipeline: store.write_rejected(pipeline, [asdict(one) for one in rejected]))
        why = {one.name: one.reason for one in rejected}
        others = (name for name in store.all_names(self.connection) if name not in names)
        for batch in batches(others, BATCH_SIZE):
            self._transact(batch, partial(self._check, now=now, rejected=why))

    def _transact(self, names: list[str], how: Callable[[dict[str, StoredState], Pipeline], None]) -> None:
        self.lease.hold()
        store.transact(self.connection, names, how, self.lease, self._notes)

    def _put(
        self, found: dict[str, StoredState], pipeline: Pipeline, schedules: dict[str, Schedule], now: datetime
    ) -> None:
        states: list[State] = []
        jobs: list[NewJob] = []
        for name, state in found.items():
            schedule, known = schedules[name], state if isinstance(state, State) else None
            shown = manage.placeholder_or_error(schedule, self.catalog, self.settings)
            if isinstance(shown, str):
                broken = known or State(schedule=schedule)
                broken.schedule, broken.declared = schedule, True
                states.append(self._broken(broken, shown))
            elif changed := manage.changed(known, schedule, now, declared=True):
                states.append(changed)
                jobs.append(shown)
        store.write(pipeline, states, shown=jobs)

    def _check(
        self, found: dict[str, StoredState], pipeline: Pipeline, now: datetime, rejected: dict[str, str]
    ) -> None:
        for name, state in found.items():
            if isinstance(state, State) and state.declared and name in rejected:
                state.set_aside(rejected[name])
                store.write(pipeline, [state])
            elif isinstance(state, State) and state.declared:
                store.erase(pipeline, name)
                self._notes.add(log.info, "a schedule is declared no longer", name)
            elif isinstance(state, State):
                shown = manage.placeholder_or_error(state.schedule, self.catalog, self.settings)
                if isinstance(shown, str):
                    if shown != state.broken:
                        store.write(pipeline, [self._broken(state, shown)])
                elif state.broken:
                    state.resume(now)
                    store.write(pipeline, [state])

    def _broken(self, state: State, why: str) -> State:
        state.set_aside(why)
        self._notes.add(log.error, "a schedule cannot run, and is set aside", state.name, reason=why)
        return state
