"""Bad settings are refused together, clearly, and without showing a secret."""

import pytest
from pydantic import ValidationError

from app.access import api_keys
from app.settings import Settings


def test_all_bad_values_are_reported_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "x")
    monkeypatch.setenv("WORKERS", "-1")
    with pytest.raises(ValidationError) as refused:
        Settings()
    assert {error["loc"][0] for error in refused.value.errors()} == {"port", "workers"}


def test_a_key_in_place_of_its_entry_is_refused_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEYS", "jl_hunter2")
    with pytest.raises(ValidationError, match="entry 1 is not name:scope") as refused:
        Settings()
    assert "hunter2" not in str(refused.value)


def test_secrets_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://:hunter2@host/0")
    monkeypatch.setenv("SMTP_URL", "smtp://me:hunter2@host:587")
    assert "hunter2" not in repr(Settings())


def test_without_keys_only_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOST", "0.0.0.0")
    with pytest.raises(ValidationError, match="not loopback"):
        Settings()
    monkeypatch.setenv("API_KEYS", str(api_keys.new("ci", ["admin"])[1]))
    assert Settings().host == "0.0.0.0"
