"""One pass over what is due: runs are queued, runs that ended are noted, what cannot run is set aside.

A schedule and its run change in one transaction, which holds only while the lease is ours and the due moment is still
the one that was read: however many schedulers there are, and whenever one dies, a due moment is run once.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import redis
import structlog
from redis.client import Pipeline

from app.catalog.catalog import Catalog
from app.enqueue.new_job import NewJob
from app.errors import JoblineError
from app.redis.client import batches
from app.redis.keys import OPEN_RUNS, job_key
from app.schedules import manage, store
from app.schedules.lease import Lease
from app.schedules.plan import plan
from app.schedules.rule import NAME
from app.schedules.state import State
from app.schedules.store import ALARMS, BATCH, PREFIX
from app.settings import Settings
from app.states import ENDED

OPEN = 1000  # runs that are looked at in one pass

log = structlog.get_logger("jobline.scheduler")


class Runner:
    """Of one scheduler."""

    def __init__(self, connection: redis.Redis, settings: Settings, catalog: Catalog, lease: Lease) -> None:
        self.connection, self.settings, self.catalog, self.lease = connection, settings, catalog, lease
        self._open_cursor = 0
        self._notes = store.Notes()

    def run_due(self, now: datetime) -> tuple[int, float | None]:
        """Up to BATCH schedules; how many were due, and when the next one is, in seconds since 1970.

        Raises:
            LeaseLost, redis.RedisError
        """
        entries = self.connection.zrange(
            ALARMS, "-inf", now.timestamp(), byscore=True, offset=0, num=BATCH, withscores=True
        )
        names = [entry.decode(errors="replace").removeprefix(PREFIX) for entry, _ in entries if _is_ours(entry)]
        for entry, score in entries:
            if not _is_ours(entry):
                store.quarantine(self.connection, entry, score, "not a schedule of Jobline: it is not run")
                log.error("a foreign entry among the schedules is set aside", entry=entry.decode(errors="replace"))
        if names:
            self._transact(names, lambda states, pipeline: self._advance(states, pipeline, now))
        following = self.connection.zrange(ALARMS, 0, 0, withscores=True)
        return len(entries), following[0][1] if following else None

    def settle(self) -> None:
        """Note how some open runs have ended, all of them in turns. Raises as `run_due`."""
        self._open_cursor, found = self.connection.hscan(OPEN_RUNS, self._open_cursor, count=OPEN)
        name_of = {job_id.decode(): name.decode() for job_id, name in found.items()}
        ended: dict[str, dict[str, str]] = {}
        for job_id, outcome in self._outcomes(list(name_of)).items():
            if outcome in ENDED:
                ended.setdefault(name_of[job_id], {})[job_id] = outcome
        for batch in batches(ended, BATCH):
            self._transact(batch, lambda states, pipeline: self._close(batch, ended, states, pipeline))  # noqa: B023 - called at once

    def _close(
        self, names: list[str], ended: dict[str, dict[str, str]], states: dict[str, State], pipeline: Pipeline
    ) -> None:
        pipeline.hdel(OPEN_RUNS, *(job_id for name in names for job_id in ended[name]))
        runs = [run for state in states.values() for run in self._note(state, ended[state.name])]
        store.write(pipeline, list(states.values()), runs)

    def _transact(self, names: list[str], how: Callable[[dict[str, State], Pipeline], None]) -> None:
        """`how` gets the schedules that are there and can be read; the others are set aside."""

        def sort_out(found: dict[str, store.Found], pipeline: Pipeline) -> None:
            for name, state in found.items():
                if not isinstance(state, State):
                    pipeline.zrem(ALARMS, PREFIX + name)
                    self._notes.add(log.error, "a schedule cannot be read, and is set aside", name, reason=str(state))
            how({name: state for name, state in found.items() if isinstance(state, State)}, pipeline)

        store.transact(self.connection, names, sort_out, self.lease, self._notes)

    def _advance(self, states: dict[str, State], pipeline: Pipeline, now: datetime) -> None:
        outcomes = self._outcomes([state.last_runs[0].job_id for state in states.values() if state.last_runs])
        runs: list[NewJob] = []
        for state in states.values():
            if state.due and state.schedule.jittered(state.due) <= now.timestamp():
                busy = bool(state.last_runs) and outcomes[state.last_runs[0].job_id] not in ENDED
                runs += self._runs(state, now, busy)
        store.write(pipeline, list(states.values()), runs)

    def _runs(self, state: State, now: datetime, busy: bool) -> list[NewJob]:
        made = plan(state, now, busy)
        state.due, state.buffered = made.due, made.buffered
        state.skips += made.skips
        state.misses += made.misses
        if made.misses:
            self._notes.add(log.warning, "runs were missed", state.name, misses=made.misses)
        return self._made(state, made.runs)

    def _note(self, state: State, outcomes: dict[str, str]) -> list[NewJob]:
        """How runs ended; then the one that waited for it begins, or the schedule is paused after its failures."""
        state.ended(outcomes)
        limit = state.schedule.pause_on_failure
        if limit and state.failures_in_a_row >= limit and not state.paused:
            state.pause(f"paused after {state.failures_in_a_row} failures in a row")
            self._notes.add(log.warning, "schedule paused", state.name, failures=state.failures_in_a_row)
        elif state.buffered and not state.paused and state.last_runs[0].outcome:
            due, state.buffered = state.buffered, None
            return self._made(state, [due])
        return []

    def _made(self, state: State, runs: list[datetime]) -> list[NewJob]:
        """The runs of these due moments; or the schedule is set aside, if they cannot be made."""
        try:
            jobs = [manage.new_run(self.connection, state, self.catalog, self.settings, due) for due in runs]
        except JoblineError as error:
            state.set_aside(error.detail)
            self._notes.add(log.error, "a schedule cannot run, and is set aside", state.name, reason=error.detail)
            return []
        for job, due in zip(jobs, runs, strict=True):
            self._notes.add(log.info, "schedule ran", state.name, job_id=job.id, due=due.isoformat())
        return jobs

    def _outcomes(self, job_ids: list[str]) -> dict[str, str]:
        """Their states; "finished" for one that is kept no longer: failed ones are."""
        with self.connection.pipeline(transaction=False) as pipeline:
            for job_id in job_ids:
                pipeline.hget(job_key(job_id), "status")
            found: list[Any] = pipeline.execute(raise_on_error=False)
        said = [status.decode() if isinstance(status, bytes) else "finished" for status in found]
        return dict(zip(job_ids, said, strict=True))


def _is_ours(entry: bytes) -> bool:
    text = entry.decode(errors="replace")
    return text.startswith(PREFIX) and NAME.fullmatch(text.removeprefix(PREFIX)) is not None
