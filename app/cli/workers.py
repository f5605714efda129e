"""`workers`: list, show."""

from typing import Any

import click

from app.cli import complete
from app.cli.command import EXIT_CODES, Api, Resource
from app.cli.output import format_time, print_details, print_table, print_unreadable


@click.group(cls=Resource, epilog=EXIT_CODES)
def group() -> None:
    """Workers that run jobs."""


@group.command("list")
@click.pass_obj
def list_workers(api: Api) -> None:
    """List the registered workers."""
    api.show(api.call("GET", "workers"), _print_workers)


def _print_worker(worker: Any) -> None:
    moments = {"birth": format_time(worker["birth"]), "last_heartbeat": format_time(worker["last_heartbeat"])}
    print_details(
        {**worker, "queues": ",".join(worker["queues"]), "current_jobs": ",".join(worker["current_jobs"]), **moments}
    )


def _print_workers(page: Any) -> None:
    rows = (
        (worker["name"], worker["state"], ",".join(worker["queues"]), worker["hostname"], worker["pid"],
         worker["current_job"], worker["successful_job_count"], worker["failed_job_count"],
         format_time(worker["last_heartbeat"]))
        for worker in page["workers"]
    )  # fmt: skip
    print_table(("name", "state", "queues", "host", "pid", "job", "finished", "failed", "seen"), rows)
    print_unreadable(page)


group.add_item_command(
    "show",
    "workers",
    click.argument("name", shell_complete=complete.workers),
    _print_worker,
    "Show a worker with its current job.",
    "GET",
)
