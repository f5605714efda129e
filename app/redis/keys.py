"""Every key in Redis that Jobline reads or writes, RQ's and its own, and the numbers that Lua and Python share.

Scripts use the same names (app/redis/scripts.py): a function here is a function there, a constant a constant.
docs/redis.md lists them with the fields of each hash; it is generated from this module.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

KeyFunction = TypeVar("KeyFunction", bound=Callable[..., str])


@dataclass(frozen=True)
class KeyDeclaration:
    """What docs/redis.md says of a key."""

    pattern: str
    kind: str
    """Redis's type: hash, list, set, zset, stream, string or channel."""
    lifetime: str
    description: str


DECLARED: dict[str, KeyDeclaration] = {}
"""By the key's name in Python and Lua."""


def _key(kind: str, lifetime: str) -> Callable[[KeyFunction], KeyFunction]:
    def declare(function: KeyFunction) -> KeyFunction:
        names = function.__code__.co_varnames[: function.__code__.co_argcount]
        pattern = function(*(f"<{name}>" for name in names))
        DECLARED[function.__name__] = KeyDeclaration(pattern, kind, lifetime, function.__doc__ or "")
        return function

    return declare


def _constant(name: str, pattern: str, kind: str, lifetime: str, description: str) -> str:
    DECLARED[name] = KeyDeclaration(pattern, kind, lifetime, description)
    return pattern


STREAM_ID = re.compile(r"[0-9]{1,19}-[0-9]{1,19}")
"""The id of an entry in a stream, as callers may give it back; Redis refuses numbers past 64 bits."""

ALWAYS = "always"
WITH_JOB = "as long as the job's hash"


# RQ's


@_key("hash", "until ttl is over while it waits; for result_ttl or failure_ttl once it has ended")
def job_key(job_id: str) -> str:
    """A job."""
    return f"rq:job:{job_id}"


@_key("stream", WITH_JOB)
def results_key(job_id: str) -> str:
    """What became of the latest attempts of a job, an entry each: rq.results.Result."""
    return f"rq:results:{job_id}"


@_key("set", WITH_JOB)
def dependents_key(job_id: str) -> str:
    """Ids of jobs that wait for this one."""
    return f"rq:job:{job_id}:dependents"


@_key("set", WITH_JOB)
def dependencies_key(job_id: str) -> str:
    """Ids of the jobs that this one depends on. (Two colons: as RQ 2.12 names it.)"""
    return f"rq:job::{job_id}:dependencies"


@_key("zset", "until the job has ended, 150 s after the last beat at most")
def executions_key(job_id: str) -> str:
    """The executions of a job that have a record, by when they expire."""
    return f"rq:executions:{job_id}"


@_key("hash", "until the execution has ended, 90 s after the last beat at most")
def execution_key(job_id: str, execution: str) -> str:
    """The record of an execution that has run for more than a second."""
    return f"rq:execution:{job_id}:{execution}"


@_key("list", "while it has members")
def queue_key(queue: str) -> str:
    """Ids of the jobs that wait in a queue, the next one first."""
    return f"rq:queue:{queue}"


@_key("list", "while it has members")
def intermediate_key(queue: str) -> str:
    """Ids that a stock worker has taken from its queue and not yet begun."""
    return f"rq:queue:{queue}:intermediate"


@_key("zset", "while it has members")
def registry_key(registry: str, queue: str) -> str:
    """Ids of jobs of a queue: `wip` (started: JOB:EXECUTION, by when the lease ends), `finished`, `failed` (also
    stopped; by when they expire), `deferred` (since when), `scheduled` (for when), `canceled` (since when)."""
    return f"rq:{registry}:{queue}"


@_key("hash", "480 s after the worker's last beat")
def worker_key(worker: str) -> str:
    """A worker."""
    return f"rq:worker:{worker}"


QUEUES = _constant("QUEUES", "rq:queues", "set", ALWAYS, "Keys of all queues.")
WORKERS = _constant("WORKERS", "rq:workers", "set", ALWAYS, "Keys of all workers.")
SUSPENDED = _constant("SUSPENDED", "rq:suspended", "string", "until `rq resume`", "All workers are suspended.")


# Jobline's


@_key("list, set or hash", "while it has members")
def limit_key(limit: str, part: str) -> str:
    """A limit: `waiting` (ids of jobs that were put off, in their order), `let_go` (those on their queue again, with
    a place kept for each), `held` (QUEUE|JOB:EXECUTION of those that run), `starts` (times, newest first)."""
    return f"jobline:limit:{limit}:{part}"


@_key("list or string", "for the breaker's window, or cool_down")
def breaker_key(name: str, part: str) -> str:
    """The breaker of a function: `failures` (the last ones, each its time and its token), `open` (it is)."""
    return f"jobline:breaker:{name}:{part}"


@_key("stream", "60 s")
def ended_key(job_id: str) -> str:
    """Wakes whoever waits for a job that ends without a result: it was canceled or deleted."""
    return f"jobline:ended:{job_id}"


@_key("string", "FAILURE_TTL")
def unreadable_key(job_id: str) -> str:
    """What stood under the key of a job that could not be read, of whatever type it was."""
    return f"jobline:unreadable:{job_id}"


@_key("hash", "while it runs; then for RESULT_TTL or FAILURE_TTL, 60 s at least")
def workflow_key(workflow: str) -> str:
    """A workflow: what its request said, counts, and the state of each node."""
    return f"jobline:workflow:{workflow}"


@_key("hash", "as long as the workflow")
def workflow_part_key(workflow: str, part: str) -> str:
    """`ended`: the state of each job of a workflow that has ended; `results`: results that others need (Base64)."""
    return f"jobline:workflow:{workflow}:{part}"


@_key("string", "the rule's ttl, 30 days if it has none")
def unique_key(name: str, digest: str) -> str:
    """The id of the job that holds a unique lock. It is not freed: it holds while the state of its job says so."""
    return f"jobline:unique:{name}:{digest}"


@_key("string", "24 h")
def idempotency_key(caller: str, digest: str) -> str:
    """JSON: the digest of a request that had an Idempotency-Key, and its answer."""
    return f"jobline:idempotency:{caller}:{digest}"


@_key("string", "the window of REQUEST_LIMIT")
def requests_key(caller: str, window: int) -> str:
    """How many requests a caller has made in a window."""
    return f"jobline:requests:{caller}:{window}"


@_key("hash", ALWAYS)
def schedule_key(name: str) -> str:
    """A schedule: its rule and its state."""
    return f"jobline:schedule:{name}"


LEASES = _constant("LEASES", "jobline:leases", "zset", ALWAYS, "A count for each live worker, which its parent moves.")
PAUSED = _constant(
    "PAUSED", "jobline:paused", "set", "while it has members", "Queues from which our workers take nothing."
)
EVENTS = _constant(
    "EVENTS", "jobline:events", "stream", "600 s after the last listener has gone", "What happens to jobs."
)
ENDED = _constant("ENDED", "jobline:ended", "stream", "within one script", "Copied to the note of an end.")
RESULT = _constant("RESULT", "jobline:result", "stream", "within one script", "Copied to the results of a job.")
OUTBOX = _constant(
    "OUTBOX", "jobline:outbox", "stream", ALWAYS, "A copy of each job or workflow that has ended and has a webhook."
)
LIMITS_WAITING = _constant(
    "LIMITS_WAITING", "jobline:limits:waiting", "zset", ALWAYS, "Limits for which jobs wait, by when to look at them."
)
WORKFLOWS = _constant("WORKFLOWS", "jobline:workflows", "zset", ALWAYS, "Ids of all workflows, by when they were made.")
WORKFLOWS_OPEN = _constant("WORKFLOWS_OPEN", "jobline:workflows:open", "set", ALWAYS, "Those that have not ended.")
WORKFLOWS_STOPPING = _constant(
    "WORKFLOWS_STOPPING", "jobline:workflows:stopping", "set", ALWAYS,
    "Those that stop after a failure, and have jobs on queues still.",
)  # fmt: skip
SCHEDULES = _constant("SCHEDULES", "jobline:schedules", "zset", ALWAYS, "Names of all schedules, in their order.")
OPEN_RUNS = _constant(
    "OPEN_RUNS", "jobline:schedules:open_runs", "hash", ALWAYS,
    "Runs that had not ended when they were last looked at: the job's id, and the schedule's name.",
)  # fmt: skip
BROKEN_SCHEDULES = _constant(
    "BROKEN_SCHEDULES", "jobline:schedules:broken", "hash", ALWAYS, "Schedules that are kept and cannot run, and why."
)
REJECTED_SCHEDULES = _constant(
    "REJECTED_SCHEDULES", "jobline:schedules:rejected", "string", ALWAYS,
    "JSON: the entries of scheduler.py that are no schedules, and why; absent while all are right.",
)  # fmt: skip
QUARANTINED = _constant(
    "QUARANTINED", "jobline:schedules:quarantined", "hash", ALWAYS,
    "Entries of rq-scheduler's set that are not ours to run, and why.",
)  # fmt: skip
SCHEDULERS = _constant(
    "SCHEDULERS", "jobline:schedulers", "set", ALWAYS,
    "Keys of rq-scheduler's hashes of all schedulers that may be alive.",
)  # fmt: skip
SCHEDULER_WAKE = _constant(
    "SCHEDULER_WAKE", "jobline:scheduler:wake", "channel", "",
    "Tells the leading scheduler that something may be due sooner than it knew.",
)  # fmt: skip
READY = _constant("READY", "jobline:ready", "string", "60 s", "Written to find out whether Redis takes writes.")
CLOCK = _constant(
    "CLOCK", "jobline:clock", "string", ALWAYS,
    "The time of Redis as the leading scheduler last saw it: app/schedules/clock.py.",
)  # fmt: skip
AUDIT = _constant("AUDIT", "jobline:audit", "stream", "AUDIT_LIMIT entries", "Who changed what.")
DISABLED_WEBHOOKS = _constant(
    "DISABLED_WEBHOOKS", "jobline:webhooks:disabled", "zset", "30 days", "URLs that have answered 410 Gone, by when."
)

MAX_EVENTS = 100_000
"""Entries that the event stream keeps, about."""
CLOCK_JUMP_SECONDS = 2
"""So much the clock may go otherwise than time does."""
