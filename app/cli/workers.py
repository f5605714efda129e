"""`workers`: who runs jobs."""

from typing import Any

import click

from app.cli.command import EXIT_CODES, Api, Resource
from app.cli.output import moment, table


@click.group(cls=Resource, epilog=EXIT_CODES)
def group() -> None:
    """Who runs jobs."""


@group.command("list")
@click.pass_obj
def list_workers(api: Api) -> None:
    """The workers that are registered."""
    api.show(api.call("GET", "workers"), _table)


def _table(found: Any) -> None:
    rows = (
        (one["name"], one["state"], ",".join(one["queues"]), one["hostname"], one["pid"], one["current_job"],
         one["successful_job_count"], one["failed_job_count"], moment(one["last_heartbeat"]))
        for one in found["workers"]
    )  # fmt: skip
    table(("name", "state", "queues", "host", "pid", "job", "finished", "failed", "seen"), rows)
