"""`workflows`: submit, watch, list, show, cancel."""

import sys
from typing import IO, Any

import click

from app.cli import arguments, complete, follow
from app.cli.command import EXIT_CODES, Api, Resource
from app.cli.output import format_time, one_line, print_details, print_page_end, print_table, print_warnings

WORKFLOW_ARGUMENT = click.argument("workflow_id", shell_complete=complete.workflows)


@click.group(cls=Resource, epilog=EXIT_CODES)
def group() -> None:
    """Graphs of jobs."""


@group.command()
@click.argument("file", type=click.File())
@click.pass_obj
def submit(api: Api, file: IO[str]) -> None:
    """Submit the workflow in FILE, the JSON body of POST /workflows; - reads stdin."""
    api.show(api.call("POST", "workflows", body=arguments.parse_json(file.read(), file.name)), _print_summary)


@group.command()
@WORKFLOW_ARGUMENT
@follow.TIMEOUT_OPTION
@click.pass_obj
def watch(api: Api, workflow_id: str, timeout: float | None) -> None:
    """Show a workflow's progress until it has ended; exit with 1 if it did not finish."""
    answer = follow.watch_workflow(api, workflow_id, timeout)
    api.show(answer, _print_workflow)
    sys.exit(follow.exit_code([answer.json]))


@group.command("list")
@click.option("--status", type=click.Choice(["running", "finished", "failed", "canceled"]))
@click.option("--name", help="Workflows with this name.")
@arguments.page_options(50)
@click.pass_obj
def list_workflows(api: Api, **query: Any) -> None:
    """List workflows, newest first."""
    api.show(api.call("GET", "workflows", query=query), _print_page)


def _print_page(page: Any) -> None:
    rows = (
        (workflow["id"], workflow["name"], workflow["status"], _ended_count(workflow["counts"]),
         format_time(workflow["created_at"]))
        for workflow in page["workflows"]
    )  # fmt: skip
    print_table(("id", "name", "status", "ended", "created"), rows)
    print_page_end(page)


def _print_summary(workflow: Any) -> None:
    known = {name: workflow[name] for name in ("id", "name", "status")}
    moments = {name: format_time(workflow[f"{name}_at"]) for name in ("created", "ended")}
    print_details({**known, "jobs": _ended_count(workflow["counts"]), **moments})
    print_warnings(workflow)


def _print_workflow(workflow: Any) -> None:
    if "status" not in workflow:  # a reference: the API key lacks the scope `read`
        print_details({"id": workflow["id"]})
        return
    _print_summary(workflow)
    click.echo()
    rows = (
        (job["name"], job["id"], job["function"], job["status"], ", ".join(need["name"] for need in job["after"]),
         _result_or_error(job))
        for job in workflow["jobs"]
    )  # fmt: skip
    print_table(("name", "id", "function", "status", "after", "result"), rows)


def _ended_count(counts: dict[str, int]) -> str:
    ended = sum(counts[state] for state in ("finished", "failed", "stopped", "canceled"))
    return f"{ended} of {counts['total']}"


def _result_or_error(job: Any) -> str:
    error = job["error"]
    return f"{error['type']}: {error['message']}" if error else one_line(job["result"])


for verb, method, help_text in (
    ("show", "GET", "Show a workflow with the status of each of its jobs."),
    ("cancel", "POST", "Cancel the jobs of a workflow that have not started, and stop those that run."),
):
    group.add_item_command(verb, "workflows", WORKFLOW_ARGUMENT, _print_workflow, help_text, method)
