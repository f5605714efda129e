"""`audit`: the audit log."""

from typing import Any

import click

from app.cli import arguments
from app.cli.command import Api, Command
from app.cli.output import format_time, print_page_end, print_table


@click.command(cls=Command)
@click.option("--actor", help='Name of an API key, or "open".')
@click.option("--action", help="Action, such as jobs.requeue.")
@click.option("--since", help="Entries at or after this time, such as 2027-01-01T00:00:00Z.")
@arguments.page_options(100)
@click.pass_obj
def audit(api: Api, **query: Any) -> None:
    """List the entries of the audit log, newest first."""
    api.show(api.call("GET", "audit", query=query), _print_page)


def _print_page(page: Any) -> None:
    rows = (
        (format_time(entry["at"]), entry["actor"], entry["action"], entry["target"], entry["status"], entry["address"],
         entry["details"] or "")
        for entry in page["entries"]
    )  # fmt: skip
    print_table(("at", "actor", "action", "target", "status", "address", "details"), rows)
    print_page_end(page)
