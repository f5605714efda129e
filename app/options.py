"""What an author says about a function: the `@job` decorator, its options, and how a job is retried."""

import random
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal, TypeVar, get_args

from app import signing

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


Event = Literal["job.finished", "job.failed", "job.stopped", "job.canceled"]
EVENTS: tuple[Event, ...] = get_args(Event)
LONGEST_URL = 2000


@dataclass(frozen=True)
class Webhook:
    """Where the ends of jobs are told, and which of them; signed with `secret`, else with WEBHOOK_SECRET.

    Raises:
        ValueError: it is no http or https URL without a user name, no such event, or no such secret (app/signing.py).
    """

    url: str
    events: tuple[Event, ...] = EVENTS
    secret: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        from app import outbound  # which raises Discard

        try:
            outbound.parsed(self.url)
        except Discard as error:
            raise ValueError(str(error)) from None
        if len(self.url) > LONGEST_URL or re.search(r"[\x00-\x20\x7f]", self.url):
            raise ValueError(f"the URL of a webhook has at most {LONGEST_URL} characters, and no space among them")
        unknown = sorted(set(self.events) - set(EVENTS))
        if unknown or not self.events:
            raise ValueError(f"the events of a webhook are some of {', '.join(EVENTS)}")
        signing.parse(self.secret)

    def shown(self) -> dict[str, object]:
        """Without the secret."""
        return {"url": self.url, "events": list(self.events)}


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
    webhook: Webhook | None = None
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
    webhook: Webhook | None = None,
    idempotent: bool = False,
) -> Callable[[Function], Function]:
    """Attach options to a function, and return the function itself."""

    def attach(function: Function) -> Function:
        options = Options(queue, timeout, ttl, result_ttl, failure_ttl, retry, tuple(tags), webhook, idempotent)
        function.jobline_options = options  # type: ignore[attr-defined]
        return function

    return attach


def options_of(function: Callable[..., object]) -> Options:
    return getattr(function, "jobline_options", DEFAULTS)
