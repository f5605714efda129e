"""Sends what running jobs report to Redis, progress and log lines, from a thread of its own: no job waits or fails.

Of each execution the latest progress counts, and all log lines up to a limit. While Redis is away they are kept, and
sent when Redis is back, even after the job's end.
"""

import contextlib
import os
import signal
import threading
import time
from collections import deque
from queue import Empty, SimpleQueue
from typing import Any

import redis
import structlog

from app.author import place, progress
from app.log import job_fields
from app.redis.hash_values import int_of
from app.redis.pipelined import PipelinedConnection, pack
from app.redis.scripts import Script
from app.serializer import JSON
from app.worker.claimed import Claimed

SEND_INTERVAL_SECONDS = 0.5  # seconds
SETTLE_TIMEOUT_SECONDS = 1.0  # seconds that the end of a job waits for its last report
TRIES = 5  # at a meta that others change

MAX_LINES, MAX_LOG_BYTES = 1000, 256 * 1024  # of the log of one attempt
MAX_LINE_CHARACTERS = 4096
CUT = f"The log of this attempt ends here: it has more than {MAX_LINES} lines or {MAX_LOG_BYTES // 1024} KiB"

PROGRESS = Script("worker/progress")
LOG = Script("worker/log")

log = structlog.get_logger("jobline.worker")

Report = tuple[Claimed, Any, Any, Any]  # and the arguments of progress.update
STOP = object()


class Log:
    """The log of one execution: what is not sent yet, and how much there was."""

    def __init__(self, claimed: Claimed) -> None:
        self.claimed = claimed
        self.unsent = deque[bytes]()
        self.partial: dict[str, str] = {}
        """Maps `stdout` and `stderr` to the line that is not complete yet."""
        self._lines = self._bytes = self.sent = 0

    def add(self, source: str, level: str | None, text: str) -> None:
        if self._lines > MAX_LINES:
            return
        text = text[:MAX_LINE_CHARACTERS]
        self._lines, self._bytes = self._lines + 1, self._bytes + len(text)
        if self._lines > MAX_LINES or self._bytes > MAX_LOG_BYTES:
            self._lines, level, source, text = MAX_LINES + 1, "warning", "jobline", CUT
        line = {"at": time.time(), "level": level, "source": source, "text": text}
        if trace := job_fields().get("trace_id"):
            line["trace_id"] = trace
        self.unsent.append(JSON.dumps(line))

    def complete(self) -> None:
        """Add the lines that have no end."""
        for stream, line in self.partial.items():
            if line:
                self.add(stream, None, line)
        self.partial.clear()


class Reporter:
    """Reports of all jobs that one work horse runs. Its thread starts with the first report."""

    def __init__(self, client: redis.Redis, connection_class: type[PipelinedConnection] = PipelinedConnection) -> None:
        self.client, self._connection_class = client, connection_class
        self.running: dict[int, Claimed] = {}
        """Maps each busy place to its job. Reports that come from a place without a job are dropped."""
        self.is_used = False
        """Whether any job has reported."""
        self._latest: dict[str, Report] = {}  # by execution
        self._logs: dict[str, Log] = {}  # by execution
        self._awake = self._sending = False
        self._requests: SimpleQueue[Any] = SimpleQueue()  # None: there is a report; an event to set when it is sent
        self._pid = 0  # of the process that the thread is in
        self._known: dict[str, bytes] = {}
        """Maps each execution to the meta of its job, as last written or read."""

    def update(self, current: Any, total: Any = None, message: Any = None) -> None:
        """As progress.update. Any thread may call it, and a process that the job has forked."""
        running = self.running.get(place.current.get())
        if running is None:
            return  # a thread that a job has left behind
        self._latest[running.execution_id], self.is_used = (running, current, total, message), True
        self._request_send()

    def log(self, source: str, level: str | None, text: str) -> None:
        """Add a line to the log of the job that runs in this place. Any thread may call it, as `update`."""
        if log := self._log_here():
            log.add(source, level, text)
            self._request_send()

    def print(self, stream: str, text: str) -> None:
        """Add what was written to `stdout` or `stderr` to the log of the job that runs in this place, line by line."""
        log = self._log_here()
        if log is None:
            return
        *lines, log.partial[stream] = (log.partial.get(stream, "") + text).split("\n")
        for line in lines:
            log.add(stream, None, line)
        if lines:
            self._request_send()

    def _log_here(self) -> Log | None:
        running = self.running.get(place.current.get())
        if running is None:
            return None
        running.has_log = self.is_used = True
        return self._logs.get(running.execution_id) or self._logs.setdefault(running.execution_id, Log(running))

    def _request_send(self) -> None:
        if self._pid != os.getpid():
            self._start()
        if not self._awake:
            self._awake = True
            self._requests.put(None)

    def has_unsent(self, claimed: Claimed | None = None) -> bool:
        """Whether reports, or those of one job, are still to be sent."""
        if claimed is None:
            has_reports = self._has_work()
        else:
            log = self._logs.get(claimed.execution_id)
            has_reports = claimed.execution_id in self._latest or bool(
                log and (log.unsent or any(log.partial.values()))
            )
        return (has_reports or self._sending) and self._pid == os.getpid()

    def settle(self, claimed: Claimed | None = None) -> None:
        """Wait until all reports, or those of one job that has ended, are sent: for a moment at most."""
        ended = self._logs.get(claimed.execution_id) if claimed else None
        if ended:
            ended.complete()
        if self.has_unsent(claimed):
            sent = threading.Event()
            self._requests.put(sent)
            sent.wait(SETTLE_TIMEOUT_SECONDS)
        if claimed:
            self._known.pop(claimed.execution_id, None)
            if ended and not ended.unsent:
                self._logs.pop(claimed.execution_id, None)

    def close(self) -> None:
        """End the thread, after its last report."""
        self.settle()
        self._requests.put(STOP)
        self._pid = 0

    def _start(self) -> None:
        """The queue is a new one, as a fork may have copied the old one at any moment."""
        self._requests, self._awake = SimpleQueue(), False
        try:
            threading.Thread(target=self._work, args=[self._requests], daemon=True, name="progress").start()
        except RuntimeError as error:
            log.warning("progress is not reported", error=str(error))
            return
        self._pid = os.getpid()

    def _work(self, requests: SimpleQueue[Any]) -> None:
        """Until STOP."""
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # they are the main thread's
        line, due = _Line(self.client, self._connection_class), 0.0
        while True:
            request = None
            with contextlib.suppress(Empty):
                request = requests.get(timeout=max(0.0, due - time.monotonic()) if self._has_work() else None)
            if request is None and time.monotonic() < due:
                if not self._has_work():  # it was sent with the one before
                    self._awake = False
                continue
            self._awake, self._sending = False, True
            self._send_all(line)
            self._sending, due = False, time.monotonic() + SEND_INTERVAL_SECONDS
            if isinstance(request, threading.Event):
                request.set()
            if request is STOP:
                line.close()
                return

    def _has_work(self) -> bool:
        return bool(self._latest) or any(log.unsent for log in list(self._logs.values()))

    def _send_all(self, line: "_Line") -> None:
        """What cannot be sent stays where it is."""
        for execution in list(self._latest):
            report = self._latest.pop(execution)
            try:
                self._send(line.wire(), *report)
            except (redis.ConnectionError, redis.TimeoutError) as error:
                log.warning("progress is put off", error=f"{type(error).__name__}: {error}")
                self._latest.setdefault(execution, report)
                line.cut()
                return
            except Exception as error:  # of a number or a text that is the job's own class, or of Redis
                log.warning("progress is not reported", error=f"{type(error).__name__}")
        for execution, job_log in list(self._logs.items()):
            try:
                self._send_log(line.wire(), job_log)
            except (redis.ConnectionError, redis.TimeoutError) as error:
                log.warning("the log of a job is put off", error=f"{type(error).__name__}: {error}")
                line.cut()
                return
            except redis.RedisError as error:
                log.warning("the log of a job is not kept", error=f"{type(error).__name__}: {error}")
                job_log.unsent.clear()
            if all(claimed.execution_id != execution for claimed in list(self.running.values())) and not job_log.unsent:
                self._logs.pop(execution, None)

    def _send_log(self, wire: PipelinedConnection, job_log: Log) -> None:
        """Raises redis.RedisError: then the lines are still unsent."""
        lines, claimed = list(job_log.unsent), job_log.claimed
        if not lines:
            return
        attempt = (int_of(claimed.attempts) or 0) + 1
        words = LOG.argv(lines, id=claimed.id, queue=claimed.queue, attempt=attempt, first=job_log.sent + 1)
        wire.send(pack("EVAL", LOG.text, 0, *words))
        wire.read()
        for _ in lines:
            job_log.unsent.popleft()
        job_log.sent += len(lines)

    def _send(self, wire: PipelinedConnection, claimed: Claimed, current: Any, total: Any, message: Any) -> None:
        """Raises redis.RedisError, and whatever the job's own objects raise."""
        report = progress.report(current, total, message)
        if report is None:
            log.warning("progress is not reported: it is no finite number")
            return
        progress.latest[claimed.id] = report
        execution = claimed.execution_id
        known = self._known.get(execution, b"")
        for _ in range(TRIES):
            meta = _with(known, report)
            words = PROGRESS.argv(
                id=claimed.id,
                queue=claimed.queue,
                execution=execution,
                attempt=int(claimed.attempts or 0) + 1,
                old_meta=known,
                new_meta=meta,
                report=JSON.dumps(report),
            )
            wire.send(pack("EVAL", PROGRESS.text, 0, *words))
            answer = wire.read()
            if isinstance(answer, int):
                self._known[execution] = meta or known
                return
            known = answer


def expire_log(connection: redis.Redis, claimed: Claimed) -> None:
    """Keep the log of a job that RQ's own methods have ended as long as the job. Raises redis.RedisError."""
    LOG(connection, id=claimed.id, queue=claimed.queue, attempt=0, first=1)


class _Line:
    """The thread's connection, made when it is needed."""

    def __init__(self, client: redis.Redis, connection_class: type[PipelinedConnection]) -> None:
        self.client, self._connection_class = client, connection_class
        self._connection: PipelinedConnection | None = None
        self._is_cut = False

    def wire(self) -> PipelinedConnection:
        """Raises redis.ConnectionError."""
        if self._connection is None:
            self._connection = self._connection_class(self.client, retry_connect=False)
        elif self._is_cut:
            self._connection.connect()
        self._is_cut = False
        return self._connection

    def cut(self) -> None:
        if self._connection:
            self._connection.cut()
            self._is_cut = True

    def close(self) -> None:
        if self._connection:
            self._connection.close()


def _with(meta: bytes, report: dict[str, Any]) -> bytes:
    """A job's meta with its progress; nothing, if it cannot be read: then it is left alone."""
    try:
        known = JSON.loads(meta) if meta else {}
        return JSON.dumps({**known, "progress": report})
    except (ValueError, TypeError):
        return b""
