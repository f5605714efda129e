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
    """What docs/redis.md says about a key."""

    pattern: str
    kind: str
    """Redis's type: hash, list, set, zset, stream, string or channel."""
    lifetime: str
    description: str


DECLARED: dict[str, KeyDeclaration] = {}
"""Indexed by the name of the key function or constant."""


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
"""An entry id of a stream, as callers may send it; Redis refuses numbers over 64 bits."""

ALWAYS = "always"
WITH_JOB = "as long as the job's hash"


# Keys of RQ


@_key("hash", "until ttl is over while it waits; for result_ttl or failure_ttl once it has ended")
def job_key(job_id: str) -> str:
    """A job."""
    return f"rq:job:{job_id}"


@_key("stream", WITH_JOB)
def results_key(job_id: str) -> str:
    """Results of the latest attempts of a job, one entry each (rq.results.Result)."""
    return f"rq:results:{job_id}"


@_key("set", WITH_JOB)
def dependents_key(job_id: str) -> str:
    """Ids of jobs that wait for this one."""
    return f"rq:job:{job_id}:dependents"


@_key("set", WITH_JOB)
def dependencies_key(job_id: str) -> str:
    """Ids of the jobs that this one depends on. (Two colons: as RQ 2.12 names it.)"""
    return f"rq:job::{job_id}:dependencies"


@_key("zset", "until the job has ended, at most 150 s after the last heartbeat")
def executions_key(job_id: str) -> str:
    """Executions of a job that have a record, scored by expiry."""
    return f"rq:executions:{job_id}"


@_key("hash", "until the execution has ended, at most 90 s after the last heartbeat")
def execution_key(job_id: str, execution: str) -> str:
    """The record of an execution that has been running for more than a second."""
    return f"rq:execution:{job_id}:{execution}"


@_key("list", "while it has members")
def queue_key(queue: str) -> str:
    """Ids of the jobs that wait in a queue, the next one first."""
    return f"rq:queue:{queue}"


@_key("list", "while it has members")
def intermediate_key(queue: str) -> str:
    """Ids that a stock worker has taken from its queue and not yet started."""
    return f"rq:queue:{queue}:intermediate"


@_key("zset", "while it has members")
def registry_key(registry: str, queue: str) -> str:
    """Ids of a queue's jobs and their scores: `wip` (started: JOB:EXECUTION, end of the lease), `finished`, `failed`
    (also stopped; expiry), `deferred` (since when), `scheduled` (due time), `canceled` (since when)."""
    return f"rq:{registry}:{queue}"


@_key("hash", "480 s after the worker's last heartbeat")
def worker_key(worker: str) -> str:
    """A worker."""
    return f"rq:worker:{worker}"


QUEUES = _constant("QUEUES", "rq:queues", "set", ALWAYS, "Keys of all queues.")
WORKERS = _constant("WORKERS", "rq:workers", "set", ALWAYS, "Keys of all workers.")
SUSPENDED = _constant("SUSPENDED", "rq:suspended", "string", "until `rq resume`", "All workers are suspended.")


# Keys of Jobline


@_key("list, set or hash", "while it has members")
def limit_key(limit: str, part: str) -> str:
    """A limit: `waiting` (ids of postponed jobs, in order), `let_go` (released jobs that are back on their queue, each
    with a reserved slot), `held` (QUEUE|JOB:EXECUTION of running jobs), `starts` (start times, newest first)."""
    return f"jobline:limit:{limit}:{part}"


@_key("list or string", "for the breaker's window, or cool_down")
def breaker_key(name: str, part: str) -> str:
    """The circuit breaker of a function: `failures` (time and token of the latest), `open` (exists while open)."""
    return f"jobline:breaker:{name}:{part}"


@_key("stream", WITH_JOB)
def log_key(job_id: str) -> str:
    """The lines that a job has logged or printed: `attempt`, the `number` of the line in it, `line` (JSON)."""
    return f"jobline:log:{job_id}"


@_key("stream", "60 s")
def ended_key(job_id: str) -> str:
    """Wakes clients that wait for a job which ends without a result: it was canceled or deleted."""
    return f"jobline:ended:{job_id}"


@_key("string", "FAILURE_TTL")
def unreadable_key(job_id: str) -> str:
    """The original value under the key of an unreadable job, of any type."""
    return f"jobline:unreadable:{job_id}"


@_key("hash", "while it runs; then for RESULT_TTL or FAILURE_TTL, at least 60 s")
def workflow_key(workflow: str) -> str:
    """A workflow: its request, counts, and the state of each node."""
    return f"jobline:workflow:{workflow}"


@_key("hash", "as long as the workflow")
def workflow_part_key(workflow: str, part: str) -> str:
    """`ended`: the status of each ended job of a workflow; `results`: results that other jobs need (Base64)."""
    return f"jobline:workflow:{workflow}:{part}"


@_key("string", "the rule's ttl, 30 days if it has none")
def unique_key(name: str, digest: str) -> str:
    """The id of the job that holds a unique lock. Never released: whether it is held follows from the job's status."""
    return f"jobline:unique:{name}:{digest}"


@_key("string", "24 h")
def idempotency_key(caller: str, digest: str) -> str:
    """JSON: the digest of a request with an Idempotency-Key, and its response."""
    return f"jobline:idempotency:{caller}:{digest}"


@_key("string", "the window of REQUEST_LIMIT")
def requests_key(caller: str, window: int) -> str:
    """How many requests a caller has made in a window."""
    return f"jobline:requests:{caller}:{window}"


@_key("hash", "15 min, 8 h or 72 h by the length of the interval")
def metrics_key(seconds: int, start: int) -> str:
    """Metrics of an interval that is 10, 60, 600 or 3,600 seconds long, by function and queue (app/metrics)."""
    return f"jobline:metrics:{seconds}:{start}"


@_key("string", "10 min")
def metrics_batch_key(batch: str) -> str:
    """Metrics that a worker has written: sent again, they are not added again."""
    return f"jobline:metrics:batch:{batch}"


@_key("hash", ALWAYS)
def schedule_key(name: str) -> str:
    """A schedule: its rule and its state."""
    return f"jobline:schedule:{name}"


LEASES = _constant(
    "LEASES", "jobline:leases", "zset", ALWAYS, "A counter for each live worker, advanced by its parent process."
)
PAUSED = _constant(
    "PAUSED",
    "jobline:paused",
    "set",
    "while it has members",
    "Paused queues: Jobline's workers take no jobs from them.",
)
EVENTS = _constant(
    "EVENTS",
    "jobline:events",
    "stream",
    "600 s after the last listener has left",
    "Events of jobs: status changes and progress.",
)
ENDED = _constant("ENDED", "jobline:ended", "stream", "within one script", "Template, copied to jobline:ended:JOB.")
RESULT = _constant(
    "RESULT", "jobline:result", "stream", "within one script", "Template, copied to the results of a job."
)
OUTBOX = _constant(
    "OUTBOX", "jobline:outbox", "stream", ALWAYS, "A copy of each ended job or workflow that has a webhook."
)
LIMITS_WAITING = _constant(
    "LIMITS_WAITING", "jobline:limits:waiting", "zset", ALWAYS, "Limits with waiting jobs, scored by the next check."
)
WORKFLOWS = _constant(
    "WORKFLOWS", "jobline:workflows", "zset", ALWAYS, "Ids of all workflows, scored by creation time."
)
WORKFLOWS_OPEN = _constant(
    "WORKFLOWS_OPEN", "jobline:workflows:open", "set", ALWAYS, "Ids of workflows that have not ended."
)
WORKFLOWS_STOPPING = _constant(
    "WORKFLOWS_STOPPING", "jobline:workflows:stopping", "set", ALWAYS,
    "Ids of workflows that stop after a failure and still have jobs on queues.",
)  # fmt: skip
SCHEDULES = _constant("SCHEDULES", "jobline:schedules", "zset", ALWAYS, "Names of all schedules, in order.")
OPEN_RUNS = _constant(
    "OPEN_RUNS", "jobline:schedules:open_runs", "hash", ALWAYS,
    "Runs that had not ended at the last check: job id to schedule name.",
)  # fmt: skip
BROKEN_SCHEDULES = _constant(
    "BROKEN_SCHEDULES", "jobline:schedules:broken", "hash", ALWAYS, "Stored schedules that cannot run, and the reason."
)
REJECTED_SCHEDULES = _constant(
    "REJECTED_SCHEDULES", "jobline:schedules:rejected", "string", ALWAYS,
    "JSON: invalid entries of scheduler.py, and the reasons; absent if all are valid.",
)  # fmt: skip
QUARANTINED = _constant(
    "QUARANTINED", "jobline:schedules:quarantined", "hash", ALWAYS,
    "Entries of rq-scheduler's set that Jobline cannot run, and the reason.",
)  # fmt: skip
SCHEDULERS = _constant(
    "SCHEDULERS", "jobline:schedulers", "set", ALWAYS,
    "Keys of the hashes of all schedulers that may be alive.",
)  # fmt: skip
SCHEDULER_WAKE = _constant(
    "SCHEDULER_WAKE", "jobline:scheduler:wake", "channel", "",
    "Tells the leading scheduler that something may be due earlier than expected.",
)  # fmt: skip
READY = _constant("READY", "jobline:ready", "string", "60 s", "Written to check that Redis accepts writes.")
CLOCK = _constant(
    "CLOCK", "jobline:clock", "string", ALWAYS,
    "The time of Redis as last recorded by the leading scheduler: app/schedules/clock.py.",
)  # fmt: skip
AUDIT = _constant("AUDIT", "jobline:audit", "stream", "AUDIT_LIMIT entries", "The audit log: who changed what.")
DISABLED_WEBHOOKS = _constant(
    "DISABLED_WEBHOOKS",
    "jobline:webhooks:disabled",
    "zset",
    "30 days",
    "URLs that answered 410 Gone, scored by the time.",
)

ALERTS = _constant("ALERTS", "jobline:alerts", "hash", ALWAYS, "Alerts that were told to have begun: JSON by name.")
ALERTS_CRITICAL = _constant(
    "ALERTS_CRITICAL", "jobline:alerts:critical", "hash", ALWAYS,
    "For each critical function: how many jobs had failed and finished at the last look, and whether it fails.",
)  # fmt: skip
METRICS_COUNTED = _constant(
    "METRICS_COUNTED", "jobline:metrics:counted", "hash", "until the next pass of the leading scheduler",
    "What scripts have counted: outcome or source, function and queue, separated by tabs.",
)  # fmt: skip
METRICS_FUNCTIONS = _constant(
    "METRICS_FUNCTIONS", "jobline:metrics:functions", "set", ALWAYS, "Functions that have metrics of their own."
)
METRICS_RECOVERED = _constant(
    "METRICS_RECOVERED", "jobline:metrics:recovered", "hash", ALWAYS,
    "How many attempts others than their work horse have ended, by reason.",
)  # fmt: skip
METRICS_TOTALS = _constant(
    "METRICS_TOTALS",
    "jobline:metrics:totals",
    "hash",
    ALWAYS,
    "Metrics since the first job, without unmerged intervals.",
)
METRICS_UNMERGED = _constant(
    "METRICS_UNMERGED", "jobline:metrics:unmerged", "set", ALWAYS,
    "Starts of the intervals of 10 s that are in no total and no longer interval yet.",
)  # fmt: skip

MAX_FUNCTIONS = 500
"""How many functions have metrics of their own."""
MAX_EVENTS = 100_000
"""Approximate maximum number of entries in the event stream."""
CLOCK_JUMP_SECONDS = 2
"""The clock has jumped if it differs from elapsed time by more than this."""
