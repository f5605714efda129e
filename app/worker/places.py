"""The places of a concurrent work horse: threads that run a job at a time and report to the thread that claims."""

import contextlib
import contextvars
import socket
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

import redis
import structlog

from app.author import place
from app.rq_adapter import coroutines
from app.rq_adapter.coroutines import Ring
from app.worker.attempt import JobAborted
from app.worker.claimed import Claimed, Failed, Finished
from app.worker.job_runner import JobRunner
from app.worker.progress_reporter import Reporter
from app.worker.rq_worker import RqWorker

SETTLE_TIMEOUT_SECONDS = 60.0  # seconds

log = structlog.get_logger("jobline.worker")

Message = tuple[str, Any]
"""The name of a method of RedisSession, or "settle" or "done", and its argument."""


class Mailbox:
    """Messages of all places to the thread that claims, in their order."""

    def __init__(self) -> None:
        self._messages, self._reader_waits = deque[Message](), False
        self._out, self._in = socket.socketpair()
        self._out.setblocking(False)
        self._in.setblocking(False)

    def fileno(self) -> int:
        """Can be read when a message came after `may_wait`."""
        return self._out.fileno()

    def put(self, message: Message) -> None:
        self._messages.append(message)
        if self._reader_waits:
            self._reader_waits = False
            with contextlib.suppress(OSError):
                self._in.send(b"!")

    def may_wait(self) -> bool:
        """Whether there is no message: the next one makes the file readable."""
        self._reader_waits = True
        return not self._messages

    def take(self) -> Message | None:
        """The next message; None if there is none."""
        self._reader_waits = False
        try:
            return self._messages.popleft()
        except IndexError:
            return None

    def drain(self) -> None:
        """Make the file unreadable again."""
        with contextlib.suppress(BlockingIOError):
            while self._out.recv(4096):
                pass


class _Reports:
    """Reports of one place, which the thread that claims sends to Redis."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox

    def ended(self, finished: Finished) -> None:
        self._mailbox.put(("ended", finished))

    def failed(self, failed: Failed) -> None:
        self._mailbox.put(("failed", failed))

    def releases(self, claimed: Claimed) -> None:
        self._mailbox.put(("releases", claimed))

    def settle(self) -> None:
        """Wait until Redis has answered all reports. Raises redis.TimeoutError."""
        settled = threading.Event()
        self._mailbox.put(("settle", settled))
        if not settled.wait(SETTLE_TIMEOUT_SECONDS):
            raise redis.TimeoutError("reports are not answered")


class Place:
    """A thread that runs the jobs that it is given, one after the other."""

    def __init__(
        self, number: int, worker: RqWorker, mailbox: Mailbox, reporter: Reporter, give_up: Callable[[], bool]
    ) -> None:
        self.number, self._mailbox = number, mailbox
        self.runner = JobRunner(worker, _Reports(mailbox), reporter, give_up, number)
        self._jobs: SimpleQueue[tuple[Claimed, int, float]] = SimpleQueue()
        self._lock = threading.Lock()
        self._running: Claimed | None = None
        self._thread = threading.Thread(target=self._work, daemon=True, name=f"place {number}")
        self._thread.start()

    def start(self, claimed: Claimed, timeout: int, started_at: float) -> None:
        """Run a job whose start has been reported. The message "done" says that it has ended."""
        self._running = claimed
        self._jobs.put((claimed, timeout, started_at))

    def abort(self) -> None:
        """Raise JobAborted in the running job: its end has been written already."""
        thread = self._thread.ident
        with self._lock:
            if self._running and thread and coroutines.ring(JobAborted("stopped"), thread) is Ring.RAISE:
                coroutines.raise_in(thread, JobAborted)

    def _work(self) -> None:
        place.current.set(self.number)
        while True:
            claimed, timeout, started_at = self._jobs.get()
            try:
                contextvars.copy_context().run(self.runner.run, claimed, timeout, started_at)
            except JobAborted:
                pass
            except BaseException:
                log.exception("a job could not be run", job_id=claimed.id)
            self._leave()
            self._mailbox.put(("done", self))

    def _leave(self) -> None:
        """End the job: it is not aborted from now on. An abort may be on its way."""
        while self._running:
            with contextlib.suppress(JobAborted), self._lock:
                self._running = None
                coroutines.raise_in(threading.get_ident(), None)
