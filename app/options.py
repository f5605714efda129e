"""What an author says about a function: the `@job` decorator, its options, and how a job is retried."""

import math
import random
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal, TypeVar, get_args

from app import signing, urls

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
        """The whole seconds to wait before each retry, as RQ stores them: rounded up, for no attempt may be early."""
        if self.intervals is not None:
            return [math.ceil(wait) for wait in self.intervals]
        plain = (min(self.initial * self.factor**n, self.longest) for n in range(self.max))
        return [math.ceil(wait * (1 - self.jitter * random.random())) for wait in plain]  # noqa: S311 - not a secret

    def retries(self, error: BaseException) -> bool:
        return isinstance(error, self.on) and not isinstance(error, self.not_on)


RATE = re.compile(r"([1-9]\d{0,5})/(\d{0,4})([smhd])")
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def rate(text: str) -> tuple[int, float]:
    """ "100/m" or "5/10s" as how many, and in how many seconds. Raises ValueError."""
    found = RATE.fullmatch(text)
    if not found:
        raise ValueError(f'{text!r} is no rate such as "100/m" or "5/10s"')
    return int(found[1]), int(found[2] or 1) * UNITS[found[3]]


@dataclass(frozen=True)
class Limit:
    """How many jobs begin in a time (`rate_limit="100/m"`) or run at once (`concurrency=2`), over all workers.

    Counted for the function, or for its queue (`by`); with a `key` such as "{user_id}", for each value of it.
    """

    most: int | str
    by: Literal["function", "queue"] = "function"
    key: str | None = None


@dataclass(frozen=True)
class Breaker:
    """After `failures` failed attempts in `window` seconds, no job of the function begins for `cool_down` seconds."""

    failures: int
    window: float = 60
    cool_down: float = 60


@dataclass(frozen=True)
class Unique:
    """No second job of the function with the same arguments, while there is one that has not ended.

    `by` names the arguments that count, or is a key such as "{user.id}"; None: all of them.
    """

    by: tuple[str, ...] | str | None = None
    during: Literal["queued", "queued_or_running"] = "queued_or_running"
    lasts: float | None = None
    """Seconds after which a second one is taken all the same."""
    on_conflict: Literal["return", "reject", "replace"] = "return"
    """The caller gets the job that is there, or an error; or it gives way, if it has not begun."""


JobEvent = Literal["job.finished", "job.failed", "job.stopped", "job.canceled"]
WorkflowEvent = Literal["workflow.finished", "workflow.failed", "workflow.canceled"]
JOB_EVENTS: tuple[JobEvent, ...] = get_args(JobEvent)
WORKFLOW_EVENTS: tuple[WorkflowEvent, ...] = get_args(WorkflowEvent)
LONGEST_URL = 2000


@dataclass(frozen=True)
class Webhook:
    """Where ends are told, and which of them; signed with `secret`, else with WEBHOOK_SECRET.

    Raises:
        ValueError: it is no http or https URL without a user name, no such event, or no such secret (app/signing.py).
    """

    url: str
    events: tuple[JobEvent | WorkflowEvent, ...] = JOB_EVENTS
    secret: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        urls.parsed(self.url)
        if len(self.url) > LONGEST_URL or re.search(r"[\x00-\x20\x7f]", self.url):
            raise ValueError(f"the URL of a webhook has at most {LONGEST_URL} characters, and no space among them")
        known = JOB_EVENTS, WORKFLOW_EVENTS
        if not self.events or not any(set(self.events) <= set(some) for some in known):
            raise ValueError(f"the events of a webhook are some of {' or of '.join(map(', '.join, known))}")
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
    rate_limit: Limit | None = None
    concurrency: Limit | None = None
    breaker: Breaker | None = None
    unique: Unique | None = None
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
    rate_limit: str | Limit | None = None,
    concurrency: int | Limit | None = None,
    breaker: Breaker | None = None,
    unique: Unique | None = None,
    webhook: Webhook | None = None,
    idempotent: bool = False,
) -> Callable[[Function], Function]:
    """Attach options to a function, and return the function itself. Raises ValueError for a rate that is none."""
    if rate_limit is not None:
        rate_limit = rate_limit if isinstance(rate_limit, Limit) else Limit(rate_limit)
        rate(str(rate_limit.most))
    if isinstance(concurrency, int):
        concurrency = Limit(concurrency)
    options = Options(
        queue, timeout, ttl, result_ttl, failure_ttl, retry, tuple(tags),
        rate_limit, concurrency, breaker, unique, webhook, idempotent,
    )  # fmt: skip

    def attach(function: Function) -> Function:
        function.jobline_options = options  # type: ignore[attr-defined]
        return function

    return attach


def options_of(function: Callable[..., object]) -> Options:
    return getattr(function, "jobline_options", DEFAULTS)
