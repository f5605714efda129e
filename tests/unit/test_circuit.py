"""The circuit breaker of the API: it opens for silence, and for nothing else."""

import threading
import time
from collections.abc import Callable

import pytest
import redis

from app.errors import Unavailable
from app.redis import circuit
from app.redis.circuit import Circuit
from tests.conftest import until


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(circuit, "PING_INTERVAL_SECONDS", 0.001)


def opened(circuit_breaker: Circuit) -> bool:
    try:
        circuit_breaker.check()
    except Unavailable:
        return True
    return False


def pinging(ping: Callable[[], object], in_use: int = 0, answered_at: Callable[[], float] = lambda: 0.0) -> Circuit:
    made = Circuit(ping, in_use=lambda: in_use, answered_at=answered_at, timeout=0.1)
    assert not opened(made)
    return made


def failing(error: Exception, asked: threading.Event) -> Callable[[], object]:
    def ping() -> None:
        asked.set()
        raise error

    return ping


@pytest.mark.parametrize(
    "error", [redis.ConnectionError("refused"), redis.BusyLoadingError(), redis.ResponseError("no")]
)
def test_an_error_is_an_answer(error: Exception) -> None:
    asked = threading.Event()
    breaker = pinging(failing(error, asked))
    deadline = time.monotonic() + 0.2
    while time.monotonic() < deadline:  # four times as long as a silence may last
        assert not opened(breaker)
        time.sleep(0.005)
    assert asked.is_set()


def test_silence_is_none() -> None:
    breaker = pinging(failing(redis.TimeoutError("silent"), threading.Event()))
    until(lambda: opened(breaker), 5)
    assert breaker.is_open()


def test_an_answer_to_another_command_is_one_too() -> None:
    breaker = pinging(failing(redis.TimeoutError("silent"), threading.Event()), answered_at=time.monotonic)
    deadline = time.monotonic() + 0.2
    while time.monotonic() < deadline:
        assert not opened(breaker)
        time.sleep(0.005)


def test_it_closes_with_the_next_answer() -> None:
    silent = threading.Event()
    silent.set()

    def ping() -> None:
        if silent.is_set():
            raise redis.TimeoutError("silent")

    breaker = pinging(ping)
    until(lambda: opened(breaker), 5)
    silent.clear()
    until(lambda: not opened(breaker), 5)
