"""Jobs as text: a table of many, the details of one, and a line for each of its attempts."""

from datetime import datetime
from typing import Any

import click

from app.cli import output
from app.cli.output import block, details, moment, more, warn

COLUMNS = ("id", "function", "status", "queue", "created", "waits for")
SHOWN_APART = ("error", "links", "history", "waiting_for", "warnings")


def page(found: Any) -> None:
    table(found)
    more(found)


def table(found: Any) -> None:
    jobs = found["jobs"]
    rows = (
        (job["id"], job["function"], job["status"], job["queue"], moment(job["created_at"]), _waits_for(job))
        for job in jobs
    )
    output.table(COLUMNS, rows)


def show(job: Any) -> None:
    if "status" not in job:  # the key has no scope `read`
        details({"id": job["id"]})
        return
    error = job["error"] or {}
    moments = {name.removesuffix("_at"): moment(job[name]) for name in job if name.endswith("_at")}
    others = {name: value for name, value in job.items() if name not in SHOWN_APART and not name.endswith("_at")}
    others |= {"waits for": _waits_for(job), "error": f"{error['type']}: {error['message']}" if error else None}
    details({**others, **moments})
    if error.get("traceback"):
        block(error["traceback"])
    if job.get("history"):
        click.echo()
        _history(job["history"])
    warn(job)


def _waits_for(job: Any) -> str:
    """As "rate_limit function:email.send until 2027-01-01 00:00:00Z"; "" for a job that is not scheduled."""
    said = job.get("waiting_for")
    if not said:
        return ""
    until = f"until {moment(said['until'])}" if said["until"] else None
    return " ".join(word for word in (said["reason"], said["name"], until) if word)


def _history(attempts: list[Any]) -> None:
    """A line for each attempt that has ended, newest first."""
    rows = (
        (
            one["attempt"],
            moment(one["started_at"]),
            _seconds(one),
            one["worker"],
            one["outcome"],
            _last_line(one["error"]),
        )
        for one in attempts
    )
    output.table(("attempt", "started", "seconds", "worker", "outcome", "error"), rows)


def _seconds(attempt: Any) -> str:
    """How long it ran; "" if one of its ends is not known."""
    ends = [datetime.fromisoformat(attempt[name]) for name in ("started_at", "ended_at") if attempt[name]]
    return f"{(ends[1] - ends[0]).total_seconds():.3f}" if len(ends) == 2 else ""


def _last_line(error: Any) -> str:
    lines = f"{error['type']}: {error['message']}".rstrip().splitlines() if error else []
    return lines[-1] if lines else ""
