"""Circuit breaker of the API: while Redis is silent, requests are refused at once instead of waiting for it.

A thread pings Redis as long as requests come. The circuit opens when a ping has no answer, and no other command had one
meanwhile, for half of REDIS_TIMEOUT; it closes with the next answer. An error is an answer, and so is a refused
connection: neither holds up a request.
"""

import contextlib
import threading
import time
from collections.abc import Callable

import redis

from app.errors import Unavailable

PING_INTERVAL_SECONDS = 0.25  # seconds
IDLE_AFTER_SECONDS = 30.0  # seconds without a request, and no pings are sent
SUSPECT_AFTER_SECONDS = (
    0.25  # seconds of silence, and no more than MAX_WAITING_CONNECTIONS connections may be waited on
)
MAX_WAITING_CONNECTIONS = 32


class Circuit:
    """Of one process. `ping` raises redis.TimeoutError if there is no answer."""

    def __init__(
        self,
        ping: Callable[[], object],
        in_use: Callable[[], int],
        answered_at: Callable[[], float],
        timeout: float,
    ) -> None:
        """`in_use`: connections on which threads wait; `answered_at`: when one had an answer (time.monotonic)."""
        self._ping, self._in_use, self._answered_at, self._open_after_seconds = ping, in_use, answered_at, timeout / 2
        self._requested_at = 0.0
        self._pinged_at: float | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def check(self) -> None:
        """Before a request that needs Redis. Raises Unavailable if it would wait for nothing."""
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
        """Seconds without an answer; 0 if none is due."""
        pinged_at = self._pinged_at
        return 0.0 if pinged_at is None else time.monotonic() - max(pinged_at, self._answered_at())

    def _start(self) -> None:
        with self._lock, contextlib.suppress(RuntimeError):  # there can be no more threads
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
