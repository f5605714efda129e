"""What users do with schedules: put, pause, resume, trigger, delete; and what is checked when one is put."""

from datetime import datetime
from typing import Any

import redis
from redis.client import Pipeline

from app.catalog.catalog import Catalog
from app.enqueue import new_job, queue_limit
from app.enqueue.new_job import NewJob
from app.errors import Conflict, JoblineError, NotFound
from app.schedules import store
from app.schedules.rule import Schedule, When
from app.schedules.state import State
from app.schedules.store import ENTRY_PREFIX, StoredState
from app.serializer import text_of, utc
from app.settings import Settings


def put(
    connection: redis.Redis, catalog: Catalog, settings: Settings, schedule: Schedule, now: datetime, declared: bool
) -> bool:
    """Make or replace a schedule; whether it is new. What stays the same in it goes on as it was.

    Raises:
        Invalid: the function is unknown, or the arguments do not fit.
        Conflict: it is declared in scheduler.py, or there would be too many queues.
    """
    shown = placeholder_job(schedule, catalog, settings)
    queue_limit.check(connection, [shown])

    def put_it(found: dict[str, StoredState], pipeline: Pipeline) -> bool:
        state = found[schedule.name]
        known = state if isinstance(state, State) else None
        if known and known.declared and not declared:
            raise Conflict(f"Schedule {schedule.name!r} is declared in scheduler.py")
        new = changed(known, schedule, now, declared)
        if new:
            store.write(pipeline, [new], shown=[shown])
        return state is None

    return store.transact(connection, [schedule.name], put_it)


def changed(state: State | None, schedule: Schedule, now: datetime, declared: bool) -> State | None:
    """What becomes of a schedule that is put; None: it is there already. A pause outlives what is declared anew."""
    if state is None:
        found, goes_on, paused = State(schedule=schedule), False, ""
    elif state.schedule == schedule and state.declared == declared and not state.broken:
        return None
    else:
        found, goes_on = state, _when(state.schedule) == _when(schedule) and state.due is not None
        paused = state.paused if declared and state.schedule.paused == schedule.paused else ""
    found.schedule, found.declared = schedule, declared
    if not goes_on:
        found.first = None
        found.resume(now)
    if schedule.paused or paused:
        found.pause(paused or "as it is said")
    return found


def delete(connection: redis.Redis, name: str) -> None:
    """Not the runs that it has made. Raises NotFound; Conflict: it is declared."""

    def erase(found: dict[str, StoredState], pipeline: Pipeline) -> None:
        state = found[name]
        if state is None:
            raise NotFound(f"No schedule {name!r}")
        if isinstance(state, State) and state.declared:
            raise Conflict(f"Schedule {name!r} is declared in scheduler.py")
        store.erase(pipeline, name)

    store.transact(connection, [name], erase)


def pause(connection: redis.Redis, name: str) -> None:
    """Raises NotFound."""
    store.change(connection, name, lambda state: None if state.paused else state.pause("on request"))


def resume(connection: redis.Redis, name: str, now: datetime) -> None:
    """Raises NotFound."""
    store.change(connection, name, lambda state: state.resume(now) if state.paused or state.broken else None)


def trigger(connection: redis.Redis, name: str, catalog: Catalog, settings: Settings, now: datetime) -> str:
    """Run it now, whatever its clock says and its last run does; the job's id. Raises NotFound, Invalid."""

    made: list[NewJob] = []

    def run(state: State) -> list[NewJob]:
        if made and any(run.job_id == made[0].id for run in state.last_runs):
            return []  # the transaction had held, and its answer was lost
        made[:] = [new_run(connection, state, catalog, settings, now)]
        return made

    store.change(connection, name, run)
    return made[0].id


def new_run(connection: redis.Redis, state: State, catalog: Catalog, settings: Settings, due: datetime) -> NewJob:
    """A fresh job, and the state remembers it. Raises Invalid, NotFound, TooLarge; Conflict: too many queues."""
    schedule = state.schedule
    function = catalog.get(schedule.function)
    meta = {"schedule": schedule.name, "scheduled_for": utc(due)}
    job = new_job.prepare(function, settings, schedule.args, schedule.kwargs, meta=meta, **_said(schedule))
    queue_limit.check(connection, [job])
    state.ran(job.id, due)
    return job


def placeholder_job(schedule: Schedule, catalog: Catalog, settings: Settings) -> NewJob:
    """The job by which rq-scheduler's tools see a schedule; it never runs.

    Raises:
        Invalid: the function is unknown, or the arguments do not fit.
    """
    function = catalog.wanted(schedule.function, "#/function")
    function.check(schedule.args, schedule.kwargs)
    return new_job.prepare(
        function, settings, schedule.args, schedule.kwargs, id=ENTRY_PREFIX + schedule.name, **_said(schedule)
    )


def placeholder_or_error(schedule: Schedule, catalog: Catalog, settings: Settings) -> NewJob | str:
    """As `placeholder_job`, or why it could not run."""
    try:
        return placeholder_job(schedule, catalog, settings)
    except JoblineError as error:
        return "; ".join(item["detail"] for item in error.errors or []) or error.detail
    except Exception as error:  # an author's types and values: anything can go wrong in them
        return f"{type(error).__name__}: {text_of(error)}"


def _said(schedule: Schedule) -> dict[str, Any]:
    retry = schedule.retry.as_retry() if schedule.retry else None
    return {
        "queue": schedule.queue,
        "timeout": schedule.timeout,
        "retry": retry,
        "description": schedule.description,
    }


def _when(schedule: Schedule) -> dict[str, Any]:
    return {name: getattr(schedule, name) for name in When.model_fields}
