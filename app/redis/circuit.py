"""Circuit breaker of the API: while Redis does not answer, requests are refused at once.

A thread pings Redis as long as requests arrive. The circuit opens when neither the ping nor any other command has been
answered for half of REDIS_TIMEOUT. It closes with the next answer. An error reply and a refused connection count as
answers, because they do not block a request.
"""

import contextlib
import threading
import time
from collections.abc import Callable

import redis

from app.errors import Unavailable

PING_INTERVAL_SECONDS = 0.25
IDLE_AFTER_SECONDS = 30.0  # pings stop when no request has arrived for so long
SUSPECT_AFTER_SECONDS = 0.25  # without an answer for so long, at most MAX_WAITING_CONNECTIONS threads may wait
MAX_WAITING_CONNECTIONS = 32


class Circuit:
    """The circuit breaker of one process."""

    def __init__(
        self,
        ping: Callable[[], object],
        in_use: Callable[[], int],
        answered_at: Callable[[], float],
        timeout: float,
    ) -> None:
        """Create a closed circuit.

        Args:
            ping: raises redis.TimeoutError if Redis does not answer.
            in_use: the number of connections in use by threads.
            answered_at: when a connection last received an answer (time.monotonic).
            timeout: REDIS_TIMEOUT, in seconds.
        """
        self._ping, self._in_use, self._answered_at, self._open_after_seconds = ping, in_use, answered_at, timeout / 2
        self._requested_at = 0.0
        self._pinged_at: float | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def check(self) -> None:
        """Call before a request that needs Redis. Raises Unavailable if Redis does not answer."""
        self._requested_at = time.monotonic()
        if self._thread is None or not self._thread.is_alive():
            self._start()
        silence = self._silence()
        if silence > self._open_after_seconds or (
            silence > SUSPECT_AFTER_SECONDS and self._in_use() >= MAX_WAITING_CONNECTIONS
        ):
            raise Unavailable("Redis does not answer")

    def is_open(self) -> bool:
        return self._silence() > self._open_after_seconds

    def _silence(self) -> float:
        """Seconds since Redis last answered; 0 if no ping is pending."""
        pinged_at = self._pinged_at
        return 0.0 if pinged_at is None else time.monotonic() - max(pinged_at, self._answered_at())

    def _start(self) -> None:
        with self._lock, contextlib.suppress(RuntimeError):  # no more threads can be started
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._watch, daemon=True)
                self._thread.start()

    def _is_answered(self) -> bool:
        try:
            self._ping()
        except redis.TimeoutError:
            return False
        except redis.RedisError:
            return True
        return True

    def _watch(self) -> None:
        while time.monotonic() - self._requested_at < IDLE_AFTER_SECONDS:
            self._pinged_at = self._pinged_at or time.monotonic()
            if self._is_answered():
                self._pinged_at = None
            time.sleep(PING_INTERVAL_SECONDS)
        self._pinged_at = None
