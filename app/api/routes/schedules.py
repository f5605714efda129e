"""/schedules: list, get, put, delete, pause, resume, trigger, and preview of a rule."""

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from flask import Response, request

from app.api.auth import requires
from app.api.context import context, json_response, unreadable_field
from app.api.disclosure import redact
from app.api.openapi import blueprint
from app.api.schemas.jobs import JobOrReference
from app.api.schemas.schedules import Preview, PreviewBody, ScheduleBody, Schedules, SchedulesQuery
from app.api.schemas.schedules import Schedule as ScheduleAnswer
from app.api.schemas.system import NamePath
from app.errors import Invalid
from app.redis.client import now
from app.schedules import manage, store
from app.schedules.rule import NAME, Schedule, When
from app.schedules.state import State, Unreadable
from app.serializer import utc
from app.views import job_view

NEXT_RUNS = 10

api = blueprint("schedules", "schedules", "/api/v1/schedules")


@api.get("", responses={200: Schedules})
@requires("read")
def list_schedules(query: SchedulesQuery) -> Response:
    """List schedules by name.

    Also the entries of scheduler.py that are set aside, and the entries of a plain rq-scheduler, which are not run.
    """
    connection = context().redis
    names = store.names(connection, query.cursor or "", query.limit)
    entries = store.read(connection, names)
    states = [state for state in entries.values() if isinstance(state, State)]
    unreadable = [{"name": name, "reason": str(why)} for name, why in entries.items() if isinstance(why, Unreadable)]
    cursor = names[-1] if len(names) == query.limit else None
    set_aside = {
        "quarantined": store.quarantined(connection),
        "rejected": store.rejected(connection),
        **unreadable_field(unreadable),
    }
    return json_response({"schedules": _as_json(states), "next_cursor": cursor, **set_aside})


@api.post("/preview", responses={200: Preview})
@requires("read")
def preview(body: PreviewBody) -> Response:
    """Preview a rule.

    Returns what the rule means and when it would run. Nothing is stored.
    """
    return json_response(_preview(body, datetime.now(UTC), None))


@api.get("/<string:name>", responses={200: ScheduleAnswer})
@requires("read")
def get_schedule(path: NamePath) -> Response:
    """Get a schedule."""
    return _schedule_response(path.name)


@api.put("/<string:name>", responses={200: ScheduleAnswer, 201: ScheduleAnswer})
@requires("admin")
def put_schedule(path: NamePath, body: ScheduleBody) -> Response:
    """Create or replace a schedule.

    A schedule declared in scheduler.py cannot be replaced (409).
    """
    if not NAME.fullmatch(path.name):
        raise Invalid(
            "The name of the schedule is invalid", [{"detail": f"a name must match {NAME.pattern}", "pointer": "#"}]
        )
    service = context()
    schedule = Schedule(name=path.name, **dict(body))
    new = manage.put(service.redis, service.catalog, service.settings, schedule, now(service.redis), declared=False)
    return _schedule_response(path.name, 201 if new else 200)


@api.delete("/<string:name>", responses={204: None})
@requires("admin")
def delete_schedule(path: NamePath) -> Response:
    """Delete a schedule.

    Its jobs stay. A schedule declared in scheduler.py cannot be deleted (409).
    """
    manage.delete(context().redis, path.name)
    return Response(status=204)


@api.post("/<string:name>/pause", responses={200: ScheduleAnswer})
@requires("admin")
def pause(path: NamePath) -> Response:
    """Pause a schedule."""
    manage.pause(context().redis, path.name)
    return _schedule_response(path.name)


@api.post("/<string:name>/resume", responses={200: ScheduleAnswer})
@requires("admin")
def resume(path: NamePath) -> Response:
    """Resume a paused schedule.

    Runs that were due meanwhile are skipped.
    """
    manage.resume(context().redis, path.name, now(context().redis))
    return _schedule_response(path.name)


@api.post("/<string:name>/trigger", responses={202: JobOrReference})
@requires("enqueue")
def trigger(path: NamePath) -> Response:
    """Enqueue a run of a schedule now.

    The times of its other runs do not change.
    """
    service = context()
    job_id = manage.trigger(service.redis, path.name, service.catalog, service.settings, now(service.redis))
    job = job_view.fetch(service.redis, [job_id])[0]
    return json_response(job and redact(job), 202, Location=f"/api/v1/jobs/{job_id}")


def _schedule_response(name: str, status: int = 200) -> Response:
    return json_response(_as_json([store.get(context().redis, name)])[0], status, Location=request.path)


def _as_json(states: list[State]) -> list[dict[str, Any]]:
    now = datetime.now(UTC)
    open_runs = [run.job_id for state in states for run in state.last_runs if not run.outcome]
    jobs = zip(open_runs, job_view.fetch(context().redis, open_runs), strict=True)
    status_of = {job_id: job["status"] if job else "finished" for job_id, job in jobs}
    return [
        {
            **state.schedule.model_dump(mode="json"),
            **_preview(state.schedule, now, state),
            "paused": bool(state.paused),
            "reason": state.broken or state.paused or None,
            "last_runs": [
                {
                    "job_id": run.job_id,
                    "scheduled_for": utc(datetime.fromtimestamp(run.due, UTC)),
                    "status": run.outcome or status_of[run.job_id],
                }
                for run in state.last_runs
            ],
            "counts": {
                "runs": state.runs, "skips": state.skips, "misses": state.misses, "failures": state.failures,
            },
            "declared": state.declared,
        }
        for state in states
    ]  # fmt: skip


def _preview(when: When, now: datetime, state: State | None) -> dict[str, Any]:
    """The text of a rule and its next runs: of a schedule from its next due time on, else from now on."""
    first = state.first if state else when.first(now)
    due = state.due if state else when.after(now, first)
    moments: list[datetime] = []
    while due and len(moments) < NEXT_RUNS:
        moments.append(due)
        due = when.after(due, first)
    zone = ZoneInfo(when.timezone)
    next_runs = [{"utc": utc(moment), "local": moment.astimezone(zone).isoformat()} for moment in moments]
    return {"text": when.text(), "next_runs": next_runs}
