"""`failures`: failed jobs, grouped."""

from typing import Any

import click

from app.cli import complete
from app.cli.command import Api, Command
from app.cli.output import format_time, print_message, print_table

COLUMNS = ("function", "error", "count", "first", "last", "queues", "example", "message")


@click.command(cls=Command)
@click.option("--queue", shell_complete=complete.queues)
@click.option("--function", shell_complete=complete.functions)
@click.option("--since", help="Jobs that failed at or after this time, such as 2027-01-01T00:00:00Z.")
@click.pass_obj
def failures(api: Api, **query: Any) -> None:
    """Count failed jobs by function and type of error, most frequent first."""
    api.show(api.call("GET", "failures", query=query), _print_failures)


def _print_failures(answer: Any) -> None:
    rows = (
        (failure["function"], failure["error"], failure["count"], format_time(failure["first_seen"]),
         format_time(failure["last_seen"]), ",".join(failure["queues"]), failure["example"], failure["message"])
        for failure in answer["failures"]
    )  # fmt: skip
    print_table(COLUMNS, rows)
    if not answer["complete"]:
        print_message("Incomplete: only the newest failed jobs were counted.")
