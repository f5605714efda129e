"""The states of a job, as RQ names them."""

from typing import Literal, get_args

Status = Literal["queued", "started", "scheduled", "deferred", "failed", "stopped", "finished", "canceled"]
STATES: tuple[str, ...] = get_args(Status)
ENDED = ("finished", "failed", "stopped", "canceled")
