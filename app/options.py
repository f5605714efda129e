"""What an author says about a function: the `@job` decorator, its options, and how a job is retried."""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeVar

Function = TypeVar("Function", bound=Callable[..., object])


class Discard(Exception):
    """Raised by a function: fail for good, with no retry."""


@dataclass(frozen=True)
class Retry:
    """Try again `max` times, waiting `initial * factor**n` seconds, at most `longest`, or exactly `intervals`.

    `jitter` is the share of each wait that is random (0: none, 1: from nothing to all of it). With `on`, only these
    exceptions are retried; never those in `not_on`.
    """

    max: int
    initial: float = 1
    factor: float = 2
    longest: float = 3600
    jitter: float = 0.5
    intervals: tuple[float, ...] | None = None
    on: tuple[type[BaseException], ...] = (Exception,)
    not_on: tuple[type[BaseException], ...] = (Discard,)

    def waits(self) -> list[int]:
        """The whole seconds to wait before each retry, as RQ stores them."""
        if self.intervals is not None:
            return [round(wait) for wait in self.intervals]
        plain = (min(self.initial * self.factor**n, self.longest) for n in range(self.max))
        return [round(wait * (1 - self.jitter * random.random())) for wait in plain]  # noqa: S311 - not a secret

    def retries(self, error: BaseException) -> bool:
        return isinstance(error, self.on) and not isinstance(error, self.not_on)


@dataclass(frozen=True)
class Options:
    """Defaults for the jobs of one function; seconds. None: the service's own default."""

    queue: str = "default"
    timeout: int | None = None
    ttl: int | None = None
    result_ttl: int | None = None
    failure_ttl: int | None = None
    retry: Retry | None = None
    tags: tuple[str, ...] = field(default=())
    idempotent: bool = False
    """It may be run again from the start: so it is when a worker dies while it runs."""


DEFAULTS = Options()


def job(
    *,
    queue: str = "default",
    timeout: int | None = None,
    ttl: int | None = None,
    result_ttl: int | None = None,
    failure_ttl: int | None = None,
    retry: Retry | None = None,
    tags: Iterable[str] = (),
    idempotent: bool = False,
) -> Callable[[Function], Function]:
    """Attach options to a function, and return the function itself."""

    def attach(function: Function) -> Function:
        options = Options(queue, timeout, ttl, result_ttl, failure_ttl, retry, tuple(tags), idempotent)
        function.jobline_options = options  # type: ignore[attr-defined]
        return function

    return attach


def options_of(function: Callable[..., object]) -> Options:
    return getattr(function, "jobline_options", DEFAULTS)
