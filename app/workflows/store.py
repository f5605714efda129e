"""Workflows as Redis holds them (library.lua says how): written, read, listed, canceled, and swept."""

import contextlib
import uuid
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import orjson
import redis
from redis.client import Pipeline

from app import changes, job_state, queueing
from app.errors import BadRequest, Conflict, NotFound
from app.queueing import NewJob, Receipt
from app.redis import (
    WORKFLOWS,
    WORKFLOWS_OPEN,
    WORKFLOWS_STOPPING,
    batches,
    job_key,
    moment,
    results_key,
    script,
    workflow_key,
)
from app.serializer import JSON
from app.workflows.graph import HOOKS, Node
from app.workflows.results import Reference, filled, found_in

BATCH = 500
FAILURES_SHOWN = 100
LIBRARY = "workflows/library"

Made = list[tuple[Node, list[NewJob]]]


def new_id() -> str:
    return uuid.uuid4().hex


def job_id(workflow: str, node: Node, number: int) -> str:
    return f"{workflow}-{node.name}" if node.each is None else f"{workflow}-{node.name}-{number}"


def adopt(job: NewJob, workflow: str, node: Node, number: int, delay: float | None) -> NewJob:
    """Make a job one of a workflow's."""
    job.id, job.meta = job_id(workflow, node, number), {**job.meta, "workflow": workflow}
    job.ours = {**job.ours, "follow": f"workflow {job.ours.get('follow', '')}".strip()}
    if node.after or node.name in HOOKS:
        job.status, job.at = "deferred", None
        if delay:
            job.ours["wait"] = delay
    elif job.at:
        job.status = "scheduled"
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
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    @cached_property
    def hash(self) -> dict[str, Any]:
        """As library.lua has it."""
        fields: dict[str, Any] = {
            "name": self.name or "", "status": "running", "on_error": self.on_error,
            "created_at": moment(self.created_at), "left": len(self.nodes),
            "result_ttl": self.result_ttl, "failure_ttl": self.failure_ttl,
            "nodes": orjson.dumps([node.name for node, _ in self.nodes]),
            "graph": orjson.dumps([_shown(node) for node, _ in (*self.nodes, *self.hooks)]),
        }  # fmt: skip
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
        raw = {name.encode(): self.hash[name].encode() for name in ("name", "status", "created_at")}
        return _summary(self.id, {**raw, b"graph": self.hash["graph"]})


def create(connection: redis.Redis, flow: NewWorkflow, receipt: Receipt | None) -> None:
    """Write a workflow, and queue what needs nothing."""
    if receipt:
        receipt.claim()

    def write(pipeline: Pipeline) -> None:
        if pipeline.exists(workflow_key(flow.id)):
            return  # the transaction had held, and its answer was lost
        if receipt:
            receipt.judge(pipeline.get(receipt.key))
        pipeline.multi()
        pipeline.hset(workflow_key(flow.id), mapping=flow.hash)
        pipeline.zadd(WORKFLOWS, {flow.id: flow.created_at.timestamp()})
        pipeline.sadd(WORKFLOWS_OPEN, flow.id)
        queueing.write(pipeline, [job for _, jobs in (*flow.nodes, *flow.hooks) for job in jobs])
        if receipt and (value := receipt.value([flow.id])):
            pipeline.set(receipt.key, value, ex=receipt.kept)

    connection.transaction(write, workflow_key(flow.id), *([receipt.key] if receipt else []))


def _shown(node: Node) -> dict[str, Any]:
    after = [{"name": need.name, "even_if_failed": need.even_if_failed} for need in node.after]
    return {"name": node.name, "function": node.function, "after": after, "size": node.each and len(node.each)}


def _members(node: str, size: int) -> list[str]:
    """The jobs of a node, by what stands behind the workflow's id; `size` as library.lua has it."""
    return [node] if size < 0 else [f"{node}-{number}" for number in range(size)]


def with_results(connection: redis.Redis, job_id: str, args: list[Any], kwargs: dict[str, Any]) -> list[Any]:
    """[args, kwargs], with the results that they name. Raises NoResult."""
    names = {Reference.parse(text).job for _, text in found_in([args, kwargs])}
    key = workflow_key(job_id.partition("-")[0])
    results = {}
    for name in names:
        size = int(connection.hget(key, f"size:{name}") or -1)
        if size < 0:
            found = connection.hget(f"{key}:results", name)
            if found is not None:
                results[name] = _value(found)
        else:
            results[name] = [_value(one) for one in connection.hmget(f"{key}:results", _members(name, size))]
    answer: list[Any] = filled([args, kwargs], results)
    return answer


def _value(result: bytes | None) -> Any:
    return JSON.loads(b64decode(result)) if result else None


def get(connection: redis.Redis, workflow: str) -> dict[str, Any]:
    """As JSON: each job's state; errors of some that failed, and the results of the last ones. Raises NotFound."""
    raw, ended = connection.hgetall(workflow_key(workflow)), connection.hgetall(f"{workflow_key(workflow)}:ended")
    if not raw:
        raise NotFound(f"No workflow {workflow!r}")
    jobs = []
    for node in orjson.loads(raw[b"graph"]):
        single = node["size"] is None
        for number, member in enumerate(_members(node["name"], -1 if single else node["size"])):
            shown = node["name"] if single else f"{node['name']}[{number}]"
            state = ended.get(member.encode(), b"").decode()
            last = f"children:{node['name']}".encode() not in raw
            jobs.append(
                {
                    "name": shown,
                    "id": f"{workflow}-{member}",
                    "function": node["function"],
                    "status": state,
                    "result": None,
                    "error": None,
                    "after": node["after"],
                    "last": last,
                }
            )
    _look(connection, jobs)
    return {**_summary(workflow, raw), "jobs": jobs}


def _look(connection: redis.Redis, jobs: list[dict[str, Any]]) -> None:
    """Complete what the workflow itself does not know of its jobs."""
    for some in batches((job for job in jobs if not job["status"]), BATCH):
        with connection.pipeline(transaction=False) as pipeline:
            for job in some:
                pipeline.hget(job_key(job["id"]), "status")
            for job, status in zip(some, pipeline.execute(), strict=True):
                job["status"] = status.decode() if status else "canceled"
    failed = [job for job in jobs if job["status"] not in ("finished", "queued", "deferred")][:FAILURES_SHOWN]
    whole = failed + [job for job in jobs if job.pop("last") and job["status"] == "finished"]
    for some in batches(whole, BATCH):
        for job, known in zip(some, job_state.fetch(connection, [job["id"] for job in some]), strict=True):
            if known:
                job["result"], job["error"] = known["result"], known["error"]


def _summary(workflow: str, raw: dict[bytes, bytes]) -> dict[str, Any]:
    sizes = [node["size"] or 1 for node in orjson.loads(raw[b"graph"]) if node["name"] not in HOOKS]
    counts = {state: int(raw.get(f"count:{state}".encode(), 0)) for state in job_state.ENDED}
    return {
        "id": workflow,
        "name": raw[b"name"].decode() or None,
        "status": raw[b"status"].decode(),
        "created_at": raw[b"created_at"].decode(),
        "ended_at": raw.get(b"ended_at", b"").decode() or None,
        "counts": {"total": sum(sizes), **counts},
        "links": {"self": f"/api/v1/workflows/{workflow}"},
    }


def list_(
    connection: redis.Redis, limit: int, cursor: str | None, status: str | None, name: str | None
) -> tuple[list[dict[str, Any]], str | None]:
    """A page, the newest first, and the cursor of the next one. Raises BadRequest."""
    place = _place(cursor)
    page: list[dict[str, Any]] = []
    while True:
        ids = [one.decode() for one in connection.zrevrange(WORKFLOWS, place, place + BATCH - 1)]
        if not ids:
            return page, None
        with connection.pipeline(transaction=False) as pipeline:
            for one in ids:
                pipeline.hgetall(workflow_key(one))
            raws = pipeline.execute()
        for one, raw in zip(ids, raws, strict=True):
            if not raw:  # it has run out
                connection.zrem(WORKFLOWS, one)
                continue
            place += 1
            found = _summary(one, raw)
            if (not status or found["status"] == status) and (not name or found["name"] == name):
                page.append(found)
                if len(page) == limit:
                    return page, str(place)


def _place(cursor: str | None) -> int:
    if cursor is None:
        return 0
    if not (cursor.isdecimal() and len(cursor) < 12):
        raise BadRequest("The cursor is not one of ours")
    return int(cursor)


def cancel(connection: redis.Redis, workflow: str) -> None:
    """Cancel all that has not ended, and stop what runs. Raises NotFound; Conflict: it has ended."""
    if not connection.exists(workflow_key(workflow)):
        raise NotFound(f"No workflow {workflow!r}")
    left = _cancel(connection, workflow, "canceled")
    if left is None:
        raise Conflict(f"Workflow {workflow} has ended")
    for member in left:
        with contextlib.suppress(NotFound, Conflict):  # it has ended meanwhile
            changes.cancel(connection, f"{workflow}-{member.decode()}")


def _cancel(connection: redis.Redis, workflow: str, status: str) -> list[bytes] | None:
    found: list[bytes] | None = script(connection, LIBRARY, "workflows/cancel")(
        args=[workflow, moment(datetime.now(UTC)), status]
    )
    return found


def sweep(connection: redis.Redis, number: int) -> None:
    """Look after some open workflows: stop those that are to stop, and note ends that nobody has told of.

    Those are of jobs that were deleted, that ran out, or that a stock worker has run. `number`: of this sweep.
    """
    for workflow in connection.smembers(WORKFLOWS_STOPPING):
        for member in _cancel(connection, workflow.decode(), "") or ():
            changes.change(connection, f"{workflow.decode()}-{member.decode()}", "cancel")  # not what is about to begin
    for workflow in sorted(connection.smembers(WORKFLOWS_OPEN))[number % 10 :: 10]:
        for batch in batches(_open_members(connection, workflow.decode()), BATCH):
            _note_ends(connection, workflow.decode(), batch)


def _open_members(connection: redis.Redis, workflow: str) -> Iterator[str]:
    raw, ended = connection.hgetall(workflow_key(workflow)), connection.hkeys(f"{workflow_key(workflow)}:ended")
    known = {member.decode() for member in ended}
    for name in orjson.loads(raw.get(b"nodes", b"[]")):
        if raw[f"state:{name}".encode()] == b"open":
            members = _members(name, int(raw[f"size:{name}".encode()]))
            yield from (member for member in members if member not in known)


def _note_ends(connection: redis.Redis, workflow: str, members: list[str]) -> None:
    with connection.pipeline(transaction=False) as pipeline:
        for member in members:
            pipeline.hget(job_key(f"{workflow}-{member}"), "status")
            pipeline.xrevrange(results_key(f"{workflow}-{member}"), count=1)
        answers = pipeline.execute()
    for member, status, results in zip(members, answers[::2], answers[1::2], strict=True):
        state = status.decode() if status else "canceled"
        if state in job_state.ENDED:
            value = results[0][1].get(b"return_value", b"") if results and state == "finished" else b""
            script(connection, LIBRARY, "workflows/advance")(args=[f"{workflow}-{member}", state, value])
