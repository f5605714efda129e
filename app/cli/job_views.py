"""Printing of jobs: a table of many, or one with its details and attempts."""

from datetime import datetime
from typing import Any

import click

from app.cli import output
from app.cli.output import format_time, one_line, print_details, print_lines, print_page_end, print_warnings

COLUMNS = ("id", "function", "status", "queue", "created", "waits for")
SHOWN_SEPARATELY = ("error", "links", "history", "waiting_for", "warnings")


def print_page(page: Any) -> None:
    print_jobs(page)
    print_page_end(page)


def print_jobs(page: Any) -> None:
    jobs = page["jobs"]
    rows = (
        (job["id"], job["function"], job["status"], job["queue"], format_time(job["created_at"]), _waits_for(job))
        for job in jobs
    )
    output.print_table(COLUMNS, rows)


def print_log(lines: Any) -> None:
    """Print lines of a log: when, where from, and the text."""
    for line in lines:
        source = one_line(line["source"] if line["level"] is None else f"{line['source']} {line['level']}")
        print_lines(f"{format_time(line['at'])}  {source}  {line['text']}")


def print_job(job: Any) -> None:
    if "status" not in job:  # a reference: the API key lacks the scope `read`
        print_details({"id": job["id"]})
        return
    error = job["error"] or {}
    moments = {name.removesuffix("_at"): format_time(job[name]) for name in job if name.endswith("_at")}
    fields = {name: value for name, value in job.items() if name not in SHOWN_SEPARATELY and not name.endswith("_at")}
    fields |= {"waits for": _waits_for(job), "error": f"{error['type']}: {error['message']}" if error else None}
    print_details({**fields, **moments})
    if error.get("traceback"):
        print_lines(error["traceback"])
    if job.get("history"):
        click.echo()
        _print_history(job["history"])
    print_warnings(job)


def _waits_for(job: Any) -> str:
    """Why a job is scheduled, such as "rate_limit function:email.send until 2027-01-01 00:00:00Z", else ""."""
    waiting_for = job.get("waiting_for")
    if not waiting_for:
        return ""
    until = f"until {format_time(waiting_for['until'])}" if waiting_for["until"] else None
    return " ".join(word for word in (waiting_for["reason"], waiting_for["name"], until) if word)


def _print_history(attempts: list[Any]) -> None:
    rows = (
        (
            attempt["attempt"],
            format_time(attempt["started_at"]),
            _seconds(attempt),
            attempt["worker"],
            attempt["outcome"],
            _last_line(attempt["error"]),
        )
        for attempt in attempts
    )
    output.print_table(("attempt", "started", "seconds", "worker", "outcome", "error"), rows)


def _seconds(attempt: Any) -> str:
    """Run time of an attempt; "" if its start or end is unknown."""
    ends = [datetime.fromisoformat(attempt[name]) for name in ("started_at", "ended_at") if attempt[name]]
    return f"{(ends[1] - ends[0]).total_seconds():.3f}" if len(ends) == 2 else ""


def _last_line(error: Any) -> str:
    lines = f"{error['type']}: {error['message']}".rstrip().splitlines() if error else []
    return lines[-1] if lines else ""
