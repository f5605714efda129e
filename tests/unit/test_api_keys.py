"""Entries of API_KEYS: what they may be, whose key is found, what a scope allows."""

import hashlib
from collections.abc import Callable

import pytest

from app.access import api_keys


@pytest.mark.parametrize("change", [str.lower, str.upper, str.title])
def test_a_digest_may_be_written_in_either_case(change: Callable[[str], str]) -> None:
    digest = hashlib.sha256(b"secret").hexdigest()
    keys = api_keys.parse(f"ci:read:{change(digest)}")
    found = api_keys.find(keys, "secret")
    assert found
    assert found.name == "ci"
    assert api_keys.find(keys, "Secret") is None


def test_a_new_key_is_found_by_its_entry_and_no_other() -> None:
    (one, first), (two, second) = api_keys.new("a", ["read"]), api_keys.new("b", ["enqueue", "read"])
    keys = api_keys.parse(f"{first},{second}")
    assert [api_keys.find(keys, key) for key in (one, two, first.digest, "", one + "x")] == [
        first, second, None, None, None,
    ]  # fmt: skip
    assert one not in str(first)
    assert one != two


@pytest.mark.parametrize(
    ("scopes", "allowed"),
    [
        (["read"], {"metrics", "read"}),
        (["metrics"], {"metrics"}),
        (["enqueue"], {"enqueue"}),
        (["enqueue", "read"], {"enqueue", "metrics", "read"}),
        (["admin"], {"admin", "enqueue", "metrics", "read"}),
    ],
)
def test_what_scopes_allow(scopes: list[str], allowed: set[str]) -> None:
    _, entry = api_keys.new("k", scopes)
    assert {scope for scope in api_keys.SCOPES if entry.allows(scope)} == allowed


@pytest.mark.parametrize("separator", [",", " ", "\n", " , "])
def test_entries_are_separated_by_commas_or_white_space(separator: str) -> None:
    entries = [str(api_keys.new(name, ["read"])[1]) for name in "abc"]
    assert [str(entry) for entry in api_keys.parse(separator.join(entries))] == entries


@pytest.mark.parametrize(
    "entry",
    [":read:" + 64 * "a", "x:write:" + 64 * "a", "x::" + 64 * "a", "x:read:" + 63 * "a", "x:read:" + 65 * "a", "x"],
)
def test_an_entry_that_is_wrong_is_named_by_its_number_and_not_shown(entry: str) -> None:
    good = api_keys.new("good", ["read"])[1]
    with pytest.raises(ValueError, match=r"entry 2 is not") as raised:
        api_keys.parse(f"{good},{entry}")
    assert 63 * "a" not in str(raised.value)
