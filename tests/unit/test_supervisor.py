"""What the person at the terminal is told when everything has started."""

import sys
from pathlib import Path

import pytest

from app import supervisor
from app.settings import Settings

URL = "redis://:hunter2@127.0.0.1:6400/0"


def greeting(settings: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    with monkeypatch.context() as patch:
        patch.setattr(sys.stdout, "isatty", lambda: True)
        supervisor._greet(settings, URL)
    return capsys.readouterr().out


def test_the_address_of_valkey_is_shown_with_a_command_in_place_of_its_password(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = greeting(Settings(data_dir=Path("my data")), capsys, monkeypatch)
    assert "redis://127.0.0.1:6400/0 " in text
    assert """RQ_REDIS_URL="$(cat 'my data/redis.url')" .venv/bin/rq info""" in text
    assert "hunter2" not in text


def test_of_a_server_that_is_not_ours_only_the_address_is_shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = greeting(Settings(redis_url=URL), capsys, monkeypatch)  # type: ignore[arg-type]
    assert "redis://127.0.0.1:6400/0\n" in text
    assert "redis.url" not in text
    assert "hunter2" not in text
