"""What holds of a world after every step."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from app.redis.keys import LIMITS_WAITING, job_key, limit_key, workflow_key
from app.workflows.graph import HOOKS
from tests.contents import Contents, contents
from tests.invariants import broken_in
from tests.properties.model import DEAD

if TYPE_CHECKING:
    from tests.properties.world import World


def problems(world: World) -> list[str]:
    """What does not hold, in words."""
    stored = contents(world.connection)
    return [
        *broken_in(stored),
        *_states(world, stored),
        *_locks(world, stored),
        *_limits(world, stored),
        *_dependencies(world, stored),
        *(text for workflow in world.workflows for text in _workflow(world, stored, workflow)),
    ]


def _value(stored: Contents, key: str, default: Any) -> Any:
    return stored[key].value if key in stored else default


def _hash(stored: Contents, key: str) -> dict[str, str]:
    return {name.decode(): value.decode(errors="replace") for name, value in _value(stored, key, {}).items()}


def _states(world: World, stored: Contents) -> Iterator[str]:
    """Each job is as the model has it from events."""
    ids = {
        key.removeprefix("rq:job:") for key, content in stored.items()
        if key.startswith("rq:job:") and content.kind == "hash"
    }  # fmt: skip
    if ids != world.model.jobs.keys():
        yield f"there are jobs {sorted(ids)}, and not {sorted(world.model.jobs)}"
    for job in world.model.jobs.values():
        fields = _hash(stored, job_key(job.id))
        if (fields.get("status"), fields.get("origin")) != (job.stored_status, job.queue):
            yield f"{job.id} is {fields.get('status')} in {fields.get('origin')}, and was told to be {job}"
        if job.status in ("failed", "stopped", "canceled", "finished") and not fields.get("ended_at"):
            yield f"{job.id} is {job.status} and has no end"
        if job.status in ("queued", "claimed", "deferred") and "reason" in fields:
            yield f"{job.id} is {job.status} and keeps the end of another life"


def _locks(world: World, stored: Contents) -> Iterator[str]:
    held = {key: content.value.decode() for key, content in stored.items() if key.startswith("jobline:unique:")}
    if held != world.model.locks:
        yield f"unique locks are {held}, and not {world.model.locks}"


def _limits(world: World, stored: Contents) -> Iterator[str]:
    waits, held = dict[str, str](), dict[str, set[str]]()
    limits = dict[str, list[Any]]()
    for job in world.model.jobs.values():
        fields = _hash(stored, job_key(job.id))
        limits |= {limit[1]: limit for limit in json.loads(fields.get("limits", "[]")) if limit[0] != "breaker"}
        if name := fields.get("waits_for"):
            waits[job.id] = name
            if job.status not in ("queued", "scheduled"):
                yield f"{job.id} is {job.status}, and waits for {name}"
    for execution, known in world.model.executions.items():
        for limit in json.loads(known.limits or b"[]"):
            if limit[0] == "slots":
                held.setdefault(limit[1], set()).add(f"{known.queue}|{known.job}:{execution}")
    looked_at = {json.loads(member)[1] for member in _value(stored, LIMITS_WAITING, {})}
    names = {
        *held,
        *limits,
        *(key.split(":", 2)[2].rpartition(":")[0] for key in stored if key.startswith("jobline:limit:")),
    }
    for name in sorted(names):
        here = {member.decode() for member in _value(stored, limit_key(name, "held"), set())}
        if here != held.get(name, set()):
            yield f"{name} is held by {here}, and {held.get(name)} run"
        waiting = Counter(member.decode() for member in _value(stored, limit_key(name, "waiting"), []))
        expected = Counter(job_id for job_id, limit in waits.items() if limit == name)
        if waiting != expected:
            yield f"{dict(waiting)} stand in the list of {name}, and {dict(expected)} wait for it"
        let_go = {member.decode() for member in _value(stored, limit_key(name, "let_go"), set())}
        if (waiting or let_go) and name not in looked_at:
            yield f"nobody will look at {name}, for which {waiting} wait"
        if name in limits and len(here) > limits[name][2] and name.startswith("slots"):
            yield f"{name} is held by {here}"
        if world.just_looked and waiting and name in limits:
            taken = len(here) if name.startswith("slots") else len(_value(stored, limit_key(name, "starts"), []))
            if taken + len(let_go) < limits[name][2]:
                yield f"{name} has room, and {dict(waiting)} wait for it"
        for job_id in let_go if world.just_looked else ():
            if job_id not in world.model.jobs or world.model.jobs[job_id].status not in ("queued", "claimed"):
                yield f"{name} keeps a place for {job_id}, which is not queued"


def _dependencies(world: World, stored: Contents) -> Iterator[str]:
    for job in world.model.jobs.values():
        if job.status != "deferred" or job.workflow:
            continue
        if all(
            world.model.jobs[parent].status == "finished" for parent in job.parents if parent in world.model.jobs
        ) and not (set(job.parents) - world.model.jobs.keys()):
            yield f"{job.id} waits for {job.parents}, which have all finished"
        for parent in job.parents:
            known = world.model.jobs.get(parent)
            children = _value(stored, f"rq:job:{parent}:dependents", set())
            if known and known.status != "finished" and job.id.encode() not in children:
                yield f"{parent} does not know that {job.id} waits for it"


def _workflow(world: World, stored: Contents, workflow: str) -> Iterator[str]:
    fields = _hash(stored, workflow_key(workflow))
    ended = _hash(stored, f"{workflow_key(workflow)}:ended")
    nodes = json.loads(fields["nodes"])
    failed = dict[str, bool]()
    over = dict[str, bool]()
    for node in [*nodes, *HOOKS]:
        if f"size:{node}" not in fields:
            continue
        size = int(fields[f"size:{node}"])
        members = [node] if size < 0 else [f"{node}-{number}" for number in range(size)]
        states = {member: world.model.jobs.get(f"{workflow}-{member}") for member in members}
        over[node] = all(member in ended for member in members)
        failed[node] = any(ended.get(member, "finished") != "finished" for member in members)
        for member, job in states.items():
            if job and job.status in (*DEAD, "finished") and ended.get(member) != job.status and node not in HOOKS:
                yield f"{job.id} is {job.status}, and its workflow has {ended.get(member)}"
            if job and member in ended and job.status not in (*DEAD, "finished") and node not in HOOKS:
                yield f"{job.id} is {job.status}, and its workflow has {ended[member]}"
            if job and job.status == "deferred" and fields[f"state:{node}"] != "waiting":
                yield f"{job.id} is deferred, and its node is {fields[f'state:{node}']}"
        if node not in HOOKS:
            left = sum(member not in ended for member in members)
            if int(fields[f"open:{node}"]) != left:
                yield f"{workflow} counts {fields[f'open:{node}']} of {node}, and {left} have not ended"
    for node in nodes:
        state = fields[f"state:{node}"]
        if (state not in ("waiting", "open")) != over[node]:
            yield f"{workflow} has {node} as {state}, and its jobs have ended: {over[node]}"
        parents = json.loads(fields.get(f"parents:{node}", "[]"))
        if state == "waiting":
            if any(failed[parent] and even != 1 for parent, even in parents):
                yield f"{workflow}: {node} waits, and it needs one that has failed"
            needs = sum(not over[parent] for parent, _ in parents)
            if int(fields[f"needs:{node}"]) != needs:
                yield f"{workflow}: {node} waits for {fields[f'needs:{node}']}, and {needs} have not ended"
            if not needs:
                yield f"{workflow}: {node} waits, and all that it needs have ended"
    left = sum(not over[node] for node in nodes)
    if int(fields["left"]) != left:
        yield f"{workflow} counts {fields['left']} nodes, and {left} have not ended"
    if (fields["status"] == "running" and not left) or ("ended_at" in fields) != (left == 0):
        yield f"{workflow} is {fields['status']}, {left} nodes have not ended, and its end is {fields.get('ended_at')}"
    counts = Counter(status for member, status in ended.items() if member not in HOOKS)
    if counts != Counter({status: int(fields.get(f"count:{status}", 0)) for status in (*DEAD, "finished")}):
        shown = {name: value for name, value in fields.items() if name.startswith("count:")}
        yield f"{workflow} counts {shown}, not {counts}"
