"""The `@job` decorator and its options.

Nothing here raises while a module of `jobs/` is imported. The catalogue validates the options when it discovers the
function (app/catalog/function_options.py), so that an invalid one affects only its function.
"""

import functools
import math
import random
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, get_args, overload

from app.author.durations import Duration, as_seconds

Function = TypeVar("Function", bound=Callable[..., object])


class Misuse:
    """The result of a call such as `Retry(...)` or `Limit(...)` with wrong arguments. `problem` is the reason."""

    def __init__(self, problem: str) -> None:
        self.problem = problem


class _Deferred(type):
    """Metaclass: calling the class with wrong arguments returns a Misuse instead of raising."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().__call__(*args, **kwargs)
        except TypeError as error:
            return Misuse(str(error).replace(".__init__", ""))


class Discard(Exception):
    """Raise it in a job to fail for good, without a retry."""


@dataclass(frozen=True)
class Retry(metaclass=_Deferred):
    """Retry a failed job.

    Args:
        max: the number of retries.
        initial, factor, max_delay: the wait before retry n (from 0) is `initial * factor**n`, at most `max_delay`.
        jitter: the share of each wait that is random, from 0 (none) to 1 (all of it).
        intervals: explicit waits instead of these; the last one applies to all further retries.
        on: exceptions that are retried.
        not_on: exceptions that are never retried.

    Waits are seconds, text such as "1h30m", or timedeltas.
    """

    max: int
    initial: Duration = 1
    factor: float = 2
    max_delay: Duration = 3600
    jitter: float = 0.5
    intervals: Iterable[Duration] | None = None
    on: type[BaseException] | tuple[type[BaseException], ...] = (Exception,)
    not_on: type[BaseException] | tuple[type[BaseException], ...] = (Discard,)

    def waits(self) -> list[int]:
        """Return the wait before each retry in whole seconds, as RQ stores them. Rounded up: no retry may be early."""
        if self.intervals is not None:
            return [math.ceil(as_seconds(wait)) for wait in self.intervals]
        wait, max_delay = as_seconds(self.initial), as_seconds(self.max_delay)
        waits = []
        for _ in range(self.max):
            wait = min(wait, max_delay)  # first: a power of the factor can overflow a float
            waits.append(math.ceil(wait * (1 - self.jitter * random.random())))  # noqa: S311 - not a secret
            wait *= self.factor
        return waits

    def retries(self, error: BaseException) -> bool:
        return isinstance(error, self.on) and not isinstance(error, self.not_on)


RATE = re.compile(r"([1-9][0-9]{0,5})/([1-9][0-9]{0,3})?([smhd])")
RATE_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def parse_rate(text: str) -> tuple[int, float]:
    """Parse a rate such as "100/m" or "5/10s". Returns the number and the period in seconds. Raises ValueError."""
    match = RATE.fullmatch(text)
    if not match:
        raise ValueError(f'{text!r} is no rate such as "100/m" or "5/10s"')
    return int(match[1]), int(match[2] or 1) * RATE_UNIT_SECONDS[match[3]]


@dataclass(frozen=True)
class Limit(metaclass=_Deferred):
    """Limit how many jobs start per period (`rate_limit`) or run at the same time (`concurrency`), over all workers.

    Args:
        most: a rate such as "100/m", or a number of jobs.
        by: whether to count the jobs of the function, or of its queue.
        key: count separately for each value of this key, such as "{user_id}".
    """

    most: int | str
    by: Literal["function", "queue"] = "function"
    key: str | None = None


@dataclass(frozen=True)
class Breaker(metaclass=_Deferred):
    """Start no job of the function for `cool_down` after `failures` failed attempts within `window`.

    Both times are seconds, text such as "1h30m", or timedeltas.
    """

    failures: int
    window: Duration = 60
    cool_down: Duration = 60


@dataclass(frozen=True)
class Unique(metaclass=_Deferred):
    """Accept no second job of the function with the same arguments while the first is pending.

    Args:
        by: the names of the arguments to compare, or a key such as "{user.id}"; None: all arguments.
        during: whether a job counts only while it waits ("queued"), or also while it runs.
        ttl: after this time another job is accepted in any case: seconds, text such as "1h30m", or a timedelta;
            None: 30 days.
        on_conflict: "return" the first job to the caller, "reject" the request, or "replace" the first job if it has
            not started.
    """

    by: tuple[str, ...] | str | None = None
    during: Literal["queued", "queued_or_running"] = "queued_or_running"
    ttl: Duration | None = None
    on_conflict: Literal["return", "reject", "replace"] = "return"


JobEvent = Literal["job.finished", "job.failed", "job.stopped", "job.canceled"]
WorkflowEvent = Literal["workflow.finished", "workflow.failed", "workflow.canceled"]
JOB_EVENTS: tuple[JobEvent, ...] = get_args(JobEvent)
WORKFLOW_EVENTS: tuple[WorkflowEvent, ...] = get_args(WorkflowEvent)


@dataclass(frozen=True)
class Webhook(metaclass=_Deferred):
    """Report these `events` of a job to `url`, signed with `secret`, else with WEBHOOK_SECRET."""

    url: str
    events: tuple[JobEvent | WorkflowEvent, ...] = JOB_EVENTS
    secret: str = field(default="", repr=False)

    def without_secret(self) -> dict[str, object]:
        """Return what may be shown: everything but the secret."""
        return {"url": self.url, "events": list(self.events)}


@dataclass(frozen=True)
class Options:
    """Validated defaults for the jobs of a function. Times are seconds. None: the default of the service."""

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
    """The job may run again from the start. It does so when its worker dies."""
    alone: bool = False
    """No other job runs in its process meanwhile: it is not safe in threads, or computes for long."""
    critical: bool = False
    """The first job that fails for good is an alert."""


@dataclass(frozen=True)
class JobDeclaration:
    """What `@job` attaches to a function: the options as given, not validated, and the location of the call."""

    options: dict[str, object] = field(repr=False)
    positional: tuple[object, ...] = field(repr=False)
    """Positional arguments, which are an error."""
    module: str = ""
    file: str = ""
    line: int = 0


@overload
def job(function: Function, /) -> Function: ...
@overload
def job(
    *,
    queue: str = "default",
    timeout: Duration | None = None,
    ttl: Duration | None = None,
    result_ttl: Duration | None = None,
    failure_ttl: Duration | None = None,
    retry: int | Retry | None = None,
    tags: Iterable[str] = (),
    rate_limit: str | Limit | None = None,
    concurrency: int | Limit | None = None,
    breaker: Breaker | None = None,
    unique: Unique | None = None,
    webhook: Webhook | None = None,
    idempotent: bool = False,
    alone: bool = False,
    critical: bool = False,
) -> Callable[[Function], Function]: ...
def job(*function: Any, **options: Any) -> Any:
    """Attach options to a function, and return the function itself: `@job`, or `@job(queue="low", timeout="10m")`.

    Durations are seconds, text such as "1h30m", or timedeltas; `retry=3` is `Retry(max=3)`. Invalid options do not
    raise: the catalogue sets the function aside and reports the reason.
    """
    frame = sys._getframe(1)
    location = str(frame.f_globals.get("__name__", "")), frame.f_code.co_filename, frame.f_lineno
    if len(function) == 1 and callable(function[0]):
        return _attach(function[0], JobDeclaration(options, (), *location))
    return functools.partial(_attach, declared=JobDeclaration(options, function, *location))


def _attach(function: Any, declared: JobDeclaration) -> Any:
    try:
        function.jobline_options = declared
    except (AttributeError, TypeError):  # a method or a builtin: the catalogue rejects the partial
        if callable(function):
            function = functools.partial(function)
            function.jobline_options = declared
    return function


def declaration_of(function: object) -> JobDeclaration | None:
    """Return what `@job` has attached to a function, if anything."""
    try:
        declaration = vars(function).get("jobline_options")
    except Exception:  # an author's object can raise anything
        return None
    return declaration if isinstance(declaration, JobDeclaration) else None
