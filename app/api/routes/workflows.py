"""/workflows: submit a graph of jobs, look, list, cancel."""

from typing import Any

from flask import Response

from app.api import once
from app.api.auth import requires
from app.api.context import answer, context, page
from app.api.disclosure import shown
from app.api.openapi import ONCE, blueprint
from app.api.routes.jobs import new_job, unserved
from app.api.schemas.workflows import (
    HookBody,
    NodeBody,
    Workflow,
    WorkflowBody,
    WorkflowPath,
    Workflows,
    WorkflowsQuery,
    WorkflowSummary,
)
from app.author.options import WORKFLOW_EVENTS
from app.enqueue.new_job import NewJob
from app.errors import MAX_LISTED, Invalid
from app.lifecycle import outbox
from app.webhooks import webhook_delivery
from app.workflows import store, view
from app.workflows.graph import HOOKS, Dependency, Node, check
from app.workflows.results import find_references

MOST_JOBS = 20_000

api = blueprint("workflows", "workflows", "/api/v1/workflows")


@api.post("", responses={202: WorkflowSummary}, openapi_extensions=ONCE)
@requires("enqueue")
def submit(body: WorkflowBody) -> Response:
    """Submit a graph of jobs: all of it, or nothing."""
    nodes = [_node(one, f"#/jobs/{number}") for number, one in enumerate(body.jobs)]
    hooks = {name: said for name in HOOKS if (said := getattr(body, name))}
    ends = [Node(name, said.function, said.args, said.kwargs, pointer=f"#/{name}") for name, said in hooks.items()]
    wanted = check(nodes, ends)
    if sum(len(node.calls()) for node in nodes) > MOST_JOBS:
        raise Invalid("The workflow is too large", [{"detail": f"more than {MOST_JOBS} jobs", "pointer": "#/jobs"}])
    workflow, settings = store.new_id(), context().settings
    said = body.webhook.as_webhook() if body.webhook else None
    webhook = webhook_delivery.choose(said, webhook_delivery.service_webhook(settings, WORKFLOW_EVENTS), settings, "#")
    made = _made(workflow, webhook is not None, list(zip([*nodes, *ends], [*body.jobs, *hooks.values()], strict=True)))
    flow = store.NewWorkflow(
        workflow, body.name, made[: len(nodes)], made[len(nodes) :], body.on_error, wanted,
        settings.result_ttl, settings.failure_ttl, webhook,
    )  # fmt: skip

    warned = unserved((job for _, jobs in made for job in jobs), delivers=webhook is not None)
    summary, receipt = {**flow.summary(), **warned}, once.receipt()
    if receipt:
        receipt.answer = {"body": summary, "status": 202}
    kept = store.create(context().redis, flow, receipt)
    return once.replayed(kept) if kept else once.answered(summary, 202)


@api.get("", responses={200: Workflows})
@requires("read")
def list_workflows(query: WorkflowsQuery) -> Response:
    """Workflows, newest first."""
    return page("workflows", *view.list_workflows(context().redis, query.limit, query.cursor, query.status, query.name))


@api.get("/<string:workflow_id>", responses={200: Workflow})
@requires("read")
def get_workflow(path: WorkflowPath) -> Response:
    """The graph, and how each of its jobs stands."""
    return answer(view.get(context().redis, path.workflow_id))


@api.post("/<string:workflow_id>/cancel", responses={202: Workflow})
@requires("enqueue")
def cancel(path: WorkflowPath) -> Response:
    """Cancel what has not begun, and stop what runs."""
    connection = context().redis
    store.cancel(connection, path.workflow_id)
    outbox.follow_up(connection)
    return answer(shown(view.get(connection, path.workflow_id)), 202)


def _node(body: NodeBody, pointer: str) -> Node:
    after = [
        Dependency(one) if isinstance(one, str) else Dependency(one.name, one.even_if_failed) for one in body.after
    ]
    return Node(body.name, body.function, body.args, body.kwargs, after, body.each, pointer)


def _made(workflow: str, announced: bool, said: list[tuple[Node, HookBody]]) -> store.NodeJobs:
    """The jobs of each node. Raises Invalid, with all that is wrong."""
    made: store.NodeJobs = []
    errors: list[dict[str, str]] = []
    for node, body in said:
        try:
            made.append((node, [_job(workflow, announced, node, body, *call) for call in enumerate(node.calls())]))
        except Invalid as error:
            errors += error.errors or []
            if len(errors) > MAX_LISTED:
                break
    if errors:
        raise Invalid("No workflow was made", errors)
    return made


def _job(workflow: str, announced: bool, node: Node, body: HookBody, number: int, args: list[Any]) -> NewJob:
    unknown = [place[1:] for place, _ in find_references({"args": args, "kwargs": node.kwargs})]
    job = new_job(body.model_copy(update={"args": args}), node.pointer, unknown)
    return store.assign_to_workflow(job, workflow, node, number, body.delay, announced)
