"""The fields of hashes that are Jobline's own, and keys of RQ and rq-scheduler that only their code names.

docs/redis.md is generated from this and app/redis/keys.py, and compared with what a run leaves in Redis.
"""

from typing import NamedTuple

from app.redis.keys import ALWAYS, KeyDeclaration

WITH_HASH = "as long as the hash"
RQ = "RQ"


class Field(NamedTuple):
    """A field of a hash; `pattern` has <name> where its name varies. RQ's have the writer RQ and no description."""

    pattern: str
    kind: str = ""
    writer: str = RQ
    reader: str = ""
    lifetime: str = ""
    description: str = ""


def _of_rq(names: str) -> tuple[Field, ...]:
    return tuple(Field(name) for name in names.split())


FIELDS: dict[str, tuple[Field, ...]] = {
    "job_key": (
        *_of_rq(
            "created_at data description origin status enqueued_at started_at ended_at last_heartbeat worker_name"
            " group_id timeout ttl result_ttl failure_ttl result exc_info meta dependency_id dependency_ids"
            " enqueue_at_front enqueue_at_front_on_retry allow_dependency_failures number_of_retries retries_left"
            " retry_intervals repeats_left repeat_intervals webhooks success_callback_name success_callback_timeout"
            " failure_callback_name failure_callback_timeout stopped_callback_name stopped_callback_timeout"
        ),
        Field("function", "text", "enqueue", "metrics", WITH_HASH, "The name of its function."),
        Field("traceparent", "text", "enqueue, if traces are on", "worker", WITH_HASH,
              "The trace context of what enqueued it (W3C Trace Context)."),
        Field("attempts", "integer", "app/worker/begin.lua", "views, recovery", WITH_HASH, "Attempts that have begun."),
        Field("losses", "integer", "app/lifecycle/end_attempt.lua", "recovery", WITH_HASH,
              "How often an idempotent job was run again after its worker had died."),
        Field("delayed", "1", "enqueue, change", "views, clock", "until it is given a time instead",
              "It was given a delay, not a time: it goes on by elapsed time if the clock is put back."),
        Field("limits", "JSON", "enqueue", "claim, limits", WITH_HASH, "Its limits: [kind, name, most, window]..."),
        Field("waits_for", "text", "app/limits", "views, limits", "until the limit lets it go",
              "The limit in whose list it waits."),
        Field("reason", "text", "cancel, workflows, recovery", "views", "until a requeue",
              "Why it was canceled or has no error of its own."),
        Field("noted", "text", "app/lifecycle/note_end.lua", "outbox", WITH_HASH,
              "Token of the last end that RQ wrote itself and the outbox was told of."),
        Field("webhook", "JSON", "enqueue", "outbox, views", WITH_HASH, "URL and events."),
        Field("webhook_secret", "text", "enqueue", "outbox", WITH_HASH, "The webhook's own secret."),
        Field("delivery_secret", "text", "outbox", "jobs/webhooks.py", WITH_HASH,
              "Of a delivery: what it is signed with. No request can set it."),
        Field("workflow", "text", "workflows", "end of a job", WITH_HASH, "The id of its workflow."),
        Field("workflow_webhook", "1", "workflows", "end of a job", WITH_HASH, "The workflow has a webhook."),
        Field("wait", "number", "workflows", "workflows", WITH_HASH, "Seconds of delay once its turn has come."),
    ),
    "execution_key": _of_rq("id worker_name created_at last_heartbeat"),
    "worker_key": (
        *_of_rq(
            "birth death last_heartbeat queues pid hostname ip_address version python_version state current_job"
            " current_job_working_time successful_job_count failed_job_count total_working_time suspended"
            " shutdown_requested_date custom_worker_name"
        ),
        Field("fence", "integer", "recovery", "app/worker/claim.lua", WITH_HASH,
              "Raised when the worker is given up: a claim with a smaller number gets nothing."),
        Field("rss_bytes", "integer", "app/worker/beat.lua", "views, metrics", WITH_HASH,
              "Memory of the worker and its work horse."),
        Field("cpu_seconds", "number", "app/worker/beat.lua", "views, metrics", WITH_HASH,
              "CPU time of the worker and its work horses."),
        Field("host_cpu", "number", "app/worker/beat.lua", "views, metrics", WITH_HASH,
              "Use of its host's processors, in %."),
        Field("host_memory", "number", "app/worker/beat.lua", "views, metrics", WITH_HASH,
              "Use of its host's memory, in %."),
        Field("horse_moved_at", "time", "app/worker/beat.lua", "probe", WITH_HASH, "When its work horse last moved."),
    ),
    "workflow_key": (
        Field("name", "text", "create", "views", WITH_HASH, "As its request says."),
        Field("status", "text", "create, workflows", "views", WITH_HASH, "running, finished, failed or canceled."),
        Field("on_error", "text", "create", "workflows", WITH_HASH, "continue or stop."),
        Field("created_at", "time", "create", "views", WITH_HASH),
        Field("ended_at", "time", "workflows", "views", WITH_HASH),
        Field("total", "integer", "create", "views", WITH_HASH, "Jobs, without hooks."),
        Field("left", "integer", "create, workflows", "workflows", WITH_HASH, "Nodes that have not ended."),
        Field("count:<status>", "integer", "workflows", "views", WITH_HASH, "Jobs that have ended so."),
        Field("result_ttl", "integer", "create", "workflows", WITH_HASH, "Seconds that it is kept once finished."),
        Field("failure_ttl", "integer", "create", "workflows", WITH_HASH, "Seconds that it is kept otherwise."),
        Field("nodes", "JSON", "create", "workflows", WITH_HASH, "Names of its nodes."),
        Field("graph", "JSON", "create", "views", WITH_HASH, "What is shown of each node."),
        Field("stopped", "1", "workflows", "workflows", WITH_HASH, "on_error=stop has taken effect."),
        Field("webhook", "JSON", "create", "outbox, views", WITH_HASH, "URL and events."),
        Field("webhook_secret", "text", "create", "outbox", WITH_HASH, "The webhook's own secret."),
        Field("state:<node>", "text", "create, workflows", "workflows, views", WITH_HASH,
              "waiting, open, finished, failed or canceled."),
        Field("size:<node>", "integer", "create", "workflows, views", WITH_HASH, "Jobs; -1: one job that is no list."),
        Field("open:<node>", "integer", "create, workflows", "workflows", WITH_HASH, "Jobs that have not ended."),
        Field("needs:<node>", "integer", "create, workflows", "workflows", WITH_HASH, "Nodes that it still waits for."),
        Field("parents:<node>", "JSON", "create", "workflows", WITH_HASH, "[name, 1 if even after a failure]..."),
        Field("children:<node>", "JSON", "create", "workflows", WITH_HASH, "[name, 1 if even after a failure]..."),
        Field("keep:<node>", "1", "create", "workflows", WITH_HASH, "Its results are needed."),
        Field("failed:<node>", "text", "workflows", "workflows", WITH_HASH, "failed or canceled, once one of it is."),
        Field("dropped:<node>", "1", "workflows", "workflows", WITH_HASH, "It was canceled before it began."),
    ),
    "schedule_key": (
        Field("rule", "JSON", "app/schedules/store.py", "schedules", WITH_HASH, "As it was declared."),
        Field("state", "JSON", "app/schedules/store.py", "schedules", WITH_HASH,
              "The next due time, counts, last runs, why it is paused or broken."),
    ),
}  # fmt: skip
"""By the name of the key in app/redis/keys.py; hashes that are not here have a member's name as each field's name."""

OTHERS = {
    "workers_of_queue": KeyDeclaration("rq:workers:<queue>", "set", ALWAYS, "Keys of the workers of a queue."),
    "groups": KeyDeclaration("rq:groups", "set", ALWAYS, "Keys of all groups."),
    "group": KeyDeclaration("rq:group:<name>", "set", "as long as its jobs", "Ids of the jobs of a group."),
    "maintenance": KeyDeclaration(
        "rq:clean_registries:<queue>", "string", "15 minutes", "A worker cleans the registries."
    ),
    "scheduler_locks": KeyDeclaration(
        "rq:scheduler-lock:<queue>", "string", "60 s", "A worker with RQ's own scheduler."
    ),
    "scheduler": KeyDeclaration(
        "rq:scheduler_instance:<name>", "hash", "while it runs", "A scheduler, as rq-scheduler writes it."
    ),
    "scheduler_lock": KeyDeclaration("rq:scheduler_lock", "string", "10 s", "The scheduler that leads; it renews it."),
    "scheduled_jobs": KeyDeclaration(
        "rq:scheduler:scheduled_jobs", "zset", ALWAYS, "rq-scheduler's entries: our schedules, by due time."
    ),
    "schedule_entry": KeyDeclaration(
        "rq:job:schedule-<name>", "hash", ALWAYS, "A schedule, as tools of rq-scheduler show it."
    ),
}
"""Keys that the code of RQ and rq-scheduler names, not Jobline's own."""
