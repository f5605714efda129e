"""`audit`: who changed what."""

from typing import Any

import click

from app.cli.command import Api, Command
from app.cli.output import format_time, print_page_end, print_table


@click.command(cls=Command)
@click.option("--actor", help='The name of an API key, or "open".')
@click.option("--action", help="Such as jobs.requeue.")
@click.option("--since", help="At this moment or later, such as 2027-01-01T00:00:00Z.")
@click.option("--limit", type=click.IntRange(1, 500), default=100, show_default=True)
@click.option("--cursor", help="Of the next page, as the last one named it.")
@click.pass_obj
def audit(api: Api, **query: Any) -> None:
    """Who changed what, newest first."""
    api.show(api.call("GET", "audit", query=query), _print_page)


def _print_page(page: Any) -> None:
    rows = (
        (format_time(entry["at"]), entry["actor"], entry["action"], entry["target"], entry["status"], entry["address"],
         entry["details"] or "")
        for entry in page["entries"]
    )  # fmt: skip
    print_table(("at", "actor", "action", "target", "status", "address", "details"), rows)
    print_page_end(page)
