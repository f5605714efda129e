"""`schedules`: list, show, put, delete, pause, resume, trigger, preview."""

from typing import Any

import click

from app.cli import arguments, complete
from app.cli.command import EXIT_CODES, Api, Resource
from app.cli.output import details, moment, more, plain, say, table

NAME = click.argument("name", shell_complete=complete.schedules)
WHEN = arguments.options(
    click.option("--cron", help='Such as "0 2 * * mon-fri", or @daily.'),
    click.option("--interval", help="Seconds, or a duration such as 1h30m."),
    click.option("--at", help="Once, at this moment."),
    click.option("--timezone", help="An IANA name; UTC by default."),
    click.option("--start", help="No run before this moment."),
    click.option("--end", help="No run after this moment."),
)


@click.group(cls=Resource, epilog=EXIT_CODES)
def group() -> None:
    """Rules that make jobs in time."""


@group.command("list")
@click.option("--limit", type=click.IntRange(1, 500), default=100, show_default=True)
@click.option("--cursor", help="Of the next page, as the last one named it.")
@click.pass_obj
def list_schedules(api: Api, **query: Any) -> None:
    """Schedules by name."""
    api.show(api.call("GET", "schedules", query=query), _page)


@group.command()
@NAME
@click.pass_obj
def show(api: Api, name: str) -> None:
    """One schedule, with its next and its last runs."""
    api.show(api.call("GET", "schedules", name), _show)


@group.command()
@click.argument("name")
@click.argument("function", shell_complete=complete.functions)
@arguments.CALL
@WHEN
@click.option("--queue", shell_complete=complete.queues)
@click.option("--overlap", help="While the last run is not over: allow, skip or buffer_one.")
@click.option("--catch-up", help="What was due while no scheduler ran: none, one or all.")
@click.option("--description")
@click.option("--paused", is_flag=True)
@click.option("--option", "-o", "others", multiple=True, help="Any other of the schedule: NAME=TEXT or NAME:=JSON.")
@click.pass_obj
def put(
    api: Api,
    name: str,
    function: str,
    words: tuple[str, ...],
    args: str | None,
    kwargs: str | None,
    others: tuple[str, ...],
    **options: Any,
) -> None:
    """Make or replace a schedule: `put nightly reports.build days:=7 --cron "0 2 * * *"`."""
    given = {**_said(options), **arguments.named(others, "--option")}
    body = {**given, **arguments.call(words, args, kwargs), "function": function}
    api.show(api.call("PUT", "schedules", name, body=body), _show)


@group.command()
@NAME
@click.pass_obj
def delete(api: Api, name: str) -> None:
    """Remove a schedule, and none of its runs."""
    api.show(api.call("DELETE", "schedules", name), lambda _: say(f"{name} is deleted"))


@group.command()
@NAME
@click.pass_obj
def pause(api: Api, name: str) -> None:
    """Run it no more, until it is resumed."""
    api.show(api.call("POST", "schedules", name, "pause"), _show)


@group.command()
@NAME
@click.pass_obj
def resume(api: Api, name: str) -> None:
    """Go on from now."""
    api.show(api.call("POST", "schedules", name, "resume"), _show)


@group.command()
@NAME
@click.pass_obj
def trigger(api: Api, name: str) -> None:
    """Run it now, once; its clock goes on as it was. Prints the job's id."""
    api.show(api.call("POST", "schedules", name, "trigger"), lambda job: click.echo(job["id"]))


@group.command()
@WHEN
@click.pass_obj
def preview(api: Api, **options: Any) -> None:
    """What a rule means and when it would run; nothing is kept."""
    api.show(api.call("POST", "schedules", "preview", body=_said(options)), _next_runs)


def _said(options: dict[str, Any]) -> dict[str, Any]:
    return arguments.said(**{**options, "interval": arguments.number_or_text(options["interval"])})


def _page(found: Any) -> None:
    rows = (
        (one["name"], one["function"], one["text"], moment(one["next_runs"][0]["utc"]) if one["next_runs"] else "",
         "paused" if one["paused"] else "", one["reason"])
        for one in found["schedules"]
    )  # fmt: skip
    table(("name", "function", "rule", "next", "", "reason"), rows)
    for entry in found["rejected"]:
        say(f"{plain(entry['name'])} is set aside: {plain(entry['reason'])}")
    for entry in found["quarantined"]:
        say(f"{plain(entry['id'])} is not run: {plain(entry['reason'])}")
    more(found)


def _show(schedule: Any) -> None:
    lists = ("next_runs", "last_runs")
    details({name: value for name, value in schedule.items() if name not in lists and value is not False})
    if schedule["last_runs"]:
        table(("last run", "due", "status"), (tuple(run.values()) for run in schedule["last_runs"]))
    _next_runs(schedule)


def _next_runs(found: Any) -> None:
    table((found["text"], "utc"), ((run["local"], moment(run["utc"])) for run in found["next_runs"]))
