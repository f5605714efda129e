"""Run due schedules: enqueue their runs, record runs that ended, and set aside schedules that cannot run.

A schedule and its run change in one transaction. It commits only while this scheduler holds the lease and the due
moment is still the one that was read. So each due moment runs once, however many schedulers there are and whenever one
dies.
"""

from collections.abc import Callable
from datetime import datetime
from functools import partial

import redis
import structlog
from redis.client import Pipeline

from app.catalog.catalog import Catalog
from app.catalog.fields import SCHEDULE_ID_PREFIX
from app.enqueue.new_job import NewJob
from app.errors import JoblineError
from app.redis.client import batches
from app.redis.errors import execute_each
from app.redis.keys import OPEN_RUNS, job_key
from app.schedules import manage, store
from app.schedules.lease import Lease
from app.schedules.plan import plan
from app.schedules.rule import NAME
from app.schedules.state import State
from app.schedules.store import BATCH_SIZE, DUE_SCHEDULES
from app.settings import Settings
from app.states import ENDED

OPEN_RUNS_SCAN_COUNT = 1000  # runs checked per pass, about

log = structlog.get_logger("jobline.scheduler")


class Runner:
    """Runs due schedules, for the leading scheduler."""

    def __init__(self, connection: redis.Redis, settings: Settings, catalog: Catalog, lease: Lease) -> None:
        self.connection, self.settings, self.catalog, self.lease = connection, settings, catalog, lease
        self._open_cursor = 0
        self._log = store.TransactionLog()

    def run_due(self, now: datetime) -> tuple[int, float | None]:
        """Run up to BATCH_SIZE due schedules. Returns their number, and when the next is due, in seconds since 1970.

        Raises:
            LeaseLost, redis.RedisError
        """
        entries = self.connection.zrange(
            DUE_SCHEDULES, "-inf", now.timestamp(), byscore=True, offset=0, num=BATCH_SIZE, withscores=True
        )
        names: list[str] = []
        for entry, score in entries:
            text = entry.decode(errors="replace")
            name = text.removeprefix(SCHEDULE_ID_PREFIX)
            if name != text and NAME.fullmatch(name):
                names.append(name)
            else:
                store.quarantine(self.connection, entry, score, "not a schedule of Jobline: it is not run")
                log.error("a foreign entry among the schedules is set aside", entry=text)
        if names:
            self._transact(names, partial(self._advance, now=now))
        following = self.connection.zrange(DUE_SCHEDULES, 0, 0, withscores=True)
        return len(entries), following[0][1] if following else None

    def close_ended_runs(self) -> None:
        """Record the outcome of runs that have ended. Each call checks the next part of the open runs.

        Raises:
            LeaseLost, redis.RedisError
        """
        self._open_cursor, open_runs = self.connection.hscan(OPEN_RUNS, self._open_cursor, count=OPEN_RUNS_SCAN_COUNT)
        schedule_of = {job_id.decode(): name.decode() for job_id, name in open_runs.items()}
        ended: dict[str, dict[str, str]] = {}
        for job_id, status in self._statuses(list(schedule_of)).items():
            if status in ENDED:
                ended.setdefault(schedule_of[job_id], {})[job_id] = status
        for batch in batches(ended, BATCH_SIZE):
            self._transact(batch, partial(self._close, ended={name: ended[name] for name in batch}))

    def _close(self, states: dict[str, State], pipeline: Pipeline, ended: dict[str, dict[str, str]]) -> None:
        pipeline.hdel(OPEN_RUNS, *(job_id for outcomes in ended.values() for job_id in outcomes))
        runs = [run for state in states.values() for run in self._record_outcomes(state, ended[state.name])]
        store.write(pipeline, list(states.values()), runs)

    def _transact(self, names: list[str], update: Callable[[dict[str, State], Pipeline], None]) -> None:
        """Call `update` in a transaction with the readable schedules. Unreadable ones are set aside."""

        def update_readable(stored: dict[str, store.StoredState], pipeline: Pipeline) -> None:
            states: dict[str, State] = {}
            for name, state in stored.items():
                if isinstance(state, State):
                    states[name] = state
                else:
                    pipeline.zrem(DUE_SCHEDULES, SCHEDULE_ID_PREFIX + name)
                    self._log.add(log.error, "a schedule cannot be read, and is set aside", name, reason=str(state))
            update(states, pipeline)

        store.transact(self.connection, names, update_readable, self.lease, self._log)

    def _advance(self, states: dict[str, State], pipeline: Pipeline, now: datetime) -> None:
        statuses = self._statuses([state.last_runs[0].job_id for state in states.values() if state.last_runs])
        runs: list[NewJob] = []
        for state in states.values():
            if state.due and state.schedule.jittered(state.due) <= now.timestamp():
                busy = bool(state.last_runs) and statuses[state.last_runs[0].job_id] not in ENDED
                runs += self._due_runs(state, now, busy)
        store.write(pipeline, list(states.values()), runs)

    def _due_runs(self, state: State, now: datetime, busy: bool) -> list[NewJob]:
        made = plan(state, now, busy)
        state.due, state.buffered = made.due, made.buffered
        state.skips += made.skips
        state.misses += made.misses
        if made.misses:
            self._log.add(log.warning, "runs were missed", state.name, misses=made.misses)
        return self._new_runs(state, made.runs)

    def _record_outcomes(self, state: State, outcomes: dict[str, str]) -> list[NewJob]:
        """Record how runs ended. Then pause the schedule after repeated failures, or start the buffered run."""
        state.record_outcomes(outcomes)
        limit = state.schedule.pause_on_failure
        if limit and state.failures_in_a_row >= limit and not state.paused:
            state.pause(f"paused after {state.failures_in_a_row} failures in a row")
            self._log.add(log.warning, "schedule paused", state.name, failures=state.failures_in_a_row)
        elif state.buffered and not state.paused and state.last_runs[0].outcome:
            due, state.buffered = state.buffered, None
            return self._new_runs(state, [due])
        return []

    def _new_runs(self, state: State, moments: list[datetime]) -> list[NewJob]:
        """Make the runs of these due moments. If that fails, set the schedule aside and return none."""
        try:
            jobs = [manage.new_run(self.connection, state, self.catalog, self.settings, due) for due in moments]
        except JoblineError as error:
            state.set_aside(error.detail)
            self._log.add(log.error, "a schedule cannot run, and is set aside", state.name, reason=error.detail)
            return []
        for job, due in zip(jobs, moments, strict=True):
            self._log.add(log.info, "schedule ran", state.name, job_id=job.id, due=due.isoformat())
        return jobs

    def _statuses(self, job_ids: list[str]) -> dict[str, str]:
        """Return the status of jobs; "finished" for one that has expired, since failed jobs are kept longer."""
        with self.connection.pipeline(transaction=False) as pipeline:
            for job_id in job_ids:
                pipeline.hget(job_key(job_id), "status")
            replies = execute_each(pipeline)
        statuses = [reply.decode() if isinstance(reply, bytes) else "finished" for reply in replies]
        return dict(zip(job_ids, statuses, strict=True))
