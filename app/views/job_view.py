"""Views of jobs: the JSON of the HTTP contract, read tolerantly from RQ's hashes and results.

Never runs RQ's registry clean-up, never unpickles.
"""

import re
import zlib
from base64 import b64decode
from collections.abc import Sequence
from typing import Any, Required, TypedDict

import redis

from app.catalog.catalog import function_name
from app.redis.errors import execute_each
from app.redis.hash_values import float_of, int_of, json_of, strings_of, text_of, time_of, utc_of
from app.redis.keys import job_key, registry_key, results_key
from app.serializer import JSON

SUCCESSFUL = b"1"  # rq.results.Result.Type (RQ 2.12)
FAILED = b"2"
RETRIED = b"4"
LIMITS = {"rate": "rate_limit", "slots": "concurrency", "breaker": "breaker"}
"""The kind of a limit, with which its id begins, and the option that sets it."""
OUTCOMES = {b"1": "finished", b"2": "failed", b"3": "stopped", b"4": "retried", b"5": "failed"}
MAX_ATTEMPTS_SHOWN = 100  # RQ keeps about the last ten results
EXCEPTION = re.compile(r"^(?P<type>[A-Za-z_][\w.]*)(?:: (?P<message>.*))?$", re.DOTALL)

META = {"tags": list, "progress": dict, "schedule": str, "workflow": str, "scheduled_for": str}
"""The entries of a job's meta that Jobline uses, and their types; others are ignored."""

Raw = dict[bytes, bytes]


class JobFields(TypedDict, total=False):
    """The fields of a job in the HTTP contract, without those in its meta."""

    id: Required[str]
    function: str | None
    args: list[Any]
    kwargs: dict[str, Any]
    queue: str | None
    status: str
    description: str | None
    created_at: str | None
    enqueued_at: str | None
    waiting_for: dict[str, str | None] | None
    started_at: str | None
    ended_at: str | None
    attempts: int
    retries_left: int
    result: Any
    error: dict[str, str | None] | None
    depends_on: list[str]
    timeout: int | None
    worker: str | None
    webhook: Any


NOT_STARTED = dict.fromkeys(
    (
        "id", "function", "args", "kwargs", "queue", "status", "description", "created_at", "enqueued_at",
        "scheduled_for", "waiting_for", "started_at", "ended_at", "attempts", "retries_left", "progress", "result",
        "error", "depends_on", "tags", "schedule", "workflow", "timeout", "worker", "webhook", "links",
    )
) | {"attempts": 0, "retries_left": 0}  # fmt: skip
"""Every field of a job in the HTTP contract, in order, with the value it has before the job starts."""


def fetch(connection: redis.Redis, job_ids: Sequence[str], history: bool = False) -> list[dict[str, Any] | None]:
    """Read jobs as JSON objects, in the given order; None for jobs that do not exist. Takes two round trips.

    With `history`, each job includes its stored attempts.
    """
    with connection.pipeline(transaction=False) as pipeline:
        for job_id in job_ids:
            pipeline.hgetall(job_key(job_id))
            pipeline.xrevrange(results_key(job_id), count=MAX_ATTEMPTS_SHOWN if history else 1)
        answers = execute_each(pipeline)
    pairs = [(job_id, *answers[2 * n : 2 * n + 2]) for n, job_id in enumerate(job_ids)]
    jobs = [_as_json(job_id, raw, result) for job_id, raw, result in pairs]
    if history:
        for job, (_, _, results) in zip(jobs, pairs, strict=True):
            if job:
                job["history"] = _history(job, results if isinstance(results, list) else [])
    lenient = {
        job_id for job_id, raw, _ in pairs if isinstance(raw, dict) and raw.get(b"allow_dependency_failures") == b"1"
    }
    _add_waits(connection, [job for job in jobs if job], lenient)
    return jobs


def _as_json(job_id: str, raw: Any, result: Any) -> dict[str, Any] | None:
    """A job, or None if it does not exist."""
    if isinstance(raw, redis.RedisError):
        return {**as_json(job_id, {}), "error": unreadable(f"its key holds no hash: {raw}")}
    return as_json(job_id, raw, result) if raw else None


def _add_waits(connection: redis.Redis, jobs: list[dict[str, Any]], lenient: set[str]) -> None:
    """When scheduled jobs are due, and what deferred ones wait for; `lenient`: those that may begin after a failure."""
    scheduled = [job for job in jobs if job["status"] == "scheduled"]
    deferred = [job for job in jobs if job["status"] == "deferred"]
    parents = list(dict.fromkeys(parent for job in deferred for parent in job["depends_on"]))
    if not scheduled and not parents:
        return
    with connection.pipeline(transaction=False) as pipeline:
        for job in scheduled:
            pipeline.zscore(registry_key("scheduled", job["queue"]), job["id"])
        for parent in parents:
            pipeline.hget(job_key(parent), "status")
        answers = execute_each(pipeline)
    for job, score in zip(scheduled, answers, strict=False):
        if isinstance(score, float) and (due := utc_of(score)):
            job["scheduled_for"] = due
            if job["waiting_for"] and job["waiting_for"]["reason"] != "concurrency":
                job["waiting_for"]["until"] = job["scheduled_for"]
    states = [text_of(status) if isinstance(status, bytes) else None for status in answers[len(scheduled) :]]
    statuses = dict(zip(parents, states, strict=True))
    for job in deferred:
        if job["depends_on"]:
            job["waiting_for"] = _parent_waited_for(job, statuses, job["id"] in lenient)


def _parent_waited_for(
    job: dict[str, Any], statuses: dict[str, str | None], is_lenient: bool
) -> dict[str, str | None] | None:
    """A parent that was deleted counts as finished, as in RQ 2.12, but its end queues nothing: another one's may."""
    dead = ("stopped", "canceled") if is_lenient else ("failed", "stopped", "canceled")
    waited_for = [parent for parent in job["depends_on"] if statuses[parent] not in (None, "finished", "failed")]
    never = [parent for parent in job["depends_on"] if statuses[parent] in dead]
    gone = [parent for parent in job["depends_on"] if statuses[parent] is None]
    if never or (gone and not waited_for):
        return waiting("dead_dependency", (never or gone)[0])
    return waiting("dependency", waited_for[0]) if waited_for else None


def as_json(job_id: str, raw: Raw, result: Any = ()) -> dict[str, Any]:
    """A job in the HTTP contract, from its hash and its latest result, if any."""
    function, args, kwargs, problem = _call(raw.get(b"data", b""))
    latest: Raw = result[0][1] if isinstance(result, list) and result else {}
    meta = json_of(raw.get(b"meta"))
    status = text_of(raw.get(b"status")) or "created"
    error = _error(latest) if status in ("failed", "stopped") else _reason(raw)
    fields: JobFields = {
        "id": job_id,
        "function": function,
        "args": args,
        "kwargs": kwargs,
        "queue": text_of(raw.get(b"origin")),
        "status": status,
        "description": text_of(raw.get(b"description")),
        "created_at": time_of(raw.get(b"created_at")),
        "enqueued_at": time_of(raw.get(b"enqueued_at")),
        "waiting_for": _waiting_for(status, raw, latest, meta),
        "started_at": time_of(raw.get(b"started_at")),
        "ended_at": time_of(raw.get(b"ended_at")),
        # stock workers do not count attempts
        "attempts": int_of(raw.get(b"attempts")) or int(bool(raw.get(b"started_at"))),
        "retries_left": int_of(raw.get(b"retries_left")) or 0,
        "result": _value(latest) if status == "finished" else None,
        "error": error or (unreadable(problem) if problem else None),
        "depends_on": strings_of(raw.get(b"dependency_ids")),
        "timeout": int_of(raw.get(b"timeout")),
        "worker": text_of(raw.get(b"worker_name")) or None,
        "webhook": _webhook(raw.get(b"webhook")),
    }
    return shape(fields, meta if isinstance(meta, dict) else {})


def shape(fields: JobFields, meta: dict[str, Any]) -> dict[str, Any]:
    """A job in the HTTP contract: its fields and its meta; omitted fields are those of a job that has not started."""
    valid: dict[str, Any] = {name: value for name, value in meta.items() if isinstance(value, META.get(name, object))}
    job_id = fields["id"]
    return {
        **NOT_STARTED,
        **fields,
        "scheduled_for": valid.get("scheduled_for"),
        "progress": valid.get("progress"),
        "tags": [str(tag) for tag in valid.get("tags", ())],
        "schedule": valid.get("schedule"),
        "workflow": valid.get("workflow"),
        "links": {"self": f"/api/v1/jobs/{job_id}", "dashboard": f"/dashboard/0/view/job/{job_id}"},
    }


def _waiting_for(status: str, raw: Raw, latest: Raw, meta: Any) -> dict[str, str | None] | None:
    """Why it is scheduled: for a limit (app/limits/library.lua), a retry or a delay; or deferred: for its workflow."""
    if status == "deferred" and isinstance(meta, dict) and isinstance(meta.get("workflow"), str):
        return waiting("dependency", meta["workflow"])
    if status != "scheduled":
        return None
    kind, _, name = (text_of(raw.get(b"waits_for")) or "").partition(":")
    if kind in LIMITS:
        return waiting(LIMITS[kind], name.removesuffix(":"))
    if latest.get(b"type") == RETRIED or (not latest and (int_of(raw.get(b"attempts")) or raw.get(b"started_at"))):
        return waiting("retry")  # a stock worker stores no result of a retried attempt
    return waiting("delay")


def waiting(reason: str, name: str | None = None, until: str | None = None) -> dict[str, str | None]:
    """What a scheduled or deferred job waits for, in the HTTP contract."""
    return {"reason": reason, "name": name, "until": until}


def _history(job: dict[str, Any], results: list[tuple[bytes, Raw]]) -> list[dict[str, Any]]:
    """The attempts, newest first. RQ does not store their numbers, so they are counted back from the last."""
    last = max(job["attempts"] - (job["status"] == "started"), len(results))
    attempts = []
    for number, (entry_id, result) in enumerate(results):
        error = _error(result)
        ended_at = float_of(result.get(b"execution_ended_at")) or int(entry_id.partition(b"-")[0]) / 1000
        attempts.append(
            {
                "attempt": last - number,
                "started_at": utc_of(float_of(result.get(b"execution_started_at"))),
                "ended_at": utc_of(ended_at),
                "outcome": OUTCOMES.get(result.get(b"type", b""), "failed"),
                "worker": text_of(result.get(b"worker_name")) or None,
                "error": error and {"type": error["type"], "message": error["message"]},
            }
        )
    if attempts and job["status"] == "stopped":  # RQ stores it as a failure
        attempts[0]["outcome"] = "stopped"
    return attempts


def function_of(raw: Raw) -> str | None:
    """The name of a job's function; None if its data cannot be read."""
    return _call(raw.get(b"data", b""))[0]


def _call(data: bytes) -> tuple[str | None, list[Any], dict[str, Any], str | None]:
    """Decode a call: function, arguments, keyword arguments, and None or the reason why it is unreadable."""
    try:
        plain = zlib.decompress(data)
    except zlib.error:
        plain = data
    try:
        call = JSON.loads(plain)
    except ValueError as error:
        return None, [], {}, str(error)
    if not (isinstance(call, list) and len(call) == 4 and isinstance(call[2], list) and isinstance(call[3], dict)):
        return None, [], {}, "not the call of a function"
    return function_name(str(call[0])), call[2], call[3], None


def unreadable(why: str) -> dict[str, str | None]:
    """The error of an unreadable job, the same as in quarantine (app/lifecycle/quarantine.py)."""
    return {"type": "UnreadableJob", "message": why, "traceback": ""}


def _webhook(data: bytes | None) -> Any:
    webhook = json_of(data)
    if not isinstance(webhook, dict):
        return None
    url, events = webhook.get("url"), webhook.get("events")
    return {"url": url, "events": events} if isinstance(url, str) and isinstance(events, list) else None


def _value(latest: Raw) -> Any:
    if latest.get(b"type") != SUCCESSFUL or b"return_value" not in latest:
        return None
    return json_of(b64decode(latest[b"return_value"]))


def _error(latest: Raw) -> dict[str, str | None] | None:
    if not latest.get(b"exc_string"):
        return None
    try:
        trace = zlib.decompress(b64decode(latest[b"exc_string"])).decode(errors="replace")
    except (zlib.error, ValueError):
        return None
    kind, message = error_of(trace)
    return {"type": kind, "message": message, "traceback": trace}


def _reason(raw: Raw) -> dict[str, str | None] | None:
    """The reason why a job was canceled, if it is known."""
    reason = text_of(raw.get(b"reason"))
    return {"type": "Canceled", "message": reason, "traceback": ""} if reason else None


def error_of(trace: str) -> tuple[str, str]:
    """The exception's type and message from a formatted traceback."""
    lines = trace.rstrip().split("\n")
    frame = next((n for n in range(len(lines) - 1, -1, -1) if lines[n].startswith('  File "')), -1)
    start = next((n for n in range(frame + 1, len(lines)) if not lines[n].startswith(" ")), 0)
    last = "\n".join(lines[start:])
    match = EXCEPTION.match(last)
    if match and (frame >= 0 or ": " in last):
        return match["type"], match["message"] or ""
    return "Error", last
