"""/workflows: submit, list, get, cancel."""

from typing import Any

from flask import Response

from app.api import idempotency, new_jobs
from app.api.auth import requires
from app.api.context import context, json_response, page, request_traceparent
from app.api.disclosure import redact
from app.api.openapi import IDEMPOTENCY_KEY, blueprint
from app.api.schemas.workflows import (
    HookBody,
    NodeBody,
    Workflow,
    WorkflowBody,
    WorkflowOrReference,
    WorkflowPath,
    Workflows,
    WorkflowsQuery,
    WorkflowSummary,
)
from app.author.options import WORKFLOW_EVENTS
from app.enqueue.new_job import NewJob
from app.errors import MAX_LISTED_ERRORS, Invalid
from app.lifecycle import outbox
from app.webhooks import webhook_delivery
from app.workflows import store, view
from app.workflows.graph import HOOKS, Dependency, Node, check
from app.workflows.results import find_references

MAX_JOBS = 20_000

api = blueprint("workflows", "workflows", "/api/v1/workflows")


@api.post("", responses={202: WorkflowSummary}, openapi_extensions=IDEMPOTENCY_KEY)
@requires("enqueue")
def submit(body: WorkflowBody) -> Response:
    """Submit a workflow.

    Either all of its jobs are stored, or none.
    """
    nodes = [_node(node, f"#/jobs/{number}") for number, node in enumerate(body.jobs)]
    hooks = {name: hook for name in HOOKS if (hook := getattr(body, name))}
    hook_nodes = [
        Node(name, hook.function, hook.args, hook.kwargs, pointer=f"#/{name}") for name, hook in hooks.items()
    ]
    needed_results = check(nodes, hook_nodes)
    if sum(len(node.calls()) for node in nodes) > MAX_JOBS:
        raise Invalid("The workflow is too large", [{"detail": f"more than {MAX_JOBS} jobs", "pointer": "#/jobs"}])
    workflow, settings = store.new_id(), context().settings
    own_webhook = body.webhook.as_webhook() if body.webhook else None
    webhook = webhook_delivery.choose(
        own_webhook, webhook_delivery.service_webhook(settings, WORKFLOW_EVENTS), settings, "#"
    )
    prepared = _prepare_jobs(
        workflow, webhook is not None, list(zip([*nodes, *hook_nodes], [*body.jobs, *hooks.values()], strict=True))
    )
    flow = store.NewWorkflow(
        workflow, body.name, prepared[: len(nodes)], prepared[len(nodes) :], body.on_error, needed_results,
        settings.result_ttl, settings.failure_ttl, webhook,
    )  # fmt: skip

    warnings = new_jobs.unserved_warnings((job for _, jobs in prepared for job in jobs), delivers=webhook is not None)
    summary, receipt = {**flow.summary(), **warnings}, idempotency.receipt()
    if receipt:
        receipt.answer = {"body": summary, "status": 202}
    stored = store.create(context().redis, flow, receipt, request_traceparent())
    return idempotency.replay(stored) if stored else idempotency.respond(summary, 202)


@api.get("", responses={200: Workflows})
@requires("read")
def list_workflows(query: WorkflowsQuery) -> Response:
    """List workflows, newest first."""
    return page("workflows", *view.list_workflows(context().redis, query.limit, query.cursor, query.status, query.name))


@api.get("/<string:workflow_id>", responses={200: Workflow})
@requires("read")
def get_workflow(path: WorkflowPath) -> Response:
    """Get a workflow with the status of each of its jobs."""
    return json_response(view.get(context().redis, path.workflow_id))


@api.post("/<string:workflow_id>/cancel", responses={202: WorkflowOrReference})
@requires("enqueue")
def cancel(path: WorkflowPath) -> Response:
    """Cancel a workflow.

    Jobs that have not started are canceled, and running jobs are being stopped.
    """
    connection = context().redis
    store.cancel(connection, path.workflow_id)
    outbox.follow_up(connection)
    return json_response(redact(view.get(connection, path.workflow_id)), 202)


def _node(body: NodeBody, pointer: str) -> Node:
    after = [
        Dependency(need) if isinstance(need, str) else Dependency(need.name, need.even_if_failed) for need in body.after
    ]
    return Node(body.name, body.function, body.args, body.kwargs, after, body.each, pointer)


def _prepare_jobs(workflow: str, announced: bool, node_bodies: list[tuple[Node, HookBody]]) -> store.NodeJobs:
    """The jobs of each node. Raises Invalid with the errors of all jobs."""
    prepared: store.NodeJobs = []
    errors: list[dict[str, str]] = []
    for node, body in node_bodies:
        try:
            prepared.append(
                (node, [_prepare_job(workflow, announced, node, body, *call) for call in enumerate(node.calls())])
            )
        except Invalid as error:
            errors += error.errors or []
            if len(errors) > MAX_LISTED_ERRORS:
                break
    if errors:
        raise Invalid("No workflow was created: some of its jobs are invalid", errors)
    return prepared


def _prepare_job(workflow: str, announced: bool, node: Node, body: HookBody, number: int, args: list[Any]) -> NewJob:
    unknown = [place[1:] for place, _ in find_references({"args": args, "kwargs": node.kwargs})]
    job = new_jobs.prepare(body.model_copy(update={"args": args}), node.pointer, unknown)
    return store.assign_to_workflow(job, workflow, node, number, body.delay, announced)
