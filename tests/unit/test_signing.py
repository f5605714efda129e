"""Signatures that the official library takes, and secrets that are refused without being shown."""

import base64
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import time_machine
from pydantic import ValidationError
from standardwebhooks import Webhook, WebhookVerificationError

from app.settings import Settings
from app.webhooks import signing
from tests.receiver import OTHER_SECRET, SECRET

BODY = '{"type":"job.finished","data":"ß"}'.encode()


def secret(size: int) -> str:
    return "whsec_" + base64.b64encode(os.urandom(size)).decode()


@pytest.fixture
def far_from_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("TZ", "America/New_York")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("far_from_utc")
def test_the_official_library_takes_a_signature_whatever_the_zone_of_the_host() -> None:
    assert Webhook(SECRET).verify(BODY, signing.headers([SECRET], "msg_1", BODY))["type"] == "job.finished"


def test_a_changed_message_or_another_secret_is_not_taken() -> None:
    headers = signing.headers([SECRET], "msg_1", BODY)
    for other, body, changed in (
        (OTHER_SECRET, BODY, {}), (SECRET, BODY + b" ", {}), (SECRET, BODY, {"webhook-id": "msg_2"})
    ):  # fmt: skip
        with pytest.raises(WebhookVerificationError):
            Webhook(other).verify(body, headers | changed)


def test_while_secrets_are_rotated_each_of_them_verifies() -> None:
    headers = signing.headers(signing.parse(f"{SECRET},{OTHER_SECRET}"), "msg_1", BODY)
    assert headers["webhook-signature"].count(" ") == 1
    for one in (SECRET, OTHER_SECRET):
        assert Webhook(one).verify(BODY, headers)


def test_the_timestamp_is_of_the_attempt() -> None:
    with time_machine.travel("2030-01-02T03:04:05Z", tick=False):
        assert signing.headers([SECRET], "msg_1", BODY)["webhook-timestamp"] == "1893553445"


@pytest.mark.parametrize("size", [24, 25, 32, 64])
def test_secrets_of_24_to_64_bytes_are_taken(size: int) -> None:
    assert len(signing.parse(f" {secret(size)}  {secret(size)} ")) == 2


@pytest.mark.parametrize(
    "bad",
    [secret(23), secret(65), "hunter2", "whsec_", "whsec_hunter2!", SECRET.removeprefix("whsec_")],
    ids=["23 bytes", "65 bytes", "a word", "nothing", "no Base64", "no prefix"],
)
def test_other_secrets_are_refused_and_not_shown(bad: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBHOOK_SECRET", f"{SECRET} {bad}")
    with pytest.raises(ValidationError, match="secret 2 is not whsec_") as refused:
        Settings()
    assert SECRET not in str(refused.value)
    assert bad not in str(refused.value).replace("whsec_ and", "")


def test_a_url_for_all_without_a_secret_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBHOOK_URL", "https://example.com/hook")
    with pytest.raises(ValidationError, match="no WEBHOOK_SECRET"):
        Settings()
    monkeypatch.setenv("WEBHOOK_SECRET", SECRET)
    assert SECRET not in repr(Settings())
    monkeypatch.setenv("WEBHOOK_URL", "ftp://example.com/hook")
    with pytest.raises(ValidationError, match="Only http"):
        Settings()


def test_the_secret_may_come_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    monkeypatch.setenv("WEBHOOK_SECRET_FILE", str(tmp_path / "secret"))
    assert Settings().webhook_secret.get_secret_value() == SECRET
