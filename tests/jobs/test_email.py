"""Mail to a real SMTP server."""

import socket
import ssl
from collections.abc import Callable, Iterator
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope, LoginPassword

from app import Discard
from app.catalog.function_options import options_of
from jobs.email import send_message

PASSWORD = "p@ss:word/1"
LOGIN = "user:p%40ss%3Aword%2F1"


class Inbox:
    """Keeps what is sent to it, and replies as told."""

    def __init__(self) -> None:
        self.mails: list[Envelope] = []
        self.reply, self.refused = "250 OK", dict[str, str]()

    async def handle_RCPT(self, server: Any, session: Any, envelope: Envelope, address: str, options: Any) -> str:  # noqa: N802, RUF100
        if address in self.refused:
            return self.refused[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Envelope) -> str:  # noqa: N802, RUF100
        if self.reply.startswith("250"):
            self.mails.append(envelope)
        return self.reply


def check(server: Any, session: Any, envelope: Any, mechanism: str, data: LoginPassword) -> AuthResult:
    return AuthResult(success=data == LoginPassword(b"user", PASSWORD.encode()), handled=False)


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
def start(inbox: Inbox) -> Iterator[Callable[..., int]]:
    """Start a server; its port."""
    started: list[Controller] = []

    def start(**options: Any) -> int:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = int(free.getsockname()[1])
        controller = Controller(inbox, hostname="127.0.0.1", port=port, **options)
        controller.start()
        started.append(controller)
        return port

    yield start
    for controller in started:
        controller.stop()


@pytest.fixture
def plain(start: Callable[..., int], setting: Callable[..., None]) -> None:
    setting(SMTP_URL=f"smtp://localhost:{start()}")


def retried(error: BaseException) -> bool:
    retry = options_of(send_message).retry
    assert retry
    return retry.retries(error)


def test_text_html_and_attachment_arrive(plain: None, inbox: Inbox, storage: Path) -> None:
    (storage / "report.pdf").write_bytes(b"%PDF")
    result = send_message(["a@example.com", "b@example.com"], "Grüße", "text", "<p>html</p>", "report.pdf")
    assert result["sent"]
    [mail] = inbox.mails
    assert mail.rcpt_tos == ["a@example.com", "b@example.com"]
    message = message_from_bytes(mail.content or b"", policy=policy.default)  # type: ignore[arg-type]
    assert message["Subject"] == "Grüße"
    assert message["Message-ID"] == result["message_id"]
    kinds = [part.get_content_type() for part in message.walk()]
    assert kinds == ["multipart/mixed", "multipart/alternative", "text/plain", "text/html", "application/pdf"]


def test_starttls_and_login(
    start: Callable[..., int], setting: Callable[..., None], inbox: Inbox, server_tls: ssl.SSLContext
) -> None:
    port = start(tls_context=server_tls, require_starttls=True, auth_required=True, authenticator=check)
    setting(SMTP_URL=f"smtp://{LOGIN}@localhost:{port}")
    send_message("a@example.com", "s", "t")
    assert len(inbox.mails) == 1


def test_smtps(
    start: Callable[..., int], setting: Callable[..., None], inbox: Inbox, server_tls: ssl.SSLContext
) -> None:
    port = start(ssl_context=server_tls, auth_require_tls=False, authenticator=check)
    setting(SMTP_URL=f"smtps://{LOGIN}@localhost:{port}")
    send_message("a@example.com", "s", "t")
    assert len(inbox.mails) == 1


def test_a_wrong_password_is_permanent_and_never_shown(
    start: Callable[..., int], setting: Callable[..., None], server_tls: ssl.SSLContext
) -> None:
    port = start(tls_context=server_tls, authenticator=check)
    setting(SMTP_URL=f"smtp://user:secretword@localhost:{port}")
    with pytest.raises(Discard, match="535") as caught:
        send_message("a@example.com", "s", "t")
    assert "secretword" not in str(caught.value)


def test_no_password_without_tls(start: Callable[..., int], setting: Callable[..., None]) -> None:
    setting(SMTP_URL=f"smtp://{LOGIN}@localhost:{start()}")
    with pytest.raises(Discard, match="STARTTLS"):
        send_message("a@example.com", "s", "t")


def test_an_untrusted_certificate_is_permanent(
    start: Callable[..., int],
    setting: Callable[..., None],
    server_tls: ssl.SSLContext,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    setting(SMTP_URL=f"smtp://localhost:{start(tls_context=server_tls)}")
    with pytest.raises(Discard, match="certificate"):
        send_message("a@example.com", "s", "t")


@pytest.mark.parametrize("url", ["smtp://user:secretword@", "http://localhost", "smtp://localhost:secretword"])
def test_a_bad_url_is_not_quoted(setting: Callable[..., None], url: str) -> None:
    setting(SMTP_URL=url)
    with pytest.raises(Discard, match="SMTP_URL") as caught:
        send_message("a@example.com", "s", "t")
    assert "secretword" not in str(caught.value)


def test_a_4xx_reply_is_retried(plain: None, inbox: Inbox) -> None:
    inbox.reply = "451 busy"
    with pytest.raises(OSError, match="busy") as caught:
        send_message("a@example.com", "s", "t")
    assert retried(caught.value)


def test_a_5xx_reply_is_permanent(plain: None, inbox: Inbox) -> None:
    inbox.reply = "554 spam"
    with pytest.raises(Discard, match="554 spam"):
        send_message("a@example.com", "s", "t")


def test_a_refused_recipient_is_permanent_and_named(plain: None, inbox: Inbox) -> None:
    inbox.refused = {"no@example.com": "550 unknown"}
    with pytest.raises(Discard, match=r"Refused: no@example\.com: 550 unknown"):
        send_message("no@example.com", "s", "t")
    with pytest.raises(Discard, match=r"Sent, except to: no@example\.com"):
        send_message(["a@example.com", "no@example.com"], "s", "t")
    assert inbox.mails[0].rcpt_tos == ["a@example.com"]


def test_a_recipient_refused_for_now_is_retried(plain: None, inbox: Inbox) -> None:
    inbox.refused = {"later@example.com": "450 greylisted"}
    with pytest.raises(OSError) as caught:  # noqa: PT011 - the class is what is retried
        send_message("later@example.com", "s", "t")
    assert retried(caught.value)


def test_a_refused_connection_is_retried(setting: Callable[..., None]) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        setting(SMTP_URL=f"smtp://127.0.0.1:{unused.getsockname()[1]}")
        with pytest.raises(ConnectionRefusedError) as caught:
            send_message("a@example.com", "s", "t")
    assert retried(caught.value)


def test_a_line_break_in_a_header_is_refused(plain: None, inbox: Inbox) -> None:
    with pytest.raises(Discard, match="header"):
        send_message("a@example.com", "s\nBcc: b@example.com", "t")
    assert inbox.mails == []


@pytest.mark.parametrize("path", ["none.pdf", "../outside.pdf", "/etc/passwd"])
def test_an_attachment_must_be_in_storage(path: str) -> None:
    with pytest.raises(Discard, match="storage"):
        send_message("a@example.com", "s", "t", attachment=path)


@pytest.mark.parametrize("more", [0, 1])
def test_an_attachment_has_20_mib_at_most(storage: Path, more: int) -> None:
    with (storage / "scan.bin").open("wb") as file:
        file.truncate(20 * 2**20 + more)
    if more:
        with pytest.raises(Discard, match=r"'scan\.bin' is larger than 20971520 bytes"):
            send_message("a@example.com", "s", "t", attachment="scan.bin")
    else:
        assert send_message("a@example.com", "s", "t", attachment="scan.bin")["to"] == ["a@example.com"]


def test_without_a_server_it_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        assert not send_message("a@example.com", "Hello", "t")["sent"]
    assert "a@example.com" in caplog.text
    assert "Hello" in caplog.text
