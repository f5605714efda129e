"""The test kit and the network: mail and webhooks are collected, no other request leaves unless a test allows it."""

import ast
import smtplib
import socket
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from standardwebhooks import Webhook

from app.testing import BadSignature, Jobs, NotAllowed, run_jobs
from app.testing.settings import WEBHOOK_SECRET
from app.webhooks.webhook_delivery import RETRY_WAITS
from tests.conftest import ROOT
from tests.receiver import OTHER_SECRET, SECRET, Receiver

URL = "https://example.com/hook"
TOLD = {"webhook": {"url": URL}}
SOURCE = """
from email.message import EmailMessage

from app import mail, outbound


def remind(hidden: str) -> bool:
    message = EmailMessage()
    message["From"], message["To"], message["Bcc"] = "Shop <shop@example.com>", "Zoë <zoe@example.com>", hidden
    message["Subject"] = "Grüße"
    message.set_content("plain")
    message.add_alternative("<p>rich</p>", subtype="html")
    message.add_attachment(b"%PDF", maintype="application", subtype="pdf", filename="bill.pdf")
    return mail.send(message, ["zoe@example.com", hidden])


def ask(url: str) -> int:
    with outbound.Client("FETCH_ALLOW_HOSTS") as client:
        response = client.ask(outbound.parsed(url), 5)
        response.close()
        return response.status
"""


@pytest.fixture(autouse=True)
def _shop(write_module: Callable[[str, str], None]) -> None:
    write_module("kitpost", SOURCE)


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails whoever looks up a name or connects."""

    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError(f"the network was asked for: {args}")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(smtplib, "SMTP", refuse)


def ended(jobs: Jobs, function: str, *args: Any, **options: Any) -> Any:
    """A job that has run, with its deliveries due now."""
    job = jobs.enqueue_with(options, function, *args)
    jobs.run()
    return job


@pytest.mark.run_jobs(
    settings={"SMTP_URL": "smtp://user:secret@mail.example.com", "MAIL_FROM": "Jobs <jobs@example.com>"}
)
def test_mail_is_collected_although_there_is_a_server(jobs: Jobs, no_network: None) -> None:
    job = ended(jobs, "email.send_message", ["a@example.com", "b@example.com"], "Hello", "text", "<p>html</p>")
    [mail] = jobs.mails
    assert (mail.sender, mail.to, mail.subject) == ("jobs@example.com", ["a@example.com", "b@example.com"], "Hello")
    assert (mail.text.strip(), mail.html.strip()) == ("text", "<p>html</p>")
    assert job.result["sent"] is True
    assert mail.message["Message-ID"] == job.result["message_id"]


def test_mail_is_collected_without_a_server_too(jobs: Jobs, no_network: None) -> None:
    for name in ("first", "second"):
        ended(jobs, "email.send_message", "a@example.com", name, "text")
    assert [(mail.subject, mail.html) for mail in jobs.mails] == [("first", ""), ("second", "")]


def test_mail_is_as_it_arrives(jobs: Jobs, no_network: None) -> None:
    job = ended(jobs, "kitpost.remind", "hidden@example.com")
    [mail] = jobs.mails
    assert job.result is True
    assert (mail.sender, mail.to) == ("shop@example.com", ["zoe@example.com", "hidden@example.com"])
    assert mail.message["Bcc"] is None
    assert (mail.subject, str(mail.message["To"])) == ("Grüße", "Zoë <zoe@example.com>")
    [attachment] = mail.message.iter_attachments()
    assert (attachment.get_filename(), attachment.get_content()) == ("bill.pdf", b"%PDF")


def test_mail_with_a_file_of_storage(jobs: Jobs, no_network: None) -> None:
    (jobs.storage / "bill.txt").write_text("12.50")
    ended(jobs, "email.send_message", "a@example.com", "Bill", "see there", None, "bill.txt")
    [attachment] = jobs.mails[0].message.iter_attachments()
    assert attachment.get_content().strip() == "12.50"


def test_a_webhook_is_collected_as_its_receiver_sees_it(jobs: Jobs, no_network: None) -> None:
    job = ended(jobs, "demo.add", 1, 2, **TOLD)
    [delivery] = jobs.webhooks
    assert (delivery.url, delivery.event, delivery.status) == (URL, "job.finished", 204)
    assert delivery.payload["data"]["id"] == job.id
    assert delivery.payload["data"]["result"] == 3
    assert delivery.headers["Content-Type"] == "application/json"
    assert delivery.verify() == Webhook(WEBHOOK_SECRET).verify(delivery.body, delivery.headers) == delivery.payload


def test_a_webhook_is_verified_long_after_it_came(jobs: Jobs) -> None:
    ended(jobs, "demo.add", 1, 2, **TOLD)
    jobs.advance(days=3)
    assert jobs.webhooks[0].verify() == jobs.webhooks[0].payload


@pytest.mark.run_jobs(settings={"WEBHOOK_SECRET": f"{OTHER_SECRET} {SECRET}"})
def test_a_webhook_is_verified_with_the_secret_that_has_signed_it(jobs: Jobs) -> None:
    ended(jobs, "demo.add", 1, 2, **TOLD)
    ended(jobs, "demo.add", 1, 2, webhook={"url": URL, "secret": WEBHOOK_SECRET})
    service, own = jobs.webhooks
    assert [service.verify(), service.verify(SECRET), service.verify(OTHER_SECRET)] == [service.payload] * 3
    assert own.verify(WEBHOOK_SECRET) == own.payload
    for delivery, secret in ((service, WEBHOOK_SECRET), (own, SECRET), (own, "")):
        with pytest.raises(BadSignature, match="not signed with this secret"):
            delivery.verify(secret)
    assert SECRET not in repr(jobs.webhooks)


@pytest.mark.run_jobs(settings={"WEBHOOK_URL": URL})
def test_all_ends_are_told_where_the_settings_say_so(jobs: Jobs, no_network: None) -> None:
    ended(jobs, "demo.add", 1, 2)
    ended(jobs, "demo.fail", "no")
    graph = {"jobs": [{"name": "one", "function": "demo.add", "args": [1, 2]}]}
    jobs.client.post("/api/v1/workflows", json=graph)
    jobs.run()
    events = [one.event for one in jobs.webhooks]
    assert (events[:2], sorted(events[2:])) == (["job.finished", "job.failed"], ["job.finished", "workflow.finished"])


def test_a_receiver_that_fails_is_told_again_and_again(jobs: Jobs, no_network: None) -> None:
    jobs.answer_webhooks(URL, 500)
    ended(jobs, "demo.add", 1, 2, **TOLD)
    jobs.advance(days=5)
    assert [one.status for one in jobs.webhooks] == [500] * (len(RETRY_WAITS) + 1)
    times = [int(one.headers["webhook-timestamp"]) for one in jobs.webhooks]
    waits = [later - earlier for earlier, later in pairwise(times)]
    assert waits == [pytest.approx(wait, rel=0.1, abs=1) for wait in RETRY_WAITS]
    assert len({one.headers["webhook-id"] for one in jobs.webhooks}) == 1


def test_a_receiver_may_recover(jobs: Jobs) -> None:
    jobs.answer_webhooks(URL, ConnectionRefusedError("nobody there"))
    ended(jobs, "demo.add", 1, 2, **TOLD)
    jobs.answer_webhooks(URL, 503, {"Retry-After": "60"})
    jobs.advance(seconds=10)
    jobs.answer_webhooks(URL, 204)
    jobs.advance(seconds=30)
    assert len(jobs.webhooks) == 2
    jobs.advance(seconds=60)
    assert [one.status for one in jobs.webhooks] == [None, 503, 204]


def test_only_this_url_is_answered_so(jobs: Jobs) -> None:
    jobs.answer_webhooks(URL, 410)
    ended(jobs, "demo.add", 1, 2, **TOLD)
    ended(jobs, "demo.add", 1, 2, **TOLD)
    ended(jobs, "demo.add", 1, 2, webhook={"url": f"{URL}/2"})
    assert [(one.url, one.status) for one in jobs.webhooks] == [(URL, 410), (f"{URL}/2", 204)]
    assert [one["url"] for one in jobs.client.get("/api/v1/webhooks/disabled").get_json()["disabled"]] == [URL]


def test_a_webhook_goes_nowhere_even_if_its_host_is_allowed(receiver: Receiver) -> None:
    settings = {"WEBHOOK_ALLOW_HOSTS": "127.0.0.1"}
    with run_jobs(settings=settings, allow_hosts=["127.0.0.1"]) as jobs:
        ended(jobs, "demo.add", 1, 2, webhook={"url": f"{receiver.base}/ok"})
        assert [one.url for one in jobs.webhooks] == [f"{receiver.base}/ok"]
    assert receiver.received == []


def test_a_webhook_into_the_network_is_refused_as_in_production(write_module: Callable[[str, str], None]) -> None:
    source = "from app import Webhook, job\n@job(webhook=Webhook('http://10.0.0.1/hook'))\ndef told() -> None: ..."
    write_module("kittold", source)
    with run_jobs() as jobs:
        ended(jobs, "kittold.told")
        assert jobs.webhooks == []
        [delivery] = jobs.client.get("/api/v1/jobs?tag=webhook").get_json()["jobs"]
    assert delivery["status"] == "failed"
    assert "WEBHOOK_ALLOW_HOSTS" in delivery["error"]["message"]


@pytest.mark.parametrize("function", ["web.fetch", "kitpost.ask"])
def test_a_request_is_refused_with_the_way_to_allow_it(jobs: Jobs, no_network: None, function: str) -> None:
    job = jobs.enqueue(function, "https://example.com/page")
    with pytest.raises(NotAllowed, match=r"run_jobs\(allow_hosts=\['example\.com'\]\)"):
        jobs.run(raise_errors=True)
    assert job.status == "failed", "it is not tried again"


@pytest.mark.run_jobs(settings={"FETCH_ALLOW_HOSTS": "127.0.0.1"})
def test_the_setting_for_private_hosts_lets_no_request_out(jobs: Jobs, receiver: Receiver) -> None:
    assert ended(jobs, "kitpost.ask", f"{receiver.base}/ok").status == "failed"
    assert receiver.received == []


@pytest.mark.run_jobs(allow_hosts=["127.0.0.1"])
def test_a_host_that_is_allowed_is_asked_for_real(jobs: Jobs, receiver: Receiver) -> None:
    assert ended(jobs, "kitpost.ask", f"{receiver.base}/ok").result == 204
    assert [one.path for one in receiver.received] == ["/ok"]


@pytest.mark.run_jobs(allow_hosts=["127.0.0.1"])
def test_a_redirect_to_another_host_is_refused(jobs: Jobs, receiver: Receiver) -> None:
    job = ended(jobs, "web.fetch", f"{receiver.base}/to/http://elsewhere.example.com/")
    assert "elsewhere.example.com" in job.error["message"]
    assert [one.path for one in receiver.received] == ["/to/http://elsewhere.example.com/"]


def test_the_network_is_there_again_afterwards(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    from jobs import kitpost  # type: ignore[attr-defined]

    monkeypatch.setenv("FETCH_ALLOW_HOSTS", "127.0.0.1")
    with run_jobs():
        with run_jobs(allow_hosts=["127.0.0.1"]) as inner:
            assert ended(inner, "kitpost.ask", f"{receiver.base}/ok").result == 204
        with pytest.raises(NotAllowed):
            kitpost.ask(f"{receiver.base}/ok")
    assert kitpost.ask(f"{receiver.base}/ok") == 204


def test_production_imports_nothing_of_the_test_kit() -> None:
    files = [*(ROOT / "app").rglob("*.py"), *(ROOT / "jobs").rglob("*.py"), ROOT / "scheduler.py"]
    production = [file for file in files if not file.is_relative_to(ROOT / "app" / "testing")]
    assert len(production) > 50
    imported = {(str(file), name) for file in production for name in _imports(ast.parse(file.read_text()))}
    assert [(file, name) for file, name in imported if f"{name}.".startswith("app.testing.")] == []


def _imports(tree: ast.AST) -> list[str]:
    found: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found
