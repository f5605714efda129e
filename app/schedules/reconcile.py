"""Stores what is declared, and looks anew at what could not run. A bad entry is reported, and stops no other."""

from collections.abc import Callable, Iterable
from datetime import datetime
from functools import partial
from typing import Any

import redis
import structlog
from redis.client import Pipeline

from app.catalog import Catalog
from app.queueing import NewJob
from app.redis import batches
from app.schedules import manage, store
from app.schedules.lease import Lease
from app.schedules.rule import Schedule
from app.schedules.state import State
from app.schedules.store import BATCH, Found
from app.settings import Settings

log = structlog.get_logger("jobline.scheduler")


class Reconciler:
    """Of one scheduler that leads."""

    def __init__(self, connection: redis.Redis, catalog: Catalog, settings: Settings, lease: Lease) -> None:
        self.connection, self.catalog, self.settings, self.lease = connection, catalog, settings, lease
        self._notes = store.Notes()

    def reconcile(self, declared: Iterable[dict[str, Any]], now: datetime) -> None:
        """New and changed ones are put, removed ones erased, all others checked.

        Raises:
            LeaseLost, redis.RedisError
        """
        names: set[str] = set()
        for some in batches(declared, BATCH):
            schedules = self._readable(some, names)
            self._transact(list(schedules), partial(self._put, schedules=schedules, now=now))
        others = (name for name in store.all_names(self.connection) if name not in names)
        for batch in batches(others, BATCH):
            self._transact(batch, partial(self._check, now=now))

    def _transact(self, names: list[str], how: Callable[[dict[str, Found], Pipeline], None]) -> None:
        self.lease.hold()
        store.transact(self.connection, names, how, self.lease, self._notes)

    def _readable(self, declared: Iterable[dict[str, Any]], names: set[str]) -> dict[str, Schedule]:
        """By name; their names are added to `names`."""
        found: dict[str, Schedule] = {}
        for said in declared:
            try:
                schedule = manage.checked(said)
                if schedule.name in names:
                    raise ValueError("two schedules have this name: give them names")
                names.add(schedule.name)
                found[schedule.name] = schedule
            except ValueError as error:
                log.error("a declared schedule is refused", schedule=str(said.get("name")), reason=str(error))  # noqa: TRY400 - the reason is enough
        return found

    def _put(self, found: dict[str, Found], pipeline: Pipeline, schedules: dict[str, Schedule], now: datetime) -> None:
        states: list[State] = []
        jobs: list[NewJob] = []
        for name, state in found.items():
            schedule, known = schedules[name], state if isinstance(state, State) else None
            shown = manage.shown_or_why(schedule, self.catalog, self.settings)
            if isinstance(shown, str):
                broken = known or State(schedule=schedule)
                broken.schedule, broken.declared = schedule, True
                states.append(self._broken(broken, shown))
            elif changed := manage.changed(known, schedule, now, declared=True):
                states.append(changed)
                jobs.append(shown)
        store.write(pipeline, states, shown=jobs)

    def _check(self, found: dict[str, Found], pipeline: Pipeline, now: datetime) -> None:
        for name, state in found.items():
            if isinstance(state, State) and state.declared:
                store.erase(pipeline, name)
                self._notes.add(log.info, "a schedule is declared no longer", name)
            elif isinstance(state, State):
                shown = manage.shown_or_why(state.schedule, self.catalog, self.settings)
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
