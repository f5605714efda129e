"""Validation of the options given to `@job`, by the same rules as in the API (app/catalog/fields.py)."""

import difflib
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from app.author.options import Breaker, JobDeclaration, Limit, Misuse, Options, Retry, Unique, Webhook, declaration_of
from app.catalog import call_keys
from app.catalog.fields import BreakerBody, CallOptions, ConcurrencyBody, Flag, RateBody
from app.pointers import path_in

MAX_SHOWN_CHARACTERS = 60  # characters of a wrong value
DEFAULTS = Options()
OPTION_NAMES = tuple(field.name for field in fields(Options))


class BadOptions(ValueError):
    """Invalid options, with a message for the author about each. Never quotes a webhook: it may contain a secret."""


class _Body(CallOptions):
    """Options of `@job` as the API accepts them. Limits are always objects here, never in their short form."""

    rate_limit: RateBody | None = None
    concurrency: ConcurrencyBody | None = None
    breaker: BreakerBody | None = None
    idempotent: Flag = False
    alone: Flag = False
    critical: Flag = False


@dataclass(frozen=True)
class _OptionForm:
    """The accepted forms of an option: an object of `cls`, or a plain value for its field `short`."""

    cls: type
    hint: str
    short: str = ""
    plain: type = object


FORMS = {
    "retry": _OptionForm(Retry, "a number of retries, or Retry(max=3)", "max", int),
    "rate_limit": _OptionForm(Limit, 'text such as "100/m", or Limit("100/m")', "most", str),
    "concurrency": _OptionForm(Limit, "a number, or Limit(2)", "most", int),
    "breaker": _OptionForm(Breaker, "Breaker(failures=5)"),
    "unique": _OptionForm(Unique, "Unique()"),
    "webhook": _OptionForm(Webhook, 'Webhook("https://example.com/hook")'),
}
PATTERN_MESSAGES = {
    "queue": "a queue's name has 1 to 64 characters: ASCII letters, digits, _, . and -",
    "rate_limit": 'a rate is like "100/m" or "5/10s": a number, and a time in s, m, h or d',
}
"""Messages that replace pydantic's for a pattern."""


def options_of(function: Callable[..., object]) -> Options:
    """Return the validated options of a function. Raises BadOptions."""
    declared = declaration_of(function)
    return _validate(declared, function) if declared else DEFAULTS


def validated_retry(value: object) -> Retry:
    """Validate a Retry that a function returns. Raises BadOptions."""
    retry = _validate(JobDeclaration({"retry": value}, ()), None).retry
    assert retry
    return retry


def _validate(declared: JobDeclaration, function: Callable[..., object] | None) -> Options:
    given = {name: value for name, value in declared.options.items() if value is not None}
    problems = ['options are given by name, as in @job(queue="low")'] if declared.positional else []
    body_values: dict[str, Any] = {}
    for name, value in given.items():
        try:
            body_values[name] = as_body(name, value)
        except ValueError as error:
            problems.append(f"{name}: {error}")
    try:
        body = _Body.model_validate(body_values)
    except ValidationError as error:
        errors = error.errors(include_url=False, include_context=False)
        problems += dict.fromkeys(_message(item, body_values, given) for item in errors)
    if not problems:
        options = _options(body, given.get("retry"))
        problems = list(_key_problems(options, function)) if function else []
    if problems:
        raise BadOptions("; ".join(problems))
    return options


def as_body(name: str, value: object) -> Any:
    """Convert an option to the form that the API accepts, not yet validated. Raises ValueError."""
    if isinstance(value, Misuse):
        raise ValueError(value.problem)  # noqa: TRY004 - an invalid value, of any type
    form = FORMS.get(name)
    if form is None:
        return value
    if isinstance(value, form.cls):
        return _retry_body(value) if isinstance(value, Retry) else _fields(value)
    if form.short and isinstance(value, form.plain) and not isinstance(value, bool):
        return {form.short: value}
    raise ValueError(f"give {form.hint}" if name == "webhook" else f"give {form.hint}, not {_short_repr(value)}")


def _fields(value: Any) -> dict[str, Any]:
    values = {field.name: getattr(value, field.name) for field in fields(value)}
    if not values.get("secret", "-"):
        del values["secret"]
    return {name: list(part) if isinstance(part, tuple) else part for name, part in values.items() if part is not None}


def _retry_body(retry: Retry) -> dict[str, Any]:
    exceptions_of("on", retry.on)
    exceptions_of("not_on", retry.not_on)
    values, default = _fields(retry), Retry(1)
    names = ("initial", "factor", "max_delay", "jitter")
    backoff = {name: values[name] for name in names if name in values and values[name] != getattr(default, name)}
    body: dict[str, Any] = {name: values[name] for name in ("max", "intervals") if name in values}
    if backoff and "intervals" in body:
        raise ValueError(f"give intervals, or {' and '.join(backoff)}, not both")
    return {**body, "backoff": backoff} if backoff else body


def exceptions_of(name: str, value: Any) -> tuple[type[BaseException], ...]:
    """Return one or several exception classes as a tuple. Raises ValueError."""
    classes = tuple(value) if isinstance(value, list | tuple | set | frozenset) else (value,)
    if not all(isinstance(cls, type) and issubclass(cls, BaseException) for cls in classes):
        raise ValueError(f"{name} names classes of exceptions, as in {name}=(ConnectionError,)")
    return classes


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
        alone=body.alone,
        critical=body.critical,
    )


def _message(error: ErrorDetails, body_values: dict[str, Any], given: dict[str, Any]) -> str:
    name = str(error["loc"][0])
    if error["type"] == "extra_forbidden" and len(error["loc"]) == 1:
        close = difflib.get_close_matches(name, OPTION_NAMES, 1)
        return f"there is no option {name}" + (f": did you mean {close[0]}?" if close else "")
    path = [str(part) for part in path_in(body_values, error) if part != "backoff"]
    if name in FORMS and not isinstance(given[name], FORMS[name].cls):
        path = path[:1]
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "string_pattern_mismatch":
        message = PATTERN_MESSAGES.get(name, message)
    value = "" if name == "webhook" else f"={_short_repr(error['input'])}"
    return f"{'.'.join(path)}{value}: {message}"


def _key_problems(options: Options, function: Callable[..., object]) -> Iterator[str]:
    """Yield the key templates of limits and of uniqueness that name unknown parameters."""
    try:
        known = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return  # reported by the catalogue
    by = options.unique.by if options.unique else None
    for name, limit in (("rate_limit", options.rate_limit), ("concurrency", options.concurrency)):
        if limit and limit.key:
            yield from _key_template_problems(f"{name}.key", limit.key, known)
    if isinstance(by, str) and by in known:
        yield f'unique.by={by!r}: names are given as a tuple, by=("{by}",); a key is like "{{{by}}}"'
    if isinstance(by, str):
        yield from _key_template_problems("unique.by", by, known)
    for parameter in by if isinstance(by, tuple) else ():
        if parameter not in known:
            yield f"unique.by: {parameter!r} is no parameter of the function"


def _key_template_problems(name: str, key: str, known: Any) -> Iterator[str]:
    for placeholder in call_keys.PLACEHOLDER.findall(key):
        parameter = placeholder.partition(".")[0]
        if parameter not in known:
            yield f"{name}={_short_repr(key)}: {parameter!r} is no parameter of the function"
    if {"{", "}"} & set(call_keys.PLACEHOLDER.sub("", key)):
        yield f'{name}={_short_repr(key)}: a key is like "{{user_id}}" or "{{user.id}}"'


def _short_repr(value: object) -> str:
    try:
        text = repr(value)
    except Exception:  # an author's object whose __repr__ fails
        text = f"<{type(value).__name__}>"
    return text if len(text) <= MAX_SHOWN_CHARACTERS else f"{text[:MAX_SHOWN_CHARACTERS]}..."
