"""`schedules`: list, show, put, delete, pause, resume, trigger, preview."""

from typing import Any

import click

from app.cli import arguments, complete
from app.cli.command import EXIT_CODES, Api, Resource
from app.cli.output import format_time, one_line, print_details, print_message, print_page_end, print_table

NAME_ARGUMENT = click.argument("name", shell_complete=complete.schedules)
RULE_OPTIONS = arguments.combine_options(
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
    api.show(api.call("GET", "schedules", query=query), _print_page)


@group.command()
@NAME_ARGUMENT
@click.pass_obj
def show(api: Api, name: str) -> None:
    """One schedule, with its next and its last runs."""
    api.show(api.call("GET", "schedules", name), _print_schedule)


@group.command()
@click.argument("name")
@click.argument("function", shell_complete=complete.functions)
@arguments.CALL_OPTIONS
@RULE_OPTIONS
@click.option("--queue", shell_complete=complete.queues)
@click.option("--overlap", help="While the last run is not over: allow, skip or buffer_one.")
@click.option("--catch-up", help="What was due while no scheduler ran: none, one or all.")
@click.option("--description")
@click.option("--paused", is_flag=True)
@click.option(
    "--option", "-o", "other_options", multiple=True, help="Any other of the schedule: NAME=TEXT or NAME:=JSON."
)
@click.pass_obj
def put(
    api: Api,
    name: str,
    function: str,
    pairs: tuple[str, ...],
    args: str | None,
    kwargs: str | None,
    other_options: tuple[str, ...],
    **options: Any,
) -> None:
    """Make or replace a schedule: `put nightly reports.build days:=7 --cron "0 2 * * *"`."""
    fields = {**_rule_fields(options), **arguments.parse_pairs(other_options, "--option")}
    body = {**fields, **arguments.parse_call(pairs, args, kwargs), "function": function}
    api.show(api.call("PUT", "schedules", name, body=body), _print_schedule)


@group.command()
@NAME_ARGUMENT
@click.pass_obj
def delete(api: Api, name: str) -> None:
    """Remove a schedule, and none of its runs."""
    api.show(api.call("DELETE", "schedules", name), lambda _: print_message(f"{name} is deleted"))


@group.command()
@NAME_ARGUMENT
@click.pass_obj
def pause(api: Api, name: str) -> None:
    """Run it no more, until it is resumed."""
    api.show(api.call("POST", "schedules", name, "pause"), _print_schedule)


@group.command()
@NAME_ARGUMENT
@click.pass_obj
def resume(api: Api, name: str) -> None:
    """Go on from now."""
    api.show(api.call("POST", "schedules", name, "resume"), _print_schedule)


@group.command()
@NAME_ARGUMENT
@click.pass_obj
def trigger(api: Api, name: str) -> None:
    """Run it now, once; its clock goes on as it was. Prints the job's id."""
    api.show(api.call("POST", "schedules", name, "trigger"), lambda job: click.echo(job["id"]))


@group.command()
@RULE_OPTIONS
@click.pass_obj
def preview(api: Api, **options: Any) -> None:
    """What a rule means and when it would run; nothing is kept."""
    api.show(api.call("POST", "schedules", "preview", body=_rule_fields(options)), _print_next_runs)


def _rule_fields(options: dict[str, Any]) -> dict[str, Any]:
    return arguments.drop_unset(**{**options, "interval": arguments.seconds_or_duration(options["interval"])})


def _print_page(page: Any) -> None:
    rows = (
        (schedule["name"], schedule["function"], schedule["text"],
         format_time(schedule["next_runs"][0]["utc"]) if schedule["next_runs"] else "",
         "paused" if schedule["paused"] else "", schedule["reason"])
        for schedule in page["schedules"]
    )  # fmt: skip
    print_table(("name", "function", "rule", "next", "", "reason"), rows)
    for entry in page["rejected"]:
        print_message(f"{one_line(entry['name'])} is set aside: {one_line(entry['reason'])}")
    for entry in page["quarantined"]:
        print_message(f"{one_line(entry['id'])} is not run: {one_line(entry['reason'])}")
    print_page_end(page)


def _print_schedule(schedule: Any) -> None:
    lists = ("next_runs", "last_runs")
    print_details({name: value for name, value in schedule.items() if name not in lists and value is not False})
    if schedule["last_runs"]:
        print_table(("last run", "due", "status"), (tuple(run.values()) for run in schedule["last_runs"]))
    _print_next_runs(schedule)


def _print_next_runs(preview: Any) -> None:
    print_table((preview["text"], "utc"), ((run["local"], format_time(run["utc"])) for run in preview["next_runs"]))
