"""Operations of users on schedules: put, pause, resume, trigger and delete, with the checks they need."""

from datetime import datetime
from typing import Any

import redis
from redis.client import Pipeline

from app.catalog.catalog import Catalog
from app.catalog.fields import SCHEDULE_ID_PREFIX
from app.enqueue import new_job, queue_limit
from app.enqueue.new_job import NewJob
from app.errors import Conflict, JoblineError, NotFound
from app.schedules import store
from app.schedules.rule import Schedule, When
from app.schedules.state import State
from app.schedules.store import StoredState
from app.serializer import text_of, utc
from app.settings import Settings


def put(
    connection: redis.Redis, catalog: Catalog, settings: Settings, schedule: Schedule, now: datetime, declared: bool
) -> bool:
    """Create or replace a schedule. Returns whether it is new. Unchanged timing continues where it was.

    Raises:
        Invalid: the function is unknown, or the arguments do not fit.
        Conflict: it is declared in scheduler.py, or there would be too many queues.
    """
    placeholder = placeholder_job(schedule, catalog, settings)
    queue_limit.check(connection, [placeholder])

    def update(states: dict[str, StoredState], pipeline: Pipeline) -> bool:
        stored = states[schedule.name]
        state = stored if isinstance(stored, State) else None
        if state and state.declared and not declared:
            raise Conflict(f"Schedule {schedule.name!r} is declared in scheduler.py")
        new = replaced(state, schedule, now, declared)
        if new:
            store.write(pipeline, [new], placeholders=[placeholder])
        return stored is None

    return store.transact(connection, [schedule.name], update)


def replaced(state: State | None, schedule: Schedule, now: datetime, declared: bool) -> State | None:
    """Return the state that a put leads to; None if nothing changes. A pause survives a changed declaration."""
    same_timing, paused = False, ""
    if state is None:
        state = State(schedule=schedule)
    elif state.schedule == schedule and state.declared == declared and not state.broken:
        return None
    else:
        same_timing = _timing_fields(state.schedule) == _timing_fields(schedule) and state.due is not None
        paused = state.paused if declared and state.schedule.paused == schedule.paused else ""
    state.schedule, state.declared = schedule, declared
    if not same_timing:
        state.first = None
        state.resume(now)
    if schedule.paused or paused:
        state.pause(paused or "by its definition")
    return state


def delete(connection: redis.Redis, name: str) -> None:
    """Delete a schedule, but not the runs it has made. Raises NotFound, and Conflict if it is declared."""

    def update(states: dict[str, StoredState], pipeline: Pipeline) -> None:
        state = states[name]
        if state is None:
            raise NotFound(f"No schedule {name!r}")
        if isinstance(state, State) and state.declared:
            raise Conflict(f"Schedule {name!r} is declared in scheduler.py")
        store.erase(pipeline, name)

    store.transact(connection, [name], update)


def pause(connection: redis.Redis, name: str) -> None:
    """Raises NotFound."""
    store.change(connection, name, lambda state: None if state.paused else state.pause("on request"))


def resume(connection: redis.Redis, name: str, now: datetime) -> None:
    """Raises NotFound."""
    store.change(connection, name, lambda state: state.resume(now) if state.paused or state.broken else None)


def trigger(connection: redis.Redis, name: str, catalog: Catalog, settings: Settings, now: datetime) -> str:
    """Run a schedule now, even if it is paused or its last run has not ended. Returns the job's id.

    Raises:
        NotFound, Invalid
    """
    runs: list[NewJob] = []

    def update(state: State) -> list[NewJob]:
        if runs and any(run.job_id == runs[0].id for run in state.last_runs):
            return []  # the transaction was committed and its reply lost
        runs[:] = [new_run(connection, state, catalog, settings, now)]
        return runs

    store.change(connection, name, update)
    return runs[0].id


def new_run(connection: redis.Redis, state: State, catalog: Catalog, settings: Settings, due: datetime) -> NewJob:
    """Make the job of a run, and add it to the state. Raises Invalid, NotFound, TooLarge; Conflict: too many queues."""
    schedule = state.schedule
    function = catalog.get(schedule.function)
    meta = {"schedule": schedule.name, "scheduled_for": utc(due)}
    job = new_job.prepare(
        function, settings, schedule.args, schedule.kwargs, meta=meta, source="schedule", **_job_options(schedule)
    )
    queue_limit.check(connection, [job])
    state.add_run(job.id, due)
    return job


def placeholder_job(schedule: Schedule, catalog: Catalog, settings: Settings) -> NewJob:
    """Make the job that shows a schedule in rq-scheduler's tools. It never runs.

    Raises:
        Invalid: the function is unknown, or the arguments do not fit.
    """
    function = catalog.get_requested(schedule.function, "#/function")
    function.check(schedule.args, schedule.kwargs)
    options = _job_options(schedule)
    return new_job.prepare(
        function, settings, schedule.args, schedule.kwargs, id=SCHEDULE_ID_PREFIX + schedule.name, **options
    )


def placeholder_or_reason(schedule: Schedule, catalog: Catalog, settings: Settings) -> NewJob | str:
    """Like `placeholder_job`, but return the reason if the schedule cannot run."""
    try:
        return placeholder_job(schedule, catalog, settings)
    except JoblineError as error:
        return "; ".join(item["detail"] for item in error.errors or []) or error.detail
    except Exception as error:  # an author's types and values can raise anything
        return f"{type(error).__name__}: {text_of(error)}"


def _job_options(schedule: Schedule) -> dict[str, Any]:
    retry = schedule.retry.as_retry() if schedule.retry else None
    return {
        "queue": schedule.queue,
        "timeout": schedule.timeout,
        "retry": retry,
        "description": schedule.description,
    }


def _timing_fields(schedule: Schedule) -> dict[str, Any]:
    return {name: getattr(schedule, name) for name in When.model_fields}
