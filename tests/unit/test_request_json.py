"""JSON of requests and of results: how deep, how large, and each name once."""

import pytest

from app import request_json
from app.errors import Invalid
from app.serializer import JSON, MAX_DEPTH, TooDeep, dumps_checked


def nested(depth: int, left: str = "[", right: str = "]", inner: str = "1") -> bytes:
    return (left * depth + inner + right * depth).encode()


@pytest.mark.parametrize(
    "body",
    [
        b'{"a": 1, "b": [1, {"a": 1}]}', b"18446744073709551615", b"-9223372036854775808", b"1e300", b"0.1",
        nested(MAX_DEPTH), nested(MAX_DEPTH, '{"a":', "}"), b"[" + b",".join([b"[[]]"] * 1000) + b"]",
        b'"' + b"[" * 1000 + b'"', '{"é": "\\u00e9"}'.encode(),
    ],
)  # fmt: skip
def test_what_is_plain_is_taken(body: bytes) -> None:
    assert JSON.loads(body) == request_json.loads(body)


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (nested(MAX_DEPTH + 1), "nested more than 64 deep"),
        (nested(1000), "nested more than 64 deep"),
        (nested(MAX_DEPTH + 1, '{"a":', "}"), "nested more than 64 deep"),
        (b'{"a": 1, "a": 2}', "the name 'a' twice"),
        (b'{"a": [{"b": {"c": 1, "d": 1, "c": 1}}]}', "the name 'c' twice"),
        (b'{"a": 1, "\\u0061": 2}', "the name 'a' twice"),
        (b"18446744073709551616", "18446744073709551616 does not fit 64 bits"),
        (b"[[-9223372036854775809]]", "-9223372036854775809 does not fit 64 bits"),
        (b'{"a": ' + b"9" * 300 + b"}", "does not fit 64 bits"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_what_two_readers_could_read_differently_is_refused(body: bytes, detail: str) -> None:
    with pytest.raises(Invalid) as caught:
        request_json.loads(body)
    (error,) = caught.value.errors or []
    assert detail in error["detail"]
    assert len(error["detail"]) < 200


@pytest.mark.parametrize("body", [b"", b"[1", b"NaN", b"1e999", b'"\\ud800"', b"\xff", nested(2000), b"[1]]", b"'a'"])
def test_what_is_no_json_is_no_json(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        request_json.loads(body)


def test_what_is_read_from_redis_has_the_same_limit() -> None:
    with pytest.raises(ValueError, match="nested more than 64 deep"):
        JSON.loads(nested(MAX_DEPTH + 1))


@pytest.mark.parametrize(
    "value", [{1: "a"}, {"a": {2: 1.5, "b": -0.0}}, [float("nan"), 1e300, 2**64 - 1], "\x7f\u2028"]
)
def test_what_a_job_returns_is_taken(value: object) -> None:
    assert dumps_checked(value) == JSON.dumps(value)


@pytest.mark.parametrize("value", [{1: "a", "1": "b"}, [{"x": {True: 1, "true": 2}}], {"a": 2**64}, {"a": object()}])
def test_what_a_job_returns_has_one_meaning_in_json_or_is_refused(value: object) -> None:
    with pytest.raises(TypeError):
        dumps_checked(value)


def test_what_a_job_returns_is_not_deep() -> None:
    value: object = 1
    for _ in range(MAX_DEPTH + 1):
        value = {1: value}
    with pytest.raises(TooDeep):
        dumps_checked(value)
