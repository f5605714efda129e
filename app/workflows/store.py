"""Write, cancel and repair workflows in Redis; library.lua describes their keys and fields."""

import contextlib
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import orjson
import redis
import structlog

from app import tracing
from app.author.options import Webhook
from app.enqueue import queue_limit, write
from app.enqueue.idempotency import Answer, Receipt
from app.enqueue.new_job import NewJob
from app.errors import Conflict, NotFound
from app.lifecycle import actions
from app.redis.client import batches, rq_timestamp
from app.redis.errors import raise_transient
from app.redis.keys import WORKFLOWS_OPEN, WORKFLOWS_STOPPING, job_key, results_key, workflow_key
from app.redis.scripts import Script
from app.states import ENDED
from app.webhooks import webhook_delivery
from app.workflows import view
from app.workflows.graph import HOOKS, Node
from app.workflows.results import member_names

BATCH_SIZE = 500
CREATE, CANCEL, ADVANCE = Script("workflows/create"), Script("workflows/cancel"), Script("workflows/advance")

log = structlog.get_logger("jobline.scheduler")

NodeJobs = list[tuple[Node, list[NewJob]]]


def new_id() -> str:
    return uuid.uuid4().hex


def job_id(workflow_id: str, node: Node, number: int) -> str:
    return f"{workflow_id}-{node.name}" if node.each is None else f"{workflow_id}-{node.name}-{number}"


def assign_to_workflow(
    job: NewJob, workflow_id: str, node: Node, number: int, delay: float | None, has_webhook: bool
) -> NewJob:
    """Make a job part of a workflow; `has_webhook`: the workflow has a webhook."""
    job.id, job.meta = job_id(workflow_id, node, number), {**job.meta, "workflow": workflow_id}
    job.extra_fields["workflow"], job.source = workflow_id, "workflow"
    if has_webhook:
        job.extra_fields["workflow_webhook"] = 1
    if node.after or node.name in HOOKS:
        job.deferred, job.delay = True, None
        if delay:
            job.extra_fields["wait"] = delay
    return job


@dataclass
class NewWorkflow:
    """A validated workflow to be written."""

    id: str
    name: str | None
    nodes: NodeJobs
    hooks: NodeJobs
    on_error: str
    referenced: set[str]
    """The nodes whose results are used by others."""
    result_ttl: int
    failure_ttl: int
    """Seconds for which it is kept after it has finished or failed."""
    webhook: Webhook | None = None
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    @cached_property
    def hash(self) -> dict[str, Any]:
        """The fields of its hash, as described in library.lua."""
        fields: dict[str, Any] = {
            "name": self.name or "", "status": "running", "on_error": self.on_error,
            "created_at": rq_timestamp(self.created_at), "left": len(self.nodes),
            "total": sum(len(jobs) for _, jobs in self.nodes),
            "result_ttl": self.result_ttl, "failure_ttl": self.failure_ttl,
            "nodes": orjson.dumps([node.name for node, _ in self.nodes]),
            "graph": orjson.dumps([_graph_entry(node) for node, _ in (*self.nodes, *self.hooks)]),
        }  # fmt: skip
        if self.webhook:
            fields |= webhook_delivery.hash_fields(self.webhook)
        children: dict[str, list[tuple[str, int]]] = {}
        for node, jobs in (*self.nodes, *self.hooks):
            edges = [(dependency.name, int(dependency.even_if_failed)) for dependency in node.dependencies()]
            for parent, even_if_failed in edges:
                children.setdefault(parent, []).append((node.name, even_if_failed))
            fields[f"state:{node.name}"] = "waiting" if edges or node.name in HOOKS else "open"
            fields[f"size:{node.name}"] = -1 if node.each is None else len(jobs)
            fields[f"open:{node.name}"] = len(jobs)
            if edges:
                fields[f"needs:{node.name}"], fields[f"parents:{node.name}"] = len(edges), orjson.dumps(edges)
        fields |= {f"children:{parent}": orjson.dumps(edges) for parent, edges in children.items()}
        return fields | {f"keep:{name}": 1 for name in self.referenced}

    def summary(self) -> dict[str, Any]:
        raw = {name.encode(): str(self.hash[name]).encode() for name in ("name", "status", "created_at", "total")}
        return view.summary(self.id, {**raw, b"webhook": self.hash.get("webhook", b"")})


def create(
    connection: redis.Redis,
    workflow: NewWorkflow,
    receipt: Receipt | None = None,
    traceparent: str | None = None,
) -> Answer | None:
    """Write a workflow and queue the jobs without dependencies. Returns the stored response of a repeated request.

    Raises:
        Invalid: the key was used for a different request.
        Conflict: there would be too many queues.
    """
    hash_args = [word for field in workflow.hash.items() for word in field]
    jobs = [job for _, node_jobs in (*workflow.nodes, *workflow.hooks) for job in node_jobs]
    with tracing.sending(jobs, traceparent):
        outcome, *stored = CREATE(
            connection,
            [*hash_args, *write.script_args(jobs)],
            id=workflow.id,
            seconds=workflow.created_at.timestamp(),
            word_count=len(hash_args),
            **queue_limit.script_args(jobs),
            **(receipt.script_args() if receipt else {}),
        )
    if outcome == b"queues":
        raise queue_limit.too_many_queues_error(stored[0], jobs)
    return receipt.read(stored[0], workflow.id) if receipt and outcome == b"kept" else None


def _graph_entry(node: Node) -> dict[str, Any]:
    after = [{"name": dependency.name, "even_if_failed": dependency.even_if_failed} for dependency in node.after]
    return {"name": node.name, "function": node.function, "after": after, "size": node.each and len(node.each)}


def cancel(connection: redis.Redis, workflow_id: str) -> None:
    """Cancel jobs that have not started and stop those that run. Raises NotFound; Conflict: it has ended."""
    if not connection.exists(workflow_key(workflow_id)):
        raise NotFound(f"No workflow {workflow_id!r}")
    remaining = _cancel(connection, workflow_id, "canceled")
    if remaining is None:
        raise Conflict(f"Workflow {workflow_id} has ended")
    for member in remaining:
        with contextlib.suppress(NotFound, Conflict):  # the job has ended meanwhile
            actions.cancel(connection, f"{workflow_id}-{member.decode()}")


def _cancel(connection: redis.Redis, workflow_id: str, status: str) -> list[bytes] | None:
    now = rq_timestamp(datetime.now(UTC))
    members: list[bytes] | None = CANCEL(connection, id=workflow_id, now=now, status=status)
    return members


def sweep(connection: redis.Redis, number: int, parts: int = 10) -> None:
    """Repair some open workflows: cancel jobs of those that stop, and record ends that no script has reported.

    Such jobs were deleted, have expired, or were run by a stock worker. `number` counts the sweeps: `parts` of them in
    a row cover all workflows.
    """
    for workflow_id in connection.smembers(WORKFLOWS_STOPPING):
        for member in _cancel(connection, workflow_id.decode(), "") or ():
            # `apply`, unlike `cancel`, does not wait for a job that is about to begin
            actions.apply(connection, f"{workflow_id.decode()}-{member.decode()}", "cancel")
    for workflow_id in sorted(connection.smembers(WORKFLOWS_OPEN))[number % parts :: parts]:
        try:
            for batch in batches(_open_members(connection, workflow_id.decode()), BATCH_SIZE):
                _record_ends(connection, workflow_id.decode(), batch)
        except (*view.UNREADABLE_ERRORS, redis.ResponseError) as error:
            raise_transient([error])
            connection.srem(WORKFLOWS_OPEN, workflow_id)
            log.exception("a workflow cannot be read, and is not repaired any more", workflow=repr(workflow_id))


def _open_members(connection: redis.Redis, workflow_id: str) -> Iterator[str]:
    raw, ended = connection.hgetall(workflow_key(workflow_id)), connection.hkeys(f"{workflow_key(workflow_id)}:ended")
    ended_members = {member.decode() for member in ended}
    for name in orjson.loads(raw.get(b"nodes", b"[]")):
        if raw[f"state:{name}".encode()] == b"open":
            node_members = member_names(name, int(raw[f"size:{name}".encode()]))
            yield from (member for member in node_members if member not in ended_members)


def _record_ends(connection: redis.Redis, workflow_id: str, members: list[str]) -> None:
    with connection.pipeline(transaction=False) as pipeline:
        for member in members:
            pipeline.hget(job_key(f"{workflow_id}-{member}"), "status")
            pipeline.xrevrange(results_key(f"{workflow_id}-{member}"), count=1)
        answers = pipeline.execute()
    for member, status, results in zip(members, answers[::2], answers[1::2], strict=True):
        state = status.decode() if status else "canceled"
        if state in ENDED:
            value = results[0][1].get(b"return_value", b"") if results and state == "finished" else b""
            ADVANCE(
                connection, id=f"{workflow_id}-{member}", status=state, now=rq_timestamp(datetime.now(UTC)), value=value
            )
