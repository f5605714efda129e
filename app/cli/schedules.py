"""`schedules`: list, show, put, delete, pause, resume, trigger, preview."""

from typing import Any

import click

from app.cli import arguments, complete
from app.cli.command import EXIT_CODES, Api, Resource
from app.cli.output import format_time, one_line, print_details, print_message, print_page_end, print_table

NAME_ARGUMENT = click.argument("name", shell_complete=complete.schedules)
RULE_OPTIONS = arguments.combine_options(
    click.option("--cron", help='Cron expression, such as "0 2 * * mon-fri" or @daily.'),
    click.option("--interval", help="Interval: seconds, or a duration such as 1h30m."),
    click.option("--at", help="Run once, at this time."),
    click.option("--timezone", help="IANA time zone; default: UTC."),
    click.option("--start", help="No run before this time."),
    click.option("--end", help="No run after this time."),
)


@click.group(cls=Resource, epilog=EXIT_CODES)
def group() -> None:
    """Rules that enqueue jobs at set times."""


@group.command("list")
@arguments.page_options(100)
@click.pass_obj
def list_schedules(api: Api, **query: Any) -> None:
    """List schedules by name."""
    api.show(api.call("GET", "schedules", query=query), _print_page)


@group.command()
@click.argument("name")
@click.argument("function", shell_complete=complete.functions)
@arguments.CALL_OPTIONS
@RULE_OPTIONS
@click.option("--queue", shell_complete=complete.queues)
@click.option("--overlap", help="What to do while the last run has not ended: allow, skip or buffer_one.")
@click.option("--catch-up", help="Runs that were missed while no scheduler ran: enqueue none, one or all.")
@click.option("--description")
@click.option("--paused", is_flag=True)
@arguments.OTHER_OPTIONS
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
    """Create or replace a schedule: `put nightly reports.build days:=7 --cron "0 2 * * *"`."""
    fields = {**_rule_fields(options), **arguments.parse_pairs(other_options, "--option")}
    body = {**fields, **arguments.parse_call(pairs, args, kwargs), "function": function}
    api.show(api.call("PUT", "schedules", name, body=body), _print_schedule)


@group.command()
@NAME_ARGUMENT
@click.pass_obj
def delete(api: Api, name: str) -> None:
    """Delete a schedule. The jobs it has enqueued stay."""
    api.show(api.call("DELETE", "schedules", name), lambda _: print_message(f"{name} is deleted"))


@group.command()
@RULE_OPTIONS
@click.pass_obj
def preview(api: Api, **options: Any) -> None:
    """Show what a rule means and when it would run, without storing it."""
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


def _print_id(job: Any) -> None:
    click.echo(job["id"])


for verb, method, print_readable, help_text in (
    ("show", "GET", _print_schedule, "Show a schedule with its next and last runs."),
    ("pause", "POST", _print_schedule, "Pause a schedule until it is resumed."),
    ("resume", "POST", _print_schedule, "Resume a paused schedule. Runs that were due meanwhile are skipped."),
    ("trigger", "POST", _print_id, "Enqueue a run now and print its job id. The times of other runs stay."),
):
    group.add_item_command(verb, "schedules", NAME_ARGUMENT, print_readable, help_text, method)
