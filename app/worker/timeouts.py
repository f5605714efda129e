"""Timeouts of jobs: raised in the thread of the job, or in the coroutine that it waits for."""

import signal
import threading
import time
from typing import Any, ClassVar

from rq.timeouts import BaseDeathPenalty

from app.author import place
from app.rq_adapter import coroutines
from app.rq_adapter.coroutines import RETRY_TIMEOUT_SECONDS, Ring, raise_in

CHECK_INTERVAL_SECONDS = 0.05


class Alarm(BaseDeathPenalty):
    """RQ's death penalty for the main thread, as rq.timeouts.UnixSignalDeathPenalty (RQ 2.12); reaches coroutines too.

    The handler of SIGALRM stays installed between jobs, since installing it takes longer than setting the timer.
    """

    is_installed: ClassVar[bool] = False
    """Whether SIGALRM is handled here. Set it to False where a job may have installed another handler."""
    _armed: ClassVar["Alarm | None"] = None

    def setup_death_penalty(self) -> None:
        if self._timeout > 0:
            if not Alarm.is_installed:
                signal.signal(signal.SIGALRM, _on_alarm)
                Alarm.is_installed = True
            Alarm._armed = self
            signal.setitimer(signal.ITIMER_REAL, self._timeout)

    def cancel_death_penalty(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        Alarm._armed = None

    def handle_death_penalty(self, *_: Any) -> None:
        error = self._exception(f"Task exceeded maximum timeout value ({self._timeout} seconds)")
        ring = coroutines.ring(error)
        if ring is Ring.RAISE:
            raise error
        if ring is Ring.AGAIN:
            signal.setitimer(signal.ITIMER_REAL, RETRY_TIMEOUT_SECONDS)


def _on_alarm(*_: Any) -> None:
    if Alarm._armed is not None:
        Alarm._armed.handle_death_penalty()


class ThreadAlarm(BaseDeathPenalty):
    """RQ's death penalty for a thread, as rq.timeouts.TimerDeathPenalty (RQ 2.12), without a timer thread for each job.

    Code that waits in C, such as `time.sleep`, is not interrupted: the exception is raised when it returns.
    """

    def setup_death_penalty(self) -> None:
        self._thread, self._key = threading.get_ident(), place.key()
        if self._timeout > 0:
            _watch.add(self, time.monotonic() + self._timeout)

    def cancel_death_penalty(self) -> None:
        if self._timeout > 0 and _watch.remove(self):
            raise_in(self._thread, None)  # what was raised and has not arrived comes too late

    def go_off(self) -> bool:
        """Raise the timeout; whether to call it again after RETRY_TIMEOUT_SECONDS."""
        error = self._exception(f"Task exceeded maximum timeout value ({self._timeout} seconds)")
        ring = coroutines.ring(error, self._key)
        if ring is Ring.RAISE:
            raise_in(self._thread, _saying(self._exception, str(error)))
        return ring is Ring.AGAIN

    def handle_death_penalty(self, *_: Any) -> None:
        self.go_off()


class _Watch:
    """The thread that lets alarms go off."""

    def __init__(self) -> None:
        self._lock, self._due = threading.Lock(), dict[ThreadAlarm, float]()
        self._added = threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, alarm: ThreadAlarm, at: float) -> None:
        with self._lock:
            self._due[alarm] = at
            if self._thread is None or not self._thread.is_alive():  # it is not, after a fork
                self._thread = threading.Thread(target=self._run, daemon=True, name="timeouts")
                self._thread.start()
        self._added.set()

    def remove(self, alarm: ThreadAlarm) -> bool:
        """Whether it went off."""
        with self._lock:
            return self._due.pop(alarm, None) is None

    def _run(self) -> None:
        while True:
            if not self._due:
                self._added.clear()
                if not self._due:
                    self._added.wait()
            time.sleep(CHECK_INTERVAL_SECONDS)
            self._check(time.monotonic())

    def _check(self, now: float) -> None:
        with self._lock:  # none is removed meanwhile: an alarm goes off only in its own job
            for alarm in [alarm for alarm, at in self._due.items() if at <= now]:
                if alarm.go_off():
                    self._due[alarm] = now + RETRY_TIMEOUT_SECONDS
                else:
                    del self._due[alarm]


_watch = _Watch()


def _saying(exception: type[BaseException], message: str) -> type[BaseException]:
    """The class with this message: an exception is raised in another thread by its class alone."""

    def initialize(self: BaseException) -> None:
        exception.__init__(self, message)

    return type(exception.__name__, (exception,), {"__init__": initialize, "__module__": exception.__module__})
