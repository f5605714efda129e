"""What an author says about a function: the `@job` decorator, its options, and how a job is retried.

Nothing here raises while a module of `jobs/` is imported: the options are checked when the catalogue finds the
function (app/catalog/function_options.py), so that a wrong one sets aside its function alone.
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
    """What `Retry(...)`, `Limit(...)` and the like give for arguments that are not theirs; `problem` says why."""

    def __init__(self, problem: str) -> None:
        self.problem = problem


class _Deferred(type):
    """Makes a class that never raises for wrong arguments: it gives a Misuse instead."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().__call__(*args, **kwargs)
        except TypeError as error:
            return Misuse(str(error).replace(".__init__", ""))


class Discard(Exception):
    """Raised by a function: fail for good, with no retry."""


@dataclass(frozen=True)
class Retry(metaclass=_Deferred):
    """Try again `max` times, waiting `initial * factor**n` seconds, at most `max_delay`, or exactly `intervals`.

    Waits are seconds, text such as "1h30m", or timedeltas; the last interval holds for all retries that follow it.
    `jitter` is the share of each wait that is random (0: none, 1: from nothing to all of it). With `on`, only these
    exceptions are retried; never those in `not_on`.
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
        """The whole seconds to wait before each retry, as RQ stores them: rounded up, for no attempt may be early."""
        if self.intervals is not None:
            return [math.ceil(as_seconds(wait)) for wait in self.intervals]
        wait, longest = as_seconds(self.initial), as_seconds(self.max_delay)
        waits = []
        for _ in range(self.max):
            wait = min(wait, longest)  # before it grows: a power of the factor may exceed what a float holds
            waits.append(math.ceil(wait * (1 - self.jitter * random.random())))  # noqa: S311 - not a secret
            wait *= self.factor
        return waits

    def retries(self, error: BaseException) -> bool:
        return isinstance(error, self.on) and not isinstance(error, self.not_on)


RATE = re.compile(r"([1-9][0-9]{0,5})/([1-9][0-9]{0,3})?([smhd])")
RATE_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def parse_rate(text: str) -> tuple[int, float]:
    """ "100/m" or "5/10s" as how many, and in how many seconds. Raises ValueError."""
    match = RATE.fullmatch(text)
    if not match:
        raise ValueError(f'{text!r} is no rate such as "100/m" or "5/10s"')
    return int(match[1]), int(match[2] or 1) * RATE_UNIT_SECONDS[match[3]]


@dataclass(frozen=True)
class Limit(metaclass=_Deferred):
    """How many jobs begin in a time (`rate_limit="100/m"`) or run at once (`concurrency=2`), over all workers.

    Counted for the function, or for its queue (`by`); with a `key` such as "{user_id}", for each value of it.
    """

    most: int | str
    by: Literal["function", "queue"] = "function"
    key: str | None = None


@dataclass(frozen=True)
class Breaker(metaclass=_Deferred):
    """After `failures` failed attempts within `window`, no job of the function begins for as long as `cool_down`.

    Both are seconds, text such as "1h30m", or timedeltas.
    """

    failures: int
    window: Duration = 60
    cool_down: Duration = 60


@dataclass(frozen=True)
class Unique(metaclass=_Deferred):
    """No second job of the function with the same arguments, while there is one that has not ended.

    `by` names the arguments that count, or is a key such as "{user.id}"; None: all of them. `during` is the time in
    which a job counts: while it waits, or also while it runs. After `ttl` (seconds, text such as "1h30m", or a
    timedelta) a second one is taken all the same; None: after 30 days. `on_conflict` is what the caller gets: the job
    that is there, or an error; or that job gives way, if it has not begun.
    """

    by: tuple[str, ...] | str | None = None
    during: Literal["queued", "queued_or_running"] = "queued_or_running"
    ttl: Duration | None = None
    on_conflict: Literal["return", "reject", "replace"] = "return"


JobEvent = Literal["job.finished", "job.failed", "job.stopped", "job.canceled"]
WorkflowEvent = Literal["workflow.finished", "workflow.failed", "workflow.canceled"]
JOB_EVENTS: tuple[JobEvent, ...] = get_args(JobEvent)
WORKFLOW_EVENTS: tuple[WorkflowEvent, ...] = get_args(WorkflowEvent)
LONGEST_URL = 2000


@dataclass(frozen=True)
class Webhook(metaclass=_Deferred):
    """Where ends are told, and which of them; signed with `secret`, else with WEBHOOK_SECRET."""

    url: str
    events: tuple[JobEvent | WorkflowEvent, ...] = JOB_EVENTS
    secret: str = field(default="", repr=False)

    def without_secret(self) -> dict[str, object]:
        """Without the secret."""
        return {"url": self.url, "events": list(self.events)}


@dataclass(frozen=True)
class Options:
    """Defaults for the jobs of one function, checked; seconds. None: the service's own default."""

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


@dataclass(frozen=True)
class JobDeclaration:
    """What `@job` attaches to a function: its arguments as they were given, unchecked, and where that was."""

    options: dict[str, object] = field(repr=False)
    positional: tuple[object, ...] = field(repr=False)
    """Positional arguments: there are none to give."""
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
) -> Callable[[Function], Function]: ...
def job(*function: Any, **options: Any) -> Any:
    """Attach options to a function, and return the function itself: `@job`, or `@job(queue="low", timeout="10m")`.

    Durations are seconds, text such as "1h30m", or timedeltas; `retry=3` is `Retry(max=3)`. What is wrong raises
    nothing: the catalogue sets the function aside, and says why.
    """
    frame = sys._getframe(1)
    location = str(frame.f_globals.get("__name__", "")), frame.f_code.co_filename, frame.f_lineno
    if len(function) == 1 and callable(function[0]):
        return _attach(function[0], JobDeclaration(options, (), *location))
    return functools.partial(_attach, declared=JobDeclaration(options, function, *location))


def _attach(function: Any, declared: JobDeclaration) -> Any:
    try:
        function.jobline_options = declared
    except (AttributeError, TypeError):  # a method or a builtin: no job, as the catalogue will say of what wraps it
        if callable(function):
            function = functools.partial(function)
            function.jobline_options = declared
    return function


def declaration_of(function: object) -> JobDeclaration | None:
    """What `@job` has attached to a function."""
    try:
        declaration = vars(function).get("jobline_options")
    except Exception:  # an author's object: it may answer to anything in its own way
        return None
    return declaration if isinstance(declaration, JobDeclaration) else None
