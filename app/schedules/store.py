"""Schedules as Redis holds them: a hash each, and in rq-scheduler's set an entry that says when it is due next.

Every change is one transaction that starts from what was read: it is done again when somebody else was faster.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

import orjson
import redis
from redis.client import Pipeline
from redis.exceptions import WatchError
from rq_scheduler import Scheduler as RQScheduler

from app.enqueue.new_job import NewJob
from app.enqueue.write import add as add_jobs
from app.errors import BadRequest, Conflict, NotFound
from app.redis.client import rq_timestamp
from app.redis.keys import (
    BROKEN_SCHEDULES,
    OPEN_RUNS,
    QUARANTINED,
    REJECTED_SCHEDULES,
    SCHEDULER_WAKE,
    SCHEDULES,
    job_key,
    schedule_key,
)
from app.schedules.lease import Lease
from app.schedules.rule import NAME
from app.schedules.state import State, Unreadable
from app.serializer import JSON

ALARMS = RQScheduler.scheduled_jobs_key
PREFIX = "schedule-"
"""Of the id of a schedule's entry, and of the job that shows it to rq-scheduler's tools."""
BATCH = 100
"""Schedules in one transaction."""
BLANK = dict.fromkeys(
    (
        "success_callback_name", "failure_callback_name", "stopped_callback_name", "started_at", "ended_at",
        "last_heartbeat", "worker_name", "group_id",
    ),
    "",
)  # fmt: skip
"""What RQ writes of any new job."""

Answer = TypeVar("Answer")
Found = State | Unreadable | None


def get(connection: redis.Redis, name: str) -> State:
    """Raises NotFound; Conflict if it is unreadable."""
    found = read(connection, [name])[name]
    if found is None and (why := {one["name"]: one["reason"] for one in rejected(connection)}.get(name)):
        raise NotFound(f"Schedule {name!r} is set aside: {why}")
    return _there(name, found)


def read(connection: redis.Redis, names: Sequence[str]) -> dict[str, Found]:
    """Each name's; None if there is none."""
    with connection.pipeline(transaction=False) as pipeline:
        for name in names:
            pipeline.hgetall(schedule_key(name))
        answers = pipeline.execute(raise_on_error=False)
    return {name: _state(name, answer) for name, answer in zip(names, answers, strict=True)}


def _state(name: str, answer: Any) -> Found:
    if isinstance(answer, redis.ConnectionError):
        raise answer
    if isinstance(answer, redis.ResponseError):
        return Unreadable(str(answer))
    if not answer:
        return None if NAME.fullmatch(name) else Unreadable(f"a name is {NAME.pattern}")
    try:
        return State.of(name, answer)
    except Unreadable as error:
        return error


def _there(name: str, found: Found) -> State:
    if found is None:
        raise NotFound(f"No schedule {name!r}")
    if isinstance(found, Unreadable):
        raise Conflict(f"Schedule {name!r} cannot be read: {found}")
    return found


def names(connection: redis.Redis, after: str = "", limit: int = BATCH) -> list[str]:
    """Up to `limit` names of schedules that follow `after`, in Latin-1: they are ASCII, but for what is none of ours.

    Raises:
        BadRequest: `after` is no name.
    """
    try:
        first = b"(" + after.encode("latin-1") if after else b"-"
    except UnicodeEncodeError:
        raise BadRequest("The cursor is not one of ours") from None
    return [name.decode("latin-1") for name in connection.zrangebylex(SCHEDULES, first, b"+", 0, limit)]


def all_names(connection: redis.Redis) -> Iterator[str]:
    after = ""
    while found := names(connection, after):
        yield from found
        after = found[-1]


class Notes:
    """What is logged of a transaction once it has held."""

    def __init__(self) -> None:
        self._notes: list[Callable[[], None]] = []

    def add(self, level: Callable[..., None], event: str, name: str, **about: object) -> None:
        self._notes.append(partial(level, event, schedule=name, **about))

    def clear(self) -> None:
        self._notes.clear()

    def tell(self) -> None:
        for note in self._notes:
            note()
        self.clear()


def transact(
    connection: redis.Redis,
    names: Sequence[str],
    how: Callable[[dict[str, Found], Pipeline], Answer],
    lease: Lease | None = None,
    notes: Notes | None = None,
) -> Answer:
    """The one way to change schedules: `how` gets what is there, may raise, and writes into the transaction.

    `notes` are those that it makes.

    Raises:
        LeaseLost: a lease is given, and is not ours at the end.
        redis.RedisError
    """
    while True:
        with connection.pipeline() as pipeline:
            pipeline.watch(*([lease.key] if lease else []), *(schedule_key(name) for name in names))
            if lease:
                lease.check(pipeline)
            found = read(connection, names)
            notes = notes or Notes()
            notes.clear()
            pipeline.multi()
            answer = how(found, pipeline)
            if lease is None:
                pipeline.publish(SCHEDULER_WAKE, "")
            try:
                pipeline.execute()
            except WatchError:
                continue
            notes.tell()
            return answer


def change(connection: redis.Redis, name: str, how: Callable[[State], Sequence[NewJob] | None]) -> None:
    """One schedule that is there: `how` changes it, and returns runs to queue. Raises as `get`."""

    def change_it(found: dict[str, Found], pipeline: Pipeline) -> None:
        state = _there(name, found[name])
        runs = how(state)
        write(pipeline, [state], runs or ())

    transact(connection, [name], change_it)


def write(
    pipeline: Pipeline, states: Sequence[State], runs: Sequence[NewJob] = (), shown: Sequence[NewJob] = ()
) -> None:
    """Schedules with their alarms, runs of theirs, and the jobs that show them to rq-scheduler's tools."""
    for state in states:
        pipeline.hset(schedule_key(state.name), mapping=state.hash())
    for job in shown:
        fixed = {"created_at": rq_timestamp(job.created_at), "status": "scheduled"}
        pipeline.hset(job_key(job.id), mapping={**BLANK, **fixed, **job.fields()})
    add_jobs(pipeline, runs)
    alarms = {PREFIX + state.name: state.schedule.jittered(state.due) for state in states if state.due}
    silent = [PREFIX + state.name for state in states if not state.due]
    if states:
        pipeline.zadd(SCHEDULES, {state.name: 0 for state in states})
    broken = {state.name: state.broken for state in states if state.broken}
    mended = [state.name for state in states if state.mended and not state.broken]
    if broken:
        pipeline.hset(BROKEN_SCHEDULES, mapping=broken)
    if mended:
        pipeline.hdel(BROKEN_SCHEDULES, *mended)
    if alarms:
        pipeline.zadd(ALARMS, alarms)
    if silent:
        pipeline.zrem(ALARMS, *silent)
    if runs:
        pipeline.hset(OPEN_RUNS, mapping={job.id: job.meta["schedule"] for job in runs})


def erase(pipeline: Pipeline, name: str) -> None:
    """A schedule, and not the runs that it has made."""
    pipeline.zrem(ALARMS, PREFIX + name)
    pipeline.zrem(SCHEDULES, name)
    pipeline.hdel(BROKEN_SCHEDULES, name)
    pipeline.delete(schedule_key(name), job_key(PREFIX + name))


def write_rejected(pipeline: Pipeline, entries: Sequence[dict[str, Any]]) -> None:
    """All entries that scheduler.py declares and that are no schedules: [{name, function, reason}]."""
    if entries:
        pipeline.set(REJECTED_SCHEDULES, orjson.dumps(entries))
    else:
        pipeline.delete(REJECTED_SCHEDULES)


def rejected(connection: redis.Redis) -> list[dict[str, Any]]:
    """As they were written; none if that cannot be read."""
    try:
        found = JSON.loads(connection.get(REJECTED_SCHEDULES) or b"[]")
        return [{name: entry[name] for name in ("name", "function", "reason")} for entry in found]
    except (ValueError, TypeError, KeyError):
        return []


def set_aside(connection: redis.Redis) -> dict[str, str]:
    """Why schedules do not run that are kept, or declared, by name."""
    found = connection.hgetall(BROKEN_SCHEDULES).items()
    broken = {name.decode(errors="replace"): why.decode(errors="replace") for name, why in found}
    return {**broken, **{one["name"]: one["reason"] for one in rejected(connection)}}


def quarantine(connection: redis.Redis, entry: bytes, due: float, why: str) -> None:
    """Take an entry out of rq-scheduler's set that would stop others; what it names is left as it is."""
    with connection.pipeline() as pipeline:
        pipeline.zrem(ALARMS, entry)
        pipeline.hset(QUARANTINED, entry, orjson.dumps({"reason": why, "due": due}))
        pipeline.execute()


def quarantined(connection: redis.Redis) -> list[dict[str, Any]]:
    """[{id, reason, due}]"""
    found = connection.hgetall(QUARANTINED)
    return [{"id": entry.decode(errors="replace"), **_why_and_due(said)} for entry, said in sorted(found.items())]


def _why_and_due(said: bytes) -> dict[str, Any]:
    try:
        found = JSON.loads(said)
        return {"reason": str(found["reason"]), "due": float(found["due"])}
    except (ValueError, TypeError, KeyError):
        return {"reason": "what is known of it cannot be read", "due": 0.0}
