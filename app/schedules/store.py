"""Schedules in Redis: a hash each, and an entry in rq-scheduler's sorted set with the time of the next run.

Every change is one optimistic transaction on what was read. It is repeated if another client changed that meanwhile.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

import orjson
import redis
from redis.client import Pipeline
from rq_scheduler import Scheduler as RQScheduler

from app.catalog.fields import SCHEDULE_ID_PREFIX
from app.enqueue.new_job import NewJob
from app.enqueue.write import add as add_jobs
from app.errors import BadRequest, Conflict, NotFound
from app.redis.client import rq_timestamp
from app.redis.errors import execute_each
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

DUE_SCHEDULES = RQScheduler.scheduled_jobs_key
BATCH_SIZE = 100
"""Schedules per transaction."""
MAX_WATCHED = 1000
"""Schedules that metrics and alerts look at."""
NEW_JOB_FIELDS = dict.fromkeys(
    (
        "success_callback_name", "failure_callback_name", "stopped_callback_name", "started_at", "ended_at",
        "last_heartbeat", "worker_name", "group_id",
    ),
    "",
)  # fmt: skip
"""Fields that RQ writes empty for every new job."""

Result = TypeVar("Result")
StoredState = State | Unreadable | None


def get(connection: redis.Redis, name: str) -> State:
    """Return a schedule. Raises NotFound, and Conflict if it is unreadable."""
    state = read(connection, [name])[name]
    if state is None:
        for entry in rejected(connection):
            if entry["name"] == name:
                raise NotFound(f"Schedule {name!r} is set aside: {entry['reason']}")
    return _readable(name, state)


def read(connection: redis.Redis, names: Sequence[str]) -> dict[str, StoredState]:
    """Read schedules by name. The value is None if a schedule does not exist."""
    with connection.pipeline(transaction=False) as pipeline:
        for name in names:
            pipeline.hgetall(schedule_key(name))
        replies = execute_each(pipeline)
    return {name: _parse(name, reply) for name, reply in zip(names, replies, strict=True)}


def _parse(name: str, reply: Any) -> StoredState:
    if isinstance(reply, redis.ResponseError):
        return Unreadable(str(reply))
    if not reply:
        return None if NAME.fullmatch(name) else Unreadable(f"a name matches {NAME.pattern}")
    try:
        return State.parse(name, reply)
    except Unreadable as error:
        return error


def _readable(name: str, state: StoredState) -> State:
    if state is None:
        raise NotFound(f"No schedule {name!r}")
    if isinstance(state, Unreadable):
        raise Conflict(f"Schedule {name!r} cannot be read: {state}")
    return state


def names(connection: redis.Redis, after: str = "", limit: int = BATCH_SIZE) -> list[str]:
    """Return up to `limit` names of schedules, in order, that follow `after`.

    They are decoded as Latin-1: names of schedules are ASCII, foreign entries may be anything.

    Raises:
        BadRequest: `after` cannot be a name.
    """
    try:
        first = b"(" + after.encode("latin-1") if after else b"-"
    except UnicodeEncodeError:
        raise BadRequest("The cursor is invalid") from None
    return [name.decode("latin-1") for name in connection.zrangebylex(SCHEDULES, first, b"+", 0, limit)]


def watched(connection: redis.Redis) -> list[State]:
    """The first MAX_WATCHED readable schedules, for metrics and alerts."""
    found = read(connection, names(connection, limit=MAX_WATCHED)).values()
    return [state for state in found if isinstance(state, State)]


def all_names(connection: redis.Redis) -> Iterator[str]:
    after = ""
    while page := names(connection, after):
        yield from page
        after = page[-1]


class TransactionLog:
    """Log events of a transaction. They are written once it is committed."""

    def __init__(self) -> None:
        self._events: list[Callable[[], None]] = []

    def add(self, level: Callable[..., None], event: str, name: str, **fields: object) -> None:
        self._events.append(partial(level, event, schedule=name, **fields))

    def clear(self) -> None:
        self._events.clear()

    def flush(self) -> None:
        for event in self._events:
            event()
        self.clear()


def transact(
    connection: redis.Redis,
    names: Sequence[str],
    update: Callable[[dict[str, StoredState], Pipeline], Result],
    lease: Lease | None = None,
    log: TransactionLog | None = None,
) -> Result:
    """Change schedules in one transaction: every change goes through here.

    `update` gets the stored schedules by name and the pipeline to write to. It is called again if another client
    changed one of them meanwhile, and aborts the transaction by raising. It adds its log events to `log`.

    Raises:
        LeaseLost: `lease` is given, and another scheduler holds it.
        redis.RedisError
    """
    log = log or TransactionLog()

    def attempt(pipeline: Pipeline) -> Result:
        if lease:
            lease.check(pipeline)
        log.clear()
        states = read(connection, names)
        pipeline.multi()
        result = update(states, pipeline)
        if lease is None:
            pipeline.publish(SCHEDULER_WAKE, "")
        return result

    watched = [*([lease.key] if lease else []), *(schedule_key(name) for name in names)]
    result: Result = connection.transaction(attempt, *watched, value_from_callable=True)
    log.flush()
    return result


def change(connection: redis.Redis, name: str, update: Callable[[State], Sequence[NewJob] | None]) -> None:
    """Change one existing schedule: `update` changes its state and returns runs to enqueue. Raises as `get` does."""

    def update_one(states: dict[str, StoredState], pipeline: Pipeline) -> None:
        state = _readable(name, states[name])
        runs = update(state)
        write(pipeline, [state], runs or ())

    transact(connection, [name], update_one)


def write(
    pipeline: Pipeline, states: Sequence[State], runs: Sequence[NewJob] = (), placeholders: Sequence[NewJob] = ()
) -> None:
    """Write schedules with their entries, enqueue runs, and write the placeholder jobs of rq-scheduler's tools."""
    for state in states:
        pipeline.hset(schedule_key(state.name), mapping=state.to_hash())
    for job in placeholders:
        fixed = {"created_at": rq_timestamp(job.created_at), "status": "scheduled"}
        pipeline.hset(job_key(job.id), mapping={**NEW_JOB_FIELDS, **fixed, **job.fields()})
    add_jobs(pipeline, runs)
    due = {SCHEDULE_ID_PREFIX + state.name: state.schedule.jittered(state.due) for state in states if state.due}
    not_due = [SCHEDULE_ID_PREFIX + state.name for state in states if not state.due]
    if states:
        pipeline.zadd(SCHEDULES, {state.name: 0 for state in states})
    broken = {state.name: state.broken for state in states if state.broken}
    recovered = [state.name for state in states if state.recovered and not state.broken]
    if broken:
        pipeline.hset(BROKEN_SCHEDULES, mapping=broken)
    if recovered:
        pipeline.hdel(BROKEN_SCHEDULES, *recovered)
    if due:
        pipeline.zadd(DUE_SCHEDULES, due)
    if not_due:
        pipeline.zrem(DUE_SCHEDULES, *not_due)
    if runs:
        pipeline.hset(OPEN_RUNS, mapping={job.id: job.meta["schedule"] for job in runs})


def erase(pipeline: Pipeline, name: str) -> None:
    """Delete a schedule, but not the runs it has made."""
    pipeline.zrem(DUE_SCHEDULES, SCHEDULE_ID_PREFIX + name)
    pipeline.zrem(SCHEDULES, name)
    pipeline.hdel(BROKEN_SCHEDULES, name)
    pipeline.delete(schedule_key(name), job_key(SCHEDULE_ID_PREFIX + name))


def write_rejected(pipeline: Pipeline, entries: Sequence[dict[str, Any]]) -> None:
    """Replace the list of invalid entries in scheduler.py: [{name, function, reason}]."""
    if entries:
        pipeline.set(REJECTED_SCHEDULES, orjson.dumps(entries))
    else:
        pipeline.delete(REJECTED_SCHEDULES)


def rejected(connection: redis.Redis) -> list[dict[str, Any]]:
    """Return the list of invalid entries in scheduler.py; an empty one if it cannot be read."""
    try:
        entries = JSON.loads(connection.get(REJECTED_SCHEDULES) or b"[]")
        return [{name: entry[name] for name in ("name", "function", "reason")} for entry in entries]
    except (ValueError, TypeError, KeyError):
        return []


def unrunnable(connection: redis.Redis) -> dict[str, str]:
    """Return the schedules that cannot run, stored or declared, as name and reason."""
    broken = connection.hgetall(BROKEN_SCHEDULES).items()
    reasons = {name.decode(errors="replace"): reason.decode(errors="replace") for name, reason in broken}
    return {**reasons, **{entry["name"]: entry["reason"] for entry in rejected(connection)}}


def quarantine(connection: redis.Redis, entry: bytes, due: float, reason: str) -> None:
    """Move a foreign entry out of rq-scheduler's set, where it would block others. Its job is left as it is."""
    with connection.pipeline() as pipeline:
        pipeline.zrem(DUE_SCHEDULES, entry)
        pipeline.hset(QUARANTINED, entry, orjson.dumps({"reason": reason, "due": due}))
        pipeline.execute()


def quarantined(connection: redis.Redis) -> list[dict[str, Any]]:
    """Return the quarantined entries: [{id, reason, due}]."""
    entries = connection.hgetall(QUARANTINED)
    return [{"id": entry.decode(errors="replace"), **_quarantine_record(raw)} for entry, raw in sorted(entries.items())]


def _quarantine_record(raw: bytes) -> dict[str, Any]:
    try:
        record = JSON.loads(raw)
        return {"reason": str(record["reason"]), "due": float(record["due"])}
    except (ValueError, TypeError, KeyError):
        return {"reason": "its record cannot be read", "due": 0.0}
