"""`jobs`: enqueue, wait, watch, list, show, cancel, requeue, delete."""

import sys
from typing import Any

import click

from app.cli import arguments, complete, follow
from app.cli.client import Answer
from app.cli.command import EXIT_CODES, Api, Resource
from app.cli.output import block, details, moment, say, table
from app.selection import STATES

JOB = click.argument("job_id", shell_complete=complete.jobs)
COLUMNS = ("id", "function", "status", "queue", "created")


@click.group(cls=Resource, epilog=EXIT_CODES)
def group() -> None:
    """Calls of functions."""


@group.command()
@click.argument("function", shell_complete=complete.functions)
@click.argument("words", nargs=-1, metavar="[NAME=TEXT | NAME:=JSON]...")
@click.option("--args", metavar="JSON", help="Positional arguments, an array; -: from stdin.")
@click.option("--kwargs", metavar="JSON", help="Arguments by name, an object; -: from stdin.")
@click.option("--queue", shell_complete=complete.queues)
@click.option("--id", "job_id", help="An id of your own.")
@click.option("--delay", help="Run it later: seconds, or a duration such as 1h30m.")
@click.option("--at", help="Run it at this moment, such as 2027-01-01T00:00:00Z.")
@click.option("--job-timeout", help="How long it may run: seconds, or a duration.")
@click.option("--retries", type=click.IntRange(min=1), help="How often it is tried again when it fails.")
@click.option("--depends-on", multiple=True, metavar="ID", help="Run it after this job; may be repeated.")
@click.option("--at-front", is_flag=True, help="Before all others in its queue.")
@click.option("--tag", multiple=True, help="May be repeated.")
@click.option("--description")
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
    delay: str | None,
    job_timeout: str | None,
    retries: int | None,
    tag: tuple[str, ...],
    others: tuple[str, ...],
    until_ended: bool,
    timeout: float | None,
    **options: Any,
) -> None:
    """Call FUNCTION: `enqueue email.send_message to=a@b.c subject=Hi n:=3`."""
    given = arguments.said(
        id=job_id,
        delay=arguments.number_or_text(delay),
        timeout=arguments.number_or_text(job_timeout),
        retry={"max": retries} if retries else None,
        tags=tag,
        **options,
    )
    body = {**given, **arguments.named(others, "--option"), **arguments.call(words, args, kwargs), "function": function}
    answer = api.call("POST", "jobs", body=body)
    if until_ended:
        _end(api, follow.wait(api, answer.json["id"], timeout))
    api.show(answer, _show)


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
    api.show(together, _table)
    sys.exit(follow.exit_code(together.json["jobs"]))


@group.command("list")
@click.option("--status", type=click.Choice(STATES))
@click.option("--queue", shell_complete=complete.queues)
@click.option("--function", shell_complete=complete.functions)
@click.option("--tag")
@click.option("--search", "q", help="Text in the description or the arguments.")
@click.option("--limit", type=click.IntRange(1, 500), default=50, show_default=True)
@click.option("--cursor", help="Of the next page, as the last one named it.")
@click.pass_obj
def list_jobs(api: Api, **query: Any) -> None:
    """Jobs, newest first in each queue and state."""
    api.show(api.call("GET", "jobs", query=query), _page)


@group.command()
@JOB
@click.pass_obj
def show(api: Api, job_id: str) -> None:
    """A job, with its result or its error."""
    api.show(api.call("GET", "jobs", job_id), _show)


@group.command()
@JOB
@click.pass_obj
def cancel(api: Api, job_id: str) -> None:
    """Cancel a job that has not started, or stop the one that runs."""
    api.show(api.call("POST", "jobs", job_id, "cancel"), _show)


@group.command()
@JOB
@click.pass_obj
def requeue(api: Api, job_id: str) -> None:
    """Put a failed, stopped or canceled job back on its queue."""
    api.show(api.call("POST", "jobs", job_id, "requeue"), _show)


@group.command()
@JOB
@click.pass_obj
def delete(api: Api, job_id: str) -> None:
    """Remove a job and what is kept of it; not while it runs."""
    api.show(api.call("DELETE", "jobs", job_id), lambda _: say(f"{job_id} is deleted"))


def _end(api: Api, answer: Answer) -> None:
    """Show a job that has ended, and exit by how."""
    api.show(answer, _show)
    sys.exit(follow.exit_code([answer.json]))


def _page(found: Any) -> None:
    _table(found)
    if found["next_cursor"]:
        say(f"There may be more: --cursor {found['next_cursor']}")


def _table(found: Any) -> None:
    jobs = found["jobs"]
    table(COLUMNS, ((j["id"], j["function"], j["status"], j["queue"], moment(j["created_at"])) for j in jobs))


def _show(job: Any) -> None:
    error = job["error"] or {}
    moments = {name.removesuffix("_at"): moment(job[name]) for name in job if name.endswith("_at")}
    others = {name: value for name, value in job.items() if not name.endswith("_at") and name not in ("error", "links")}
    details({**others, "error": f"{error['type']}: {error['message']}" if error else None, **moments})
    if error.get("traceback"):
        block(error["traceback"])
