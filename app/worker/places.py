"""The places of a concurrent work horse: each runs a job at a time, and reports to the thread that claims."""

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
from app.rq_adapter.rq_parts import Job
from app.rq_adapter.shared_loop import SharedLoop
from app.worker.attempt import JobAborted
from app.worker.claimed import Claimed, Ended, Failed, Finished
from app.worker.job_runner import JobRunner
from app.worker.reporter import Reporter
from app.worker.rq_worker import RqWorker

SETTLE_TIMEOUT_SECONDS = 60.0  # seconds
NOT_RUN = "a job could not be run"

log = structlog.get_logger("jobline.worker")

Message = tuple[str, Any]
"""The name of a method of RedisSession, or "settle" or "done", and its argument."""


class Mailbox:
    """Messages of all places to the thread that claims, in their order."""

    def __init__(self, loop: SharedLoop) -> None:
        self._messages, self._reader_waits = deque[Message](), False
        self._loop, self._is_wake_due = loop, False
        self._out, self._in = socket.socketpair()
        self._out.setblocking(False)
        self._in.setblocking(False)

    def fileno(self) -> int:
        """Can be read when a message came after `may_wait`."""
        return self._out.fileno()

    def put(self, message: Message) -> None:
        self._messages.append(message)
        if threading.get_ident() != self._loop.thread.ident:
            self._wake_reader()
        elif not self._is_wake_due:  # many coroutines end at the same time: the reader takes them together
            self._is_wake_due = True
            self._loop.loop.call_soon(self._wake_reader)

    def _wake_reader(self) -> None:
        self._is_wake_due = False
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

    def counts(self, ended: Ended) -> None:
        self._mailbox.put(("counts", ended))

    def releases(self, claimed: Claimed) -> None:
        self._mailbox.put(("releases", claimed))

    def settle(self) -> None:
        """Wait until Redis has answered all reports. Raises redis.TimeoutError."""
        settled = threading.Event()
        self._mailbox.put(("settle", settled))
        if not settled.wait(SETTLE_TIMEOUT_SECONDS):
            raise redis.TimeoutError("reports are not answered")


class Place:
    """Runs the jobs that it is given, one after the other: on the event loop, or in a thread of its own."""

    def __init__(
        self,
        number: int,
        worker: RqWorker,
        loop: SharedLoop,
        mailbox: Mailbox,
        reporter: Reporter,
        give_up: Callable[[], bool],
    ) -> None:
        self.number, self._loop, self._mailbox = number, loop, mailbox
        self.runner = JobRunner(worker, _Reports(mailbox), reporter, give_up, number)
        self._context = contextvars.copy_context()
        self._context.run(place.current.set, number)
        self._calls: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._is_in_thread = False
        """Whether code of a job runs in the thread."""

    def start(self, claimed: Claimed, timeout: int, started_at: float) -> None:
        """Run a job whose start has been reported. The message "done" says that it has ended."""
        job = self.runner.as_plain(claimed)
        if job and job.is_coroutine and not claimed.has_followers:
            self._loop.spawn(self._run_on_loop(job, claimed, timeout, started_at), self._context.copy())
        else:
            self._run_in_thread(lambda: self.runner.run(claimed, timeout, started_at, job))

    def abort(self) -> bool:
        """Raise JobAborted in the running job: its end has been written already. False: try again later."""
        with self._lock:
            ring = coroutines.ring(JobAborted("stopped"), self.number)
            if ring is not Ring.RAISE:
                return True
            if self._is_in_thread and self._thread and self._thread.ident:
                coroutines.raise_in(self._thread.ident, JobAborted)
            return self._is_in_thread

    async def _run_on_loop(self, job: Job, claimed: Claimed, timeout: int, started_at: float) -> None:
        try:
            error = await self.runner.run_on(self._loop, job, claimed, timeout)
            waits = self.runner.finish_waits(job, claimed, error)
        except BaseException:
            log.exception(NOT_RUN)
            self._mailbox.put(("done", self))
            return

        def finish() -> None:
            self.runner.finish(job, claimed, error, started_at)

        if waits:
            self._run_in_thread(finish)
        else:
            self._call(finish)

    def _run_in_thread(self, call: Callable[[], None]) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, daemon=True, name=f"place {self.number}")
            self._thread.start()
        self._calls.put(call)

    def _work(self) -> None:
        while True:
            call = self._calls.get()
            self._context.copy().run(self._call, call, in_thread=True)

    def _call(self, call: Callable[[], None], in_thread: bool = False) -> None:
        """Make the last call of a job, and say that it has ended."""
        try:
            self._is_in_thread = in_thread
            call()
        except JobAborted:
            pass
        except BaseException:
            log.exception(NOT_RUN)
        while self._is_in_thread:  # an abort may be on its way
            with contextlib.suppress(JobAborted), self._lock:
                self._is_in_thread = False
                coroutines.raise_in(threading.get_ident(), None)
        self._mailbox.put(("done", self))
