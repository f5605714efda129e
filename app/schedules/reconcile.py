"""Store the declared schedules, and check again those that could not run. An invalid entry affects no other."""

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
from app.schedules.declared import RejectedSchedule, parse_entries
from app.schedules.lease import Lease
from app.schedules.rule import Schedule
from app.schedules.state import State
from app.schedules.store import BATCH_SIZE, StoredState
from app.settings import Settings

log = structlog.get_logger("jobline.scheduler")


class Reconciler:
    """Reconciles stored schedules with declared ones, for the leading scheduler."""

    def __init__(self, connection: redis.Redis, catalog: Catalog, settings: Settings, lease: Lease) -> None:
        self.connection, self.catalog, self.settings, self.lease = connection, catalog, settings, lease
        self._log = store.TransactionLog()

    def reconcile(self, declared: Iterable[dict[str, Any]], now: datetime) -> None:
        """Put new and changed schedules, delete those no longer declared, and check all others.

        Raises:
            LeaseLost, redis.RedisError
        """
        names: set[str] = set()
        rejected: list[RejectedSchedule] = []
        for entries in batches(parse_entries(declared), BATCH_SIZE):
            rejected += [entry for entry in entries if isinstance(entry, RejectedSchedule)]
            schedules = {entry.name: entry for entry in entries if isinstance(entry, Schedule)}
            names |= schedules.keys()
            self._transact(list(schedules), partial(self._put, schedules=schedules, now=now))
        for item in rejected:
            log.error(
                "a declared schedule is set aside", schedule=item.name, function=item.function, reason=item.reason
            )
        self._transact([], lambda _, pipeline: store.write_rejected(pipeline, [asdict(item) for item in rejected]))
        reasons = {item.name: item.reason for item in rejected}
        others = (name for name in store.all_names(self.connection) if name not in names)
        for batch in batches(others, BATCH_SIZE):
            self._transact(batch, partial(self._check, now=now, rejected=reasons))

    def _transact(self, names: list[str], update: Callable[[dict[str, StoredState], Pipeline], None]) -> None:
        self.lease.hold()
        store.transact(self.connection, names, update, self.lease, self._log)

    def _put(
        self, states: dict[str, StoredState], pipeline: Pipeline, schedules: dict[str, Schedule], now: datetime
    ) -> None:
        changed: list[State] = []
        placeholders: list[NewJob] = []
        for name, stored in states.items():
            schedule, state = schedules[name], stored if isinstance(stored, State) else None
            placeholder = manage.placeholder_or_reason(schedule, self.catalog, self.settings)
            if isinstance(placeholder, str):
                broken = state or State(schedule=schedule)
                broken.schedule, broken.declared = schedule, True
                changed.append(self._set_aside(broken, placeholder))
            elif new := manage.replaced(state, schedule, now, declared=True):
                changed.append(new)
                placeholders.append(placeholder)
        store.write(pipeline, changed, placeholders=placeholders)

    def _check(
        self, states: dict[str, StoredState], pipeline: Pipeline, now: datetime, rejected: dict[str, str]
    ) -> None:
        for name, state in states.items():
            if not isinstance(state, State):
                continue
            if state.declared and name in rejected:
                state.set_aside(rejected[name])
                store.write(pipeline, [state])
            elif state.declared:
                store.erase(pipeline, name)
                self._log.add(log.info, "a schedule is declared no longer", name)
            else:
                placeholder = manage.placeholder_or_reason(state.schedule, self.catalog, self.settings)
                if isinstance(placeholder, str):
                    if placeholder != state.broken:
                        store.write(pipeline, [self._set_aside(state, placeholder)])
                elif state.broken:
                    state.resume(now)
                    store.write(pipeline, [state])

    def _set_aside(self, state: State, reason: str) -> State:
        state.set_aside(reason)
        self._log.add(log.error, "a schedule cannot run, and is set aside", state.name, reason=reason)
        return state
