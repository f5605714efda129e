"""Progress of jobs and workflows on stderr: bars on a terminal, elsewhere a line for each change of status."""

import sys
from typing import Any

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from app.cli.output import console, one_line, print_message
from app.states import ENDED


class Display:
    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()
        columns = [
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[percent]}"),
            TextColumn("{task.fields[status]}"),
            TimeElapsedColumn(),
        ]
        self._progress = Progress(*columns, console=console(sys.stderr), disable=not self._is_terminal)
        self._tasks: dict[str, TaskID] = {}
        self._states: dict[str, str] = {}

    def __enter__(self) -> "Display":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def job(self, job: dict[str, Any]) -> None:
        short = job.get("name") or job["id"][:8]  # `name` is that of a job in a workflow
        self._show(job["id"], short, one_line(job["function"]), job["status"], job.get("progress") or {})

    def workflow(self, workflow: dict[str, Any], ended: int, total: int) -> None:
        """Show that `ended` of the workflow's `total` jobs have ended."""
        progress = {"current": ended, "total": total, "message": f"{ended} of {total} jobs"}
        self._show(workflow["id"], workflow["id"][:8], one_line(workflow["name"]), workflow["status"], progress)

    def workflow_job(self, job: dict[str, Any]) -> None:
        """Show a job of a workflow: a bar while it runs, or lines when it starts and ends."""
        if job["status"] == "started" or (job["status"] in ENDED and not self._is_terminal):
            self.job(job)
        elif job["id"] in self._tasks:
            del self._states[job["id"]]
            self._progress.remove_task(self._tasks.pop(job["id"]))

    def _show(self, id_: str, label_id: str, name: str, status: str, progress: dict[str, Any]) -> None:
        percent = progress.get("percent")
        if not self._is_terminal and self._states.get(id_) != status:
            print_message(" ".join(word for word in (id_, name, status) if word))
        self._states[id_] = status
        if id_ not in self._tasks:
            label = " ".join(word for word in (name, label_id) if word)
            self._tasks[id_] = self._progress.add_task(label, total=None, percent="", status="")
        ended = status in ENDED
        self._progress.update(
            self._tasks[id_],
            total=1 if ended else progress.get("total"),
            completed=1 if ended else progress.get("current") or 0,
            percent="" if percent is None else f"{percent:g} %",
            status=f"{status} {one_line(progress.get('message'))}" if not ended else status,
        )
