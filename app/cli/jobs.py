"""`jobs`: enqueue, wait, watch, list, show, change, cancel, requeue, delete."""

import sys
from typing import Any

import click
import orjson

from app.cli import arguments, complete, follow, job_views
from app.cli.client import ApiResponse
from app.cli.command import EXIT_CODES, Api, Resource
from app.cli.output import print_details, print_message
from app.states import ENDED, STATES

JOB = click.argument("job_id", shell_complete=complete.jobs)

JOB_OPTIONS = arguments.combine_options(
    click.option("--queue", shell_complete=complete.queues),
    click.option("--delay", help="Run after this delay: seconds, or a duration such as 1h30m."),
    click.option("--at", help="Run at this time, such as 2027-01-01T00:00:00Z."),
    click.option("--job-timeout", help="Time limit of a run: seconds, or a duration."),
    click.option("--at-front", is_flag=True, help="Put it at the front of its queue."),
    click.option("--tag", multiple=True, help="Tag of the job; repeatable."),
    click.option("--description"),
)
RETRIES = click.option("--retries", type=click.IntRange(min=1), help="How often to retry the job after failures.")


def filter_options(*statuses: str) -> arguments.Decorator:
    """The options that select jobs."""
    return arguments.combine_options(
        click.option("--status", type=click.Choice(statuses)),
        click.option("--queue", shell_complete=complete.queues),
        click.option("--function", shell_complete=complete.functions),
        click.option("--error", help="Type of the error, such as KeyError."),
        click.option("--tag"),
        click.option("--search", "q", help="Text in the description or arguments."),
        click.option("--since", help="Jobs that ended (else: were created) at or after this time."),
        click.option("--until", help="Jobs that ended (else: were created) before this time."),
    )


def id_or_filter(*statuses: str) -> arguments.Decorator:
    """The arguments of a command for one job by its id, or for all that match a filter."""
    return arguments.combine_options(
        click.argument("job_id", required=False, shell_complete=complete.jobs),
        filter_options(*statuses),
        click.option("--all", is_flag=True, help="All jobs in a suitable state; needed where no filter is given."),
        click.option("--dry-run", is_flag=True, help="Count matching jobs, and change nothing."),
    )


@click.group(cls=Resource, epilog=EXIT_CODES)
def group() -> None:
    """Calls of functions."""


@group.command()
@click.argument("function", shell_complete=complete.functions)
@arguments.CALL_OPTIONS
@JOB_OPTIONS
@click.option("--id", "job_id", help="Id of the job; default: a random one.")
@RETRIES
@click.option("--depends-on", multiple=True, metavar="ID", help="Run after this job has finished; repeatable.")
@arguments.OTHER_OPTIONS
@click.option("--wait", "until_ended", is_flag=True, help="Wait for the end; exit with 1 if the job did not finish.")
@click.option("--timeout", type=click.FloatRange(min=0), help="Seconds to wait at most.")
@click.pass_obj
def enqueue(
    api: Api,
    function: str,
    pairs: tuple[str, ...],
    args: str | None,
    kwargs: str | None,
    job_id: str | None,
    retries: int | None,
    other_options: tuple[str, ...],
    until_ended: bool,
    timeout: float | None,
    **options: Any,
) -> None:
    """Enqueue a call of FUNCTION: `enqueue email.send_message to=a@b.c subject=Hi n:=3`."""
    fields = {**_job_fields(**options, id=job_id, retries=retries), **arguments.parse_pairs(other_options, "--option")}
    body = {**fields, **arguments.parse_call(pairs, args, kwargs), "function": function}
    answer = api.call("POST", "jobs", body=body)
    if until_ended:
        _exit_with(api, follow.wait(api, answer.json["id"], timeout))
    api.show(answer, job_views.print_job)


@group.command()
@JOB
@follow.TIMEOUT_OPTION
@click.pass_obj
def wait(api: Api, job_id: str, timeout: float | None) -> None:
    """Wait for a job's end; exit with 1 if it did not finish."""
    _exit_with(api, follow.wait(api, job_id, timeout))


@group.command()
@click.argument("job_ids", nargs=-1, required=True, metavar="ID...", shell_complete=complete.jobs)
@follow.TIMEOUT_OPTION
@click.pass_obj
def watch(api: Api, job_ids: tuple[str, ...], timeout: float | None) -> None:
    """Show progress until all jobs have ended; exit with 1 if one did not finish. --json prints `{"jobs": [...]}`."""
    answers = follow.watch(api, list(job_ids), timeout)
    combined = ApiResponse(f'{{"jobs":[{",".join(a.text for a in answers)}]}}', {"jobs": [a.json for a in answers]})
    api.show(combined, job_views.print_jobs)
    sys.exit(follow.exit_code(combined.json["jobs"]))


@group.command()
@JOB
@click.option("--follow", "follows", is_flag=True, help="Go on until the job has ended.")
@click.pass_obj
def logs(api: Api, job_id: str, follows: bool) -> None:
    """Print what a job has logged and printed. --json prints `{"lines": [...]}`, with --follow one document a line."""
    if follows:
        for line in follow.log_lines(api, job_id):
            api.show(ApiResponse(orjson.dumps(line).decode(), [line]), job_views.print_log)
    else:
        lines = list(follow.stored_log_lines(api, job_id))
        api.show(ApiResponse(orjson.dumps({"lines": lines}).decode(), lines), job_views.print_log)


@group.command("list")
@filter_options(*STATES)
@arguments.page_options(50)
@click.pass_obj
def list_jobs(api: Api, **query: Any) -> None:
    """List jobs, newest first."""
    api.show(api.call("GET", "jobs", query=query), job_views.print_page)


@group.command()
@JOB
@JOB_OPTIONS
@arguments.OTHER_OPTIONS
@click.pass_obj
def change(api: Api, job_id: str, other_options: tuple[str, ...], **options: Any) -> None:
    """Change a job that has not started. Tags replace all tags of the job; `-o tags:=[]` removes them."""
    body = {**_job_fields(**options), **arguments.parse_pairs(other_options, "--option")}
    api.show(api.call("PATCH", "jobs", job_id, body=body), job_views.print_job)


@group.command()
@id_or_filter(*(state for state in STATES if state not in ENDED))
@click.pass_obj
def cancel(api: Api, job_id: str | None, **filters: Any) -> None:
    """Cancel a job, or stop it if it runs. Without an ID: all jobs that match a filter."""
    fields = _given_filter(job_id, filters)
    if job_id:
        api.show(api.call("POST", "jobs", job_id, "cancel"), job_views.print_job)
    else:
        api.show(_change_all(api, "cancel", fields), print_details)


@group.command()
@id_or_filter(*(state for state in ENDED if state != "finished"))
@arguments.CALL_OPTIONS
@click.option("--job-timeout", help="Time limit of a run: seconds, or a duration.")
@RETRIES
@click.pass_obj
def requeue(
    api: Api,
    job_id: str | None,
    pairs: tuple[str, ...],
    args: str | None,
    kwargs: str | None,
    job_timeout: str | None,
    retries: int | None,
    **filters: Any,
) -> None:
    """Requeue a failed, stopped or canceled job. Without an ID: all failed jobs that match a filter.

    With an ID, --queue, --job-timeout and --retries replace those of the job, and arguments replace all of its
    arguments by name, or by position: `requeue ID email=a@b.c n:=3`.
    """
    changes = {**_job_fields(job_timeout=job_timeout, retries=retries), **arguments.parse_call(pairs, args, kwargs)}
    if job_id:
        changes |= arguments.drop_unset(queue=filters.pop("queue"))
        _given_filter(job_id, filters)
        api.show(api.call("POST", "jobs", job_id, "requeue", body=changes or None), job_views.print_job)
    elif changes:
        raise click.UsageError("arguments, a timeout and retries are for one job: give its ID")
    else:
        fields = _given_filter(job_id, filters)
        fields.pop("all", None)
        api.show(_change_all(api, "requeue", fields), print_details)


@group.command()
@id_or_filter(*STATES)
@click.option("--yes", "-y", is_flag=True, help="Do not ask for confirmation, which only happens on a terminal.")
@click.pass_obj
def delete(api: Api, job_id: str | None, yes: bool, **filters: Any) -> None:
    """Delete a job that does not run, with its result. Without an ID: all jobs that match a filter."""
    fields = _given_filter(job_id, filters)
    if job_id:
        api.show(api.call("DELETE", "jobs", job_id), lambda _: print_message(f"{job_id} is deleted"))
        return
    if not yes and "dry_run" not in fields and sys.stdin.isatty():
        matched = _change_all(api, "delete", {**fields, "dry_run": True}).json["matched"]
        click.confirm(f"Delete {matched} jobs?", abort=True, err=True)
    api.show(_change_all(api, "delete", fields), print_details)


def _job_fields(
    delay: str | None = None,
    job_timeout: str | None = None,
    retries: int | None = None,
    tag: tuple[str, ...] = (),
    **other_options: Any,
) -> dict[str, Any]:
    """Fields of a request from command line options."""
    return arguments.drop_unset(
        delay=arguments.seconds_or_duration(delay),
        timeout=arguments.seconds_or_duration(job_timeout),
        retry={"max": retries} if retries else None,
        tags=tag,
        **other_options,
    )


def _given_filter(job_id: str | None, filters: dict[str, Any]) -> dict[str, Any]:
    """The filter that was given; empty with an id. Raises click.UsageError for neither and for both."""
    fields = arguments.drop_unset(**filters)
    if job_id and fields:
        raise click.UsageError("give an ID or a filter, not both")
    if not job_id and not fields.keys() - {"dry_run"}:
        raise click.UsageError("give an ID, a filter, or --all")
    return fields


def _change_all(api: Api, action: str, filters: dict[str, Any]) -> ApiResponse:
    """Change all jobs that match, in as many requests as it takes, and return the total counts."""
    counts: dict[str, int] = {}
    cursor = None
    while True:
        response = api.call("POST", "jobs", action, body={**filters, "cursor": cursor}).json
        cursor = response.pop("next_cursor")
        counts = {name: counts.get(name, 0) + count for name, count in response.items()}
        if not cursor:
            return ApiResponse(orjson.dumps(counts).decode(), counts)
        print_message(f"{', '.join(f'{count} {name}' for name, count in counts.items())}, and going on")


def _exit_with(api: Api, answer: ApiResponse) -> None:
    """Print a job that has ended, and exit with 0 if it finished, else 1."""
    api.show(answer, job_views.print_job)
    sys.exit(follow.exit_code([answer.json]))


group.add_item_command("show", "jobs", JOB, job_views.print_job, "Show a job with its result or error.", "GET")
