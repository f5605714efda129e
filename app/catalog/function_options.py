"""The options of a function: what `@job` was given, checked by the rules of the API (app/catalog/fields.py)."""

import difflib
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from app.author.options import Breaker, Declared, Limit, Misuse, Options, Retry, Unique, Webhook, declared_for
from app.catalog import call_keys
from app.catalog.fields import BreakerBody, CallOptions, ConcurrencyBody, Flag, RateBody
from app.pointers import place_in

MAX_SHOWN = 60  # characters of a wrong value
DEFAULTS = Options()
KNOWN = tuple(field.name for field in fields(Options))


class BadOptions(ValueError):
    """Says what is wrong with each option, in words for the author. Never quotes a webhook: it may hold a secret."""


class _Body(CallOptions):
    """Options of `@job` in the shapes of the API; those that have two there are always objects here."""

    rate_limit: RateBody | None = None
    concurrency: ConcurrencyBody | None = None
    breaker: BreakerBody | None = None
    idempotent: Flag = False


@dataclass(frozen=True)
class _Form:
    """How an option is written: an object of `cls`, or a plain value in place of its field `short`."""

    cls: type
    hint: str
    short: str = ""
    plain: type = object


FORMS = {
    "retry": _Form(Retry, "a number of retries, or Retry(max=3)", "max", int),
    "rate_limit": _Form(Limit, 'text such as "100/m", or Limit("100/m")', "most", str),
    "concurrency": _Form(Limit, "a number, or Limit(2)", "most", int),
    "breaker": _Form(Breaker, "Breaker(failures=5)"),
    "unique": _Form(Unique, "Unique()"),
    "webhook": _Form(Webhook, 'Webhook("https://example.com/hook")'),
}
PATTERNS = {
    "queue": "a queue's name has 1 to 64 characters: ASCII letters, digits, _, . and -",
    "rate_limit": 'a rate is like "100/m" or "5/10s": a number, and a time in s, m, h or d',
}
"""What is said in place of a pattern."""


def options_of(function: Callable[..., object]) -> Options:
    """Raises BadOptions."""
    declared = declared_for(function)
    return _checked(declared, function) if declared else DEFAULTS


def checked_retry(value: object) -> Retry:
    """A Retry that a function returns. Raises BadOptions."""
    retry = _checked(Declared({"retry": value}, ()), None).retry
    assert retry
    return retry


def _checked(declared: Declared, function: Callable[..., object] | None) -> Options:
    given = {name: value for name, value in declared.options.items() if value is not None}
    problems = ['options are given by name, as in @job(queue="low")'] if declared.misplaced else []
    shapes: dict[str, Any] = {}
    for name, value in given.items():
        try:
            shapes[name] = shape_of(name, value)
        except ValueError as error:
            problems.append(f"{name}: {error}")
    try:
        body = _Body.model_validate(shapes)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False)
        problems += dict.fromkeys(_in_words(item, shapes, given) for item in found)
    if not problems:
        options = _options(body, given.get("retry"))
        problems = list(_wrong_keys(options, function)) if function else []
    if problems:
        raise BadOptions("; ".join(problems))
    return options


def shape_of(name: str, value: object) -> Any:
    """An option as JSON would have it, not yet checked. Raises ValueError."""
    if isinstance(value, Misuse):
        raise ValueError(value.problem)  # noqa: TRY004 - what is wrong with a value, of whatever type
    form = FORMS.get(name)
    if form is None:
        return value
    if isinstance(value, form.cls):
        return _retry(value) if isinstance(value, Retry) else _fields(value)
    if form.short and isinstance(value, form.plain) and not isinstance(value, bool):
        return {form.short: value}
    raise ValueError(f"give {form.hint}" if name == "webhook" else f"give {form.hint}, not {_shown(value)}")


def _fields(value: Any) -> dict[str, Any]:
    said = {field.name: getattr(value, field.name) for field in fields(value)}
    if not said.get("secret", "-"):
        del said["secret"]
    return {name: list(part) if isinstance(part, tuple) else part for name, part in said.items() if part is not None}


def _retry(retry: Retry) -> dict[str, Any]:
    exceptions_of("on", retry.on)
    exceptions_of("not_on", retry.not_on)
    said, default = _fields(retry), Retry(1)
    names = ("initial", "factor", "max_delay", "jitter")
    backoff = {name: said[name] for name in names if name in said and said[name] != getattr(default, name)}
    shape: dict[str, Any] = {name: said[name] for name in ("max", "intervals") if name in said}
    if backoff and "intervals" in shape:
        raise ValueError(f"give intervals, or {' and '.join(backoff)}, not both")
    return {**shape, "backoff": backoff} if backoff else shape


def exceptions_of(name: str, value: Any) -> tuple[type[BaseException], ...]:
    """Exception classes, from one or several. Raises ValueError."""
    found = tuple(value) if isinstance(value, list | tuple | set | frozenset) else (value,)
    if not all(isinstance(one, type) and issubclass(one, BaseException) for one in found):
        raise ValueError(f"{name} names classes of exceptions, as in {name}=(ConnectionError,)")
    return found


def _options(body: _Body, retry: object) -> Options:
    checked = body.retry.as_retry() if body.retry else None
    if checked and isinstance(retry, Retry):
        checked = replace(checked, on=exceptions_of("on", retry.on), not_on=exceptions_of("not_on", retry.not_on))
    return Options(
        queue=body.queue or DEFAULTS.queue,
        timeout=body.timeout,
        ttl=body.ttl,
        result_ttl=body.result_ttl,
        failure_ttl=body.failure_ttl,
        retry=checked,
        tags=tuple(body.tags),
        rate_limit=body.rate_limit.as_limit() if body.rate_limit else None,
        concurrency=body.concurrency.as_limit() if body.concurrency else None,
        breaker=body.breaker.as_breaker() if body.breaker else None,
        unique=body.unique.as_unique() if body.unique else None,
        webhook=body.webhook.as_webhook() if body.webhook else None,
        idempotent=body.idempotent,
    )


def _in_words(error: ErrorDetails, shapes: dict[str, Any], given: dict[str, Any]) -> str:
    name = str(error["loc"][0])
    if error["type"] == "extra_forbidden" and len(error["loc"]) == 1:
        close = difflib.get_close_matches(name, KNOWN, 1)
        return f"there is no option {name}" + (f": did you mean {close[0]}?" if close else "")
    place = [str(part) for part in place_in(shapes, error) if part != "backoff"]
    if name in FORMS and not isinstance(given[name], FORMS[name].cls):
        place = place[:1]
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "string_pattern_mismatch":
        message = PATTERNS.get(name, message)
    value = "" if name == "webhook" else f"={_shown(error['input'])}"
    return f"{'.'.join(place)}{value}: {message}"


def _wrong_keys(options: Options, function: Callable[..., object]) -> Iterator[str]:
    """What limits count by, and what makes a job unique, is made of the function's parameters."""
    try:
        known = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return  # the catalogue says so
    by = options.unique.by if options.unique else None
    for name, limit in (("rate_limit", options.rate_limit), ("concurrency", options.concurrency)):
        if limit and limit.key:
            yield from _wrong_key(f"{name}.key", limit.key, known)
    if isinstance(by, str) and by in known:
        yield f'unique.by={by!r}: names are given as a tuple, by=("{by}",); a key is like "{{{by}}}"'
    if isinstance(by, str):
        yield from _wrong_key("unique.by", by, known)
    for one in by if isinstance(by, tuple) else ():
        if one not in known:
            yield f"unique.by: {one!r} is no parameter of the function"


def _wrong_key(name: str, key: str, known: Any) -> Iterator[str]:
    for one in call_keys.PLACE.findall(key):
        if one.partition(".")[0] not in known:
            yield f"{name}={_shown(key)}: {one.partition('.')[0]!r} is no parameter of the function"
    if {"{", "}"} & set(call_keys.PLACE.sub("", key)):
        yield f'{name}={_shown(key)}: a key is like "{{user_id}}" or "{{user.id}}"'


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except Exception:  # an author's object may fail to show itself
        text = f"<{type(value).__name__}>"
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."
