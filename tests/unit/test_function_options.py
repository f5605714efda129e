"""The options of `@job`: the API's rules hold for them, and what is wrong is said without an exception at import."""

import inspect
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from app import Breaker, Discard, Limit, Retry, Unique, Webhook, job
from app.author.options import JOB_EVENTS, Misuse, Options
from app.catalog.fields import Backoff, BreakerBody, ConcurrencyBody, RateBody, RetryBody, UniqueBody, WebhookBody
from app.catalog.function_options import BadOptions, options_of, validated_retry
from tests.receiver import SECRET

URL = "https://example.com/hook"


def checked(**options: Any) -> Options:
    def plain(user: dict[str, int], count: int = 1) -> None: ...

    assert job(**options)(plain) is plain
    return options_of(plain)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"timeout": 30}, {"timeout": 30}),
        ({"timeout": "10m", "ttl": "1h30m"}, {"timeout": 600, "ttl": 5400}),
        ({"timeout": timedelta(minutes=10)}, {"timeout": 600}),
        ({"result_ttl": "1d", "failure_ttl": -1}, {"result_ttl": 86_400, "failure_ttl": -1}),
        ({"retry": 3}, {"retry": Retry(3)}),
        (
            {"retry": Retry(3, "2s", 3, "1h", 0)},
            {"retry": Retry(3, 2, 3, 3600, 0)},
        ),
        ({"retry": Retry(3, intervals=("1m", 5))}, {"retry": Retry(3, intervals=(60, 5, 5))}),
        ({"retry": Retry(1, on=OSError, not_on=[KeyError])}, {"retry": Retry(1, on=(OSError,), not_on=(KeyError,))}),
        ({"rate_limit": "5/10s"}, {"rate_limit": Limit("5/10s")}),
        ({"concurrency": 2}, {"concurrency": Limit(2)}),
        ({"concurrency": Limit(2, "queue", "{user.id}")}, {"concurrency": Limit(2, "queue", "{user.id}")}),
        ({"breaker": Breaker(5, "1m", cool_down="30s")}, {"breaker": Breaker(5, 60, 30)}),
        (
            {"unique": Unique(("count",), "queued", "1h", "reject")},
            {"unique": Unique(("count",), "queued", 3600, "reject")},
        ),
        ({"unique": Unique(by="always")}, {"unique": Unique(by="always")}),
        ({"webhook": Webhook(URL)}, {"webhook": Webhook(URL, JOB_EVENTS)}),
        ({"webhook": Webhook(URL, ("job.failed",), SECRET)}, {"webhook": Webhook(URL, ("job.failed",), SECRET)}),
        ({"tags": ["a", "b"]}, {"tags": ("a", "b")}),
        ({"queue": None, "timeout": None, "tags": None}, {}),
        ({"idempotent": True, "queue": "low"}, {"idempotent": True, "queue": "low"}),
    ],
)  # fmt: skip
def test_what_is_given_is_made_of_one_form(given: dict[str, Any], expected: dict[str, Any]) -> None:
    assert checked(**given) == Options(**expected)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"queue": "my queue"}, "queue='my queue': a queue's name has 1 to 64 characters"),
        ({"queue": 5}, "queue=5: Input should be a valid string"),
        ({"timeout": "10 minutes"}, "timeout='10 minutes': Input should be seconds, or a duration such as \"1h30m\""),
        ({"timeout": 0}, "timeout=0: Input should be greater than or equal to 1"),
        ({"timeout": "11y"}, "timeout='11y': Input should be seconds"),
        ({"timeout": True}, "timeout=True: Input should be seconds"),
        ({"timeout": 1.5}, "timeout=1.5: Input should be a valid integer"),
        ({"timeout": float("nan")}, "timeout=nan: Input should be a finite number"),
        ({"ttl": -1}, "ttl=-1: Input should be greater than or equal to 1"),
        ({"result_ttl": -2}, "result_ttl=-2: "),
        ({"failure_ttl": "never"}, "failure_ttl='never': "),
        ({"retry": 0}, "retry=0: Input should be greater than or equal to 1"),
        ({"retry": True}, "retry: give a number of retries, or Retry(max=3), not True"),
        ({"retry": {"max": 3}}, "retry: give a number of retries"),
        ({"retry": Retry("many")}, "retry.max='many': Input should be a valid integer"),  # type: ignore[arg-type]
        ({"retry": Retry()}, "retry: Retry() missing 1 required positional argument: 'max'"),  # type: ignore[call-arg]
        ({"retry": Retry(3, longest=4)}, "retry: Retry() got an unexpected keyword argument 'longest'"),  # type: ignore[call-arg]
        ({"retry": Retry(3, "soon")}, "retry.initial='soon': Input should be seconds"),
        ({"retry": Retry(3, max_delay=-1)}, "retry.max_delay=-1: "),
        ({"retry": Retry(3, factor=0)}, "retry.factor=0: "),
        ({"retry": Retry(3, jitter=2)}, "retry.jitter=2: "),
        ({"retry": Retry(3, jitter=True)}, "retry.jitter=True: Input should be a number"),
        ({"retry": Retry(3, intervals=())}, "retry.intervals=[]: List should have at least 1 item"),
        ({"retry": Retry(3, intervals=(1, "x"))}, "retry.intervals.1='x': Input should be seconds"),
        ({"retry": Retry(3, 5, intervals=(1,))}, "retry: give intervals, or initial, not both"),
        ({"retry": Retry(3, on="OSError")}, "retry: on names classes of exceptions"),  # type: ignore[arg-type]
        ({"retry": Retry(3, not_on=(5,))}, "retry: not_on names classes of exceptions"),  # type: ignore[arg-type]
        ({"tags": "nightly"}, "tags='nightly': Input should be a valid list"),
        ({"tags": ["x" * 65]}, "tags.0="),
        ({"tags": ["x"] * 33}, "List should have at most 32 items"),
        ({"rate_limit": "fast"}, "rate_limit='fast': a rate is like \"100/m\""),
        ({"rate_limit": 5}, 'rate_limit: give text such as "100/m", or Limit("100/m"), not 5'),
        ({"rate_limit": Limit(5)}, "rate_limit.most=5: "),
        ({"rate_limit": Limit("5/s", by="user")}, "rate_limit.by='user': "),  # type: ignore[arg-type]
        ({"rate_limit": Limit("5/s", key="{usr.id}")}, "rate_limit.key='{usr.id}': 'usr' is no parameter"),
        ({"rate_limit": Limit("5/s", key="{user[id]}")}, "rate_limit.key='{user[id]}': a key is like"),
        ({"concurrency": 0}, "concurrency=0: "),
        ({"concurrency": True}, "concurrency: give a number, or Limit(2), not True"),
        ({"concurrency": Limit("2/s")}, "concurrency.most='2/s': "),
        ({"concurrency": Limit(2, key="x" * 201)}, "concurrency.key="),
        ({"breaker": 5}, "breaker: give Breaker(failures=5), not 5"),
        ({"breaker": Breaker(0)}, "breaker.failures=0: "),
        ({"breaker": Breaker(1, window="x")}, "breaker.window='x': "),
        ({"breaker": Breaker(1, cool_down=0)}, "breaker.cool_down=0: "),
        ({"unique": True}, "unique: give Unique(), not True"),
        ({"unique": Unique(lasts=5)}, "unique: Unique() got an unexpected keyword argument 'lasts'"),  # type: ignore[call-arg]
        ({"unique": Unique(by=("user", "size"))}, "unique.by: 'size' is no parameter of the function"),
        ({"unique": Unique(by="user")}, 'names are given as a tuple, by=("user",)'),
        ({"unique": Unique(during="ever")}, "unique.during='ever': "),  # type: ignore[arg-type]
        ({"unique": Unique(ttl=0)}, "unique.ttl=0: "),
        ({"unique": Unique(on_conflict="wait")}, "unique.on_conflict='wait': "),  # type: ignore[arg-type]
        ({"webhook": URL}, 'webhook: give Webhook("https://example.com/hook")'),
        ({"webhook": Webhook("ftp://example.com")}, "webhook.url: Only http:// and https:// URLs"),
        ({"webhook": Webhook(URL, ("job.begun",))}, "webhook.events.0: "),  # type: ignore[arg-type]
        ({"idempotent": "yes"}, "idempotent='yes': "),
        ({"time_out": 5}, "there is no option time_out: did you mean timeout?"),
        ({"colour": "red"}, "there is no option colour"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(given: dict[str, Any], message: str) -> None:
    with pytest.raises(BadOptions) as caught:
        checked(**given)
    assert message in str(caught.value)


def test_all_that_is_wrong_is_named_together() -> None:
    with pytest.raises(BadOptions) as caught:
        checked(queue="my queue", retry="x", timeout=-1)
    assert [part.partition("=")[0].partition(":")[0] for part in str(caught.value).split("; ")] == [
        "retry", "queue", "timeout",
    ]  # fmt: skip


def test_no_secret_is_quoted() -> None:
    secret = "whsec_notbase64!"
    for webhook in (
        Webhook(URL, secret=secret),
        {"url": URL, "secret": secret},
        Webhook(f"https://{secret}@x.example"),
    ):
        with pytest.raises(BadOptions) as caught:
            checked(webhook=webhook)
        assert secret not in str(caught.value)


def test_a_value_that_cannot_show_itself_is_named_by_its_type() -> None:
    class Strange:
        def __repr__(self) -> str:
            raise RuntimeError

    with pytest.raises(BadOptions, match="timeout=<Strange>: "):
        checked(timeout=Strange())


@pytest.mark.parametrize("decorate", [job, job(), lambda call: job(call)], ids=["bare", "empty", "called"])
def test_a_decorator_without_options_changes_nothing(decorate: Callable[[Any], Any]) -> None:
    def plain() -> None: ...

    assert decorate(plain) is plain
    assert options_of(plain) == Options()


def test_options_are_given_by_name() -> None:
    def plain() -> None: ...

    with pytest.raises(BadOptions, match=r"given by name, as in @job\(queue="):
        options_of(job("low")(plain))  # type: ignore[call-overload]


def test_a_retry_that_a_function_returns_is_checked_too() -> None:
    assert validated_retry(Retry(2, intervals=("1m",))).waits() == [60, 60]
    for wrong in (Retry(0), Retry(1, longest=1)):  # type: ignore[call-arg]
        with pytest.raises(BadOptions):
            validated_retry(wrong)
    assert isinstance(Retry(1, longest=1), Misuse)  # type: ignore[call-arg]


def test_exceptions_are_retried_by_their_classes() -> None:
    retry = checked(retry=Retry(1, on=OSError)).retry
    assert retry
    assert [retry.retries(error) for error in (ConnectionError(), KeyError(), Discard())] == [True, False, False]


def test_python_and_json_have_the_same_words() -> None:
    pairs = [
        (Limit, (RateBody,)),
        (Limit, (ConcurrencyBody,)),
        (Breaker, (BreakerBody,)),
        (Unique, (UniqueBody,)),
        (Retry, (RetryBody, Backoff)),
        (Webhook, (WebhookBody,)),
    ]
    for author, bodies in pairs:
        fields = {
            name: field
            for body in bodies
            for name, field in body.model_fields.items()
            if not (field.json_schema_extra or {}).get("deprecated") and name != "backoff"  # type: ignore[union-attr]
        }
        names = set(inspect.signature(author.__init__).parameters) - {"self", "on", "not_on"}
        assert set(fields) | ({"max"} if author is Retry else set()) == names
