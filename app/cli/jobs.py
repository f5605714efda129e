"""`jobs`: enqueue, wait, watch, list, show, change, cancel, requeue, delete."""

import sys
from typing import Any

import click
import orjson

from app.cli import arguments, complete, follow, job_views
from app.cli.client import Answer
from app.cli.command import EXIT_CODES, Api, Resource
from app.cli.output import details, say
from app.states import ENDED, STATES

JOB = click.argument("job_id", shell_complete=complete.jobs)

HOW = arguments.options(
    click.option("--queue", shell_complete=complete.queues),
    click.option("--delay", help="Run it later: seconds, or a duration such as 1h30m."),
    click.option("--at", help="Run it at this moment, such as 2027-01-01T00:00:00Z."),
    click.option("--job-timeout", help="How long it may run: seconds, or a duration."),
    click.option("--at-front", is_flag=True, help="Before all others in its queue."),
    click.option("--tag", multiple=True, help="May be repeated."),
    click.option("--description"),
)
RETRIES = click.option("--retries", type=click.IntRange(min=1), help="How often it is tried again when it fails.")


def filters(*statuses: str) -> arguments.Decorator:
    """Which jobs are meant."""
    return arguments.options(
        click.option("--status", type=click.Choice(statuses)),
        click.option("--queue", shell_complete=complete.queues),
        click.option("--function", shell_complete=complete.functions),
        click.option("--error", help="The type of the error that ended it, such as KeyError."),
        click.option("--tag"),
        click.option("--search", "q", help="Text in the description or the arguments."),
        click.option("--since", help="Ended, or else made, at this moment or later."),
        click.option("--until", help="Ended, or else made, before this moment."),
    )


def chosen(*statuses: str) -> arguments.Decorator:
    """One job, or those that a filter means."""
    return arguments.options(
        click.argument("job_id", required=False, shell_complete=complete.jobs),
        filters(*statuses),
        click.option("--all", is_flag=True, help="Those that it can be done to, without any filter."),
        click.option("--dry-run", is_flag=True, help="Count, and change nothing."),
    )


@click.group(cls=Resource, epilog=EXIT_CODES)
def group() -> None:
    """Calls of functions."""


@group.command()
@click.argument("function", shell_complete=complete.functions)
@arguments.CALL
@HOW
@click.option("--id", "job_id", help="An id of your own.")
@RETRIES
@click.option("--depends-on", multiple=True, metavar="ID", help="Run it after this job; may be repeated.")
@click.option("--option", "-o", "others", multiple=True, help="Any other of POST /jobs: NAME=TEXT or NAME:=JSON.")
@click.option("--wait", "until_ended", is_flag=True, help="Wait for its end; exit with 1 if it did not finish.")
@click.option("--timeout", type=click.FloatRange(min=0), help="Seconds to wait at most.")
@click.pass_obj
def enqueue(
    api: Api,
    function: str,
    words: tuple[str, ...],
    args: str | None,
    kwargs: str | None,
    job_id: str | None,
    retries: int | None,
    others: tuple[str, ...],
    until_ended: bool,
    timeout: float | None,
    **how: Any,
) -> None:
    """Call FUNCTION: `enqueue email.send_message to=a@b.c subject=Hi n:=3`."""
    given = {**_how(**how, id=job_id, retries=retries), **arguments.named(others, "--option")}
    body = {**given, **arguments.call(words, args, kwargs), "function": function}
    answer = api.call("POST", "jobs", body=body)
    if until_ended:
        _end(api, follow.wait(api, answer.json["id"], timeout))
    api.show(answer, job_views.show)


@group.command()
@JOB
@follow.TIMEOUT
@click.pass_obj
def wait(api: Api, job_id: str, timeout: float | None) -> None:
    """Wait for a job's end; exit with 1 if it did not finish."""
    _end(api, follow.wait(api, job_id, timeout))


@group.command()
@click.argument("job_ids", nargs=-1, required=True, metavar="ID...", shell_complete=complete.jobs)
@follow.TIMEOUT
@click.pass_obj
def watch(api: Api, job_ids: tuple[str, ...], timeout: float | None) -> None:
    """Show how far jobs are, until all have ended; exit with 1 if one did not finish. --json: `{"jobs": [...]}`."""
    answers = follow.watch(api, list(job_ids), timeout)
    together = Answer(f'{{"jobs":[{",".join(a.text for a in answers)}]}}', {"jobs": [a.json for a in answers]})
    api.show(together, job_views.table)
    sys.exit(follow.exit_code(together.json["jobs"]))


@group.command("list")
@filters(*STATES)
@click.option("--limit", type=click.IntRange(1, 500), default=50, show_default=True)
@click.option("--cursor", help="Of the next page, as the last one named it.")
@click.pass_obj
def list_jobs(api: Api, **query: Any) -> None:
    """Jobs, newest first."""
    api.show(api.call("GET", "jobs", query=query), job_views.page)


@group.command()
@JOB
@click.pass_obj
def show(api: Api, job_id: str) -> None:
    """A job, with its result or its error."""
    api.show(api.call("GET", "jobs", job_id), job_views.show)


@group.command()
@JOB
@HOW
@click.option("--option", "-o", "others", multiple=True, help="As PATCH /jobs/ID has it: tags:=[], for example.")
@click.pass_obj
def change(api: Api, job_id: str, others: tuple[str, ...], **how: Any) -> None:
    """Change when, where and how a job runs that has not started; tags that are given replace all that it has."""
    api.show(
        api.call("PATCH", "jobs", job_id, body={**_how(**how), **arguments.named(others, "--option")}), job_views.show
    )


@group.command()
@chosen(*(state for state in STATES if state not in ENDED))
@click.pass_obj
def cancel(api: Api, job_id: str | None, **which: Any) -> None:
    """Cancel a job that has not started, or stop the one that runs; without an ID all that a filter means."""
    meant = _meant(job_id, which)
    if job_id:
        api.show(api.call("POST", "jobs", job_id, "cancel"), job_views.show)
    else:
        api.show(_to_all(api, "cancel", meant), details)


@group.command()
@chosen(*(state for state in ENDED if state != "finished"))
@arguments.CALL
@click.option("--job-timeout", help="How long it may run: seconds, or a duration.")
@RETRIES
@click.pass_obj
def requeue(
    api: Api,
    job_id: str | None,
    words: tuple[str, ...],
    args: str | None,
    kwargs: str | None,
    job_timeout: str | None,
    retries: int | None,
    **which: Any,
) -> None:
    """Put a failed, stopped or canceled job back on its queue; without an ID all that a filter means, failed ones.

    What is said with an ID replaces what the job has: --queue, and its arguments, all of one kind:
    `requeue ID email=a@b.c n:=3`.
    """
    changed = {**_how(job_timeout=job_timeout, retries=retries), **arguments.call(words, args, kwargs)}
    if job_id:
        changed |= arguments.said(queue=which.pop("queue"))
        _meant(job_id, which)
        api.show(api.call("POST", "jobs", job_id, "requeue", body=changed or None), job_views.show)
    elif changed:
        raise click.UsageError("arguments, a timeout and retries are for one job: give its ID")
    else:
        meant = _meant(job_id, which)
        meant.pop("all", None)
        api.show(_to_all(api, "requeue", meant), details)


@group.command()
@chosen(*STATES)
@click.option("--yes", "-y", is_flag=True, help="Do not ask. Only a terminal is asked, before a filter deletes.")
@click.pass_obj
def delete(api: Api, job_id: str | None, yes: bool, **which: Any) -> None:
    """Remove a job and what is kept of it, not while it runs; without an ID all that a filter means."""
    meant = _meant(job_id, which)
    if job_id:
        api.show(api.call("DELETE", "jobs", job_id), lambda _: say(f"{job_id} is deleted"))
        return
    if not yes and "dry_run" not in meant and sys.stdin.isatty():
        matched = _to_all(api, "delete", {**meant, "dry_run": True}).json["matched"]
        click.confirm(f"Delete {matched} jobs?", abort=True, err=True)
    api.show(_to_all(api, "delete", meant), details)


def _how(
    delay: str | None = None,
    job_timeout: str | None = None,
    retries: int | None = None,
    tag: tuple[str, ...] = (),
    **others: Any,
) -> dict[str, Any]:
    """Options as the API has them."""
    return arguments.said(
        delay=arguments.number_or_text(delay),
        timeout=arguments.number_or_text(job_timeout),
        retry={"max": retries} if retries else None,
        tags=tag,
        **others,
    )


def _meant(job_id: str | None, which: dict[str, Any]) -> dict[str, Any]:
    """Of a filter, what is given; nothing, with an ID. Raises click.UsageError for neither and both."""
    meant = arguments.said(**which)
    if job_id and meant:
        raise click.UsageError("give an ID or a filter, not both")
    if not job_id and not meant.keys() - {"dry_run"}:
        raise click.UsageError("give an ID, a filter, or --all")
    return meant


def _to_all(api: Api, action: str, meant: dict[str, Any]) -> Answer:
    """Do it to all that are meant, in as many requests as it takes; what they have counted together."""
    counts: dict[str, int] = {}
    cursor = None
    while True:
        said = api.call("POST", "jobs", action, body={**meant, "cursor": cursor}).json
        cursor = said.pop("next_cursor")
        counts = {name: counts.get(name, 0) + count for name, count in said.items()}
        if not cursor:
            return Answer(orjson.dumps(counts).decode(), counts)
        say(f"{', '.join(f'{count} {name}' for name, count in counts.items())}, and going on")


def _end(api: Api, answer: Answer) -> None:
    """Show a job that has ended, and exit by how."""
    api.show(answer, job_views.show)
    sys.exit(follow.exit_code([answer.json]))
