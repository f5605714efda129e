"""`workers`: list, show."""

from typing import Any

import click

from app.cli import complete
from app.cli.command import EXIT_CODES, Api, Resource
from app.cli.output import details, moment, table, unreadable


@click.group(cls=Resource, epilog=EXIT_CODES)
def group() -> None:
    """Who runs jobs."""


@group.command("list")
@click.pass_obj
def list_workers(api: Api) -> None:
    """The workers that are registered."""
    api.show(api.call("GET", "workers"), _table)


@group.command()
@click.argument("name", shell_complete=complete.workers)
@click.pass_obj
def show(api: Api, name: str) -> None:
    """One worker, with what it runs now."""
    api.show(api.call("GET", "workers", name), _one)


def _one(worker: Any) -> None:
    moments = {"birth": moment(worker["birth"]), "last_heartbeat": moment(worker["last_heartbeat"])}
    details({**worker, "queues": ",".join(worker["queues"]), **moments})


def _table(found: Any) -> None:
    rows = (
        (one["name"], one["state"], ",".join(one["queues"]), one["hostname"], one["pid"], one["current_job"],
         one["successful_job_count"], one["failed_job_count"], moment(one["last_heartbeat"]))
        for one in found["workers"]
    )  # fmt: skip
    table(("name", "state", "queues", "host", "pid", "job", "finished", "failed", "seen"), rows)
    unreadable(found)
