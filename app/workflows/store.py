"""Workflows as Redis holds them (library.lua says how): written, canceled, and swept."""

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

from app.author.options import Webhook
from app.enqueue import queue_limit, write
from app.enqueue.idempotency import Answer, Receipt
from app.enqueue.new_job import NewJob
from app.errors import Conflict, NotFound
from app.lifecycle import actions
from app.redis.client import batches, moment
from app.redis.errors import raise_if_away
from app.redis.keys import WORKFLOWS_OPEN, WORKFLOWS_STOPPING, job_key, results_key, workflow_key
from app.redis.scripts import Script
from app.states import ENDED
from app.webhooks import webhook_delivery
from app.workflows import view
from app.workflows.graph import HOOKS, Node
from app.workflows.results import members

BATCH = 500
CREATE, CANCEL, ADVANCE = Script("workflows/create"), Script("workflows/cancel"), Script("workflows/advance")

log = structlog.get_logger("jobline.scheduler")

Made = list[tuple[Node, list[NewJob]]]


def new_id() -> str:
    return uuid.uuid4().hex


def job_id(workflow: str, node: Node, number: int) -> str:
    return f"{workflow}-{node.name}" if node.each is None else f"{workflow}-{node.name}-{number}"


def adopt(job: NewJob, workflow: str, node: Node, number: int, delay: float | None, announced: bool) -> NewJob:
    """Make a job one of a workflow's; `announced`: there is a webhook for the workflow's end."""
    job.id, job.meta = job_id(workflow, node, number), {**job.meta, "workflow": workflow}
    job.extra_fields["workflow"] = workflow
    if announced:
        job.extra_fields["workflow_webhook"] = 1
    if node.after or node.name in HOOKS:
        job.deferred, job.delay = True, None
        if delay:
            job.extra_fields["wait"] = delay
    return job


@dataclass
class NewWorkflow:
    """A graph that was checked, to be written."""

    id: str
    name: str | None
    nodes: Made
    hooks: Made
    on_error: str
    wanted: set[str]
    """The nodes whose results are needed."""
    result_ttl: int
    failure_ttl: int
    """Seconds for which it is kept when it has finished, or failed."""
    webhook: Webhook | None = None
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    @cached_property
    def hash(self) -> dict[str, Any]:
        """As library.lua has it."""
        fields: dict[str, Any] = {
            "name": self.name or "", "status": "running", "on_error": self.on_error,
            "created_at": moment(self.created_at), "left": len(self.nodes),
            "total": sum(len(jobs) for _, jobs in self.nodes),
            "result_ttl": self.result_ttl, "failure_ttl": self.failure_ttl,
            "nodes": orjson.dumps([node.name for node, _ in self.nodes]),
            "graph": orjson.dumps([_shown(node) for node, _ in (*self.nodes, *self.hooks)]),
        }  # fmt: skip
        if self.webhook:
            fields |= webhook_delivery.fields(self.webhook)
        children: dict[str, list[tuple[str, int]]] = {}
        for node, jobs in (*self.nodes, *self.hooks):
            edges = [(need.name, int(need.even_if_failed)) for need in node.needs()]
            for parent, even in edges:
                children.setdefault(parent, []).append((node.name, even))
            fields[f"state:{node.name}"] = "waiting" if edges or node.name in HOOKS else "open"
            fields[f"size:{node.name}"] = -1 if node.each is None else len(jobs)
            fields[f"open:{node.name}"] = len(jobs)
            if edges:
                fields[f"needs:{node.name}"], fields[f"parents:{node.name}"] = len(edges), orjson.dumps(edges)
        fields |= {f"children:{parent}": orjson.dumps(edges) for parent, edges in children.items()}
        return fields | {f"keep:{name}": 1 for name in self.wanted}

    def summary(self) -> dict[str, Any]:
        """As JSON."""
        raw = {name.encode(): str(self.hash[name]).encode() for name in ("name", "status", "created_at", "total")}
        return view.summary(self.id, {**raw, b"webhook": self.hash.get("webhook", b"")})


def create(connection: redis.Redis, flow: NewWorkflow, receipt: Receipt | None = None) -> Answer | None:
    """Write a workflow, and queue what needs nothing; or the answer that was given to the same request before.

    Raises:
        Invalid: the receipt is of another request.
        Conflict: there would be too many queues.
    """
    words = [word for field in flow.hash.items() for word in field]
    jobs = [job for _, some in (*flow.nodes, *flow.hooks) for job in some]
    outcome, *kept = CREATE(
        connection,
        [*words, *write.words_of(jobs)],
        id=flow.id,
        seconds=flow.created_at.timestamp(),
        word_count=len(words),
        **queue_limit.words(jobs),
        **(receipt.words() if receipt else {}),
    )
    if outcome == b"queues":
        raise queue_limit.refusal(kept[0], jobs)
    return receipt.read(kept[0], flow.id) if receipt and outcome == b"kept" else None


def _shown(node: Node) -> dict[str, Any]:
    after = [{"name": need.name, "even_if_failed": need.even_if_failed} for need in node.after]
    return {"name": node.name, "function": node.function, "after": after, "size": node.each and len(node.each)}


def cancel(connection: redis.Redis, workflow: str) -> None:
    """Cancel all that has not ended, and stop what runs. Raises NotFound; Conflict: it has ended."""
    if not connection.exists(workflow_key(workflow)):
        raise NotFound(f"No workflow {workflow!r}")
    left = _cancel(connection, workflow, "canceled")
    if left is None:
        raise Conflict(f"Workflow {workflow} has ended")
    for member in left:
        with contextlib.suppress(NotFound, Conflict):  # it has ended meanwhile
            actions.cancel(connection, f"{workflow}-{member.decode()}")


def _cancel(connection: redis.Redis, workflow: str, status: str) -> list[bytes] | None:
    members: list[bytes] | None = CANCEL(connection, id=workflow, now=moment(datetime.now(UTC)), status=status)
    return members


def sweep(connection: redis.Redis, number: int, parts: int = 10) -> None:
    """Look after some open workflows: stop those that are to stop, and note ends that nobody has told of.

    Those are of jobs that were deleted, that ran out, or that a stock worker has run. `number`: of this sweep; so many
    of them, one after the other, look after all.
    """
    for workflow in connection.smembers(WORKFLOWS_STOPPING):
        for member in _cancel(connection, workflow.decode(), "") or ():
            actions.change(connection, f"{workflow.decode()}-{member.decode()}", "cancel")  # not what is about to begin
    for workflow in sorted(connection.smembers(WORKFLOWS_OPEN))[number % parts :: parts]:
        try:
            for batch in batches(_open_members(connection, workflow.decode()), BATCH):
                _note_ends(connection, workflow.decode(), batch)
        except (*view.UNREADABLE, redis.ResponseError) as error:
            raise_if_away([error])
            connection.srem(WORKFLOWS_OPEN, workflow)
            log.exception("a workflow cannot be read, and is looked after no more", workflow=repr(workflow))


def _open_members(connection: redis.Redis, workflow: str) -> Iterator[str]:
    raw, ended = connection.hgetall(workflow_key(workflow)), connection.hkeys(f"{workflow_key(workflow)}:ended")
    known = {member.decode() for member in ended}
    for name in orjson.loads(raw.get(b"nodes", b"[]")):
        if raw[f"state:{name}".encode()] == b"open":
            here = members(name, int(raw[f"size:{name}".encode()]))
            yield from (member for member in here if member not in known)


def _note_ends(connection: redis.Redis, workflow: str, members: list[str]) -> None:
    with connection.pipeline(transaction=False) as pipeline:
        for member in members:
            pipeline.hget(job_key(f"{workflow}-{member}"), "status")
            pipeline.xrevrange(results_key(f"{workflow}-{member}"), count=1)
        answers = pipeline.execute()
    for member, status, results in zip(members, answers[::2], answers[1::2], strict=True):
        state = status.decode() if status else "canceled"
        if state in ENDED:
            value = results[0][1].get(b"return_value", b"") if results and state == "finished" else b""
            ADVANCE(connection, id=f"{workflow}-{member}", status=state, value=value)
