"""The network of a test: mail and webhooks are collected, other requests refused unless their host is allowed."""

import io
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from email.utils import parseaddr
from typing import Any

from urllib3 import BaseHTTPResponse, HTTPResponse
from urllib3.util import Url

from app.author import outbound
from app.author.options import Discard
from app.serializer import JSON
from app.settings import Settings
from app.webhooks import signing, urls, webhook_delivery

NO_CONTENT = 204


class NotAllowed(Discard):
    """A job sent a request to a host that its test does not allow."""


class BadSignature(Exception):
    """A webhook is not signed with this secret."""


@dataclass(frozen=True)
class Mail:
    """A message sent by a job. `sender` and `to` are the envelope addresses."""

    sender: str
    to: list[str]
    message: EmailMessage = field(repr=False)
    """The message as received. `iter_attachments()` returns its attachments."""
    subject: str

    @property
    def text(self) -> str:
        return self._body("plain")

    @property
    def html(self) -> str:
        return self._body("html")

    def _body(self, kind: str) -> str:
        part = self.message.get_body((kind,))
        return str(part.get_content()) if part else ""


@dataclass(frozen=True)
class Delivery:
    """A webhook request that was sent, and the status of its response. The signature covers `body`."""

    url: str
    event: str
    """The event type, such as job.finished."""
    payload: dict[str, Any]
    headers: dict[str, str]
    body: bytes = field(repr=False)
    status: int | None
    """The status that the test's receiver answered; None: no response."""
    secret: str = field(repr=False)

    def verify(self, secret: str = "") -> dict[str, Any]:
        """Return the payload if it is signed with `secret` (default: WEBHOOK_SECRET). Raises BadSignature.

        The age of the signature is not checked.
        """
        from standardwebhooks import Webhook

        sent_at = datetime.fromtimestamp(int(self.headers["webhook-timestamp"]), UTC)
        for key in signing.parse(secret or self.secret):
            signature = Webhook(key).sign(self.headers["webhook-id"], sent_at, self.body.decode())
            if signature in self.headers["webhook-signature"].split():
                return self.payload
        raise BadSignature(f"the webhook {self.headers['webhook-id']} is not signed with this secret")


@dataclass(frozen=True)
class WebhookResponse:
    """The response of a webhook receiver. An OSError instead of a status means no response."""

    status: int | OSError = NO_CONTENT
    headers: Mapping[str, str] = field(default_factory=dict)


class NetworkCollector:
    """Receives requests and mail in place of the network. Requests to the `allowed` hosts are let through."""

    def __init__(self, settings: Settings, allowed: Collection[str]) -> None:
        self.mails: list[Mail] = []
        self.deliveries: list[Delivery] = []
        self._settings, self._allowed = settings, {host.lower() for host in allowed}
        self._answers: dict[str, WebhookResponse] = {}

    def answer(self, url: str, answer: WebhookResponse) -> None:
        self._answers[urls.parse_http_url(url).url] = answer

    def mail(self, message: EmailMessage, to: list[str]) -> None:
        arrived = message_from_bytes(message.as_bytes(), policy=policy.default)
        del arrived["Bcc"]
        sender = parseaddr(str(message["Sender"] or message["From"] or ""))[1]
        self.mails.append(Mail(sender, list(to), arrived, str(arrived["Subject"] or "")))

    def request(
        self, target: Url, allowed_by: str, method: str, body: bytes | None, headers: Mapping[str, str]
    ) -> BaseHTTPResponse | None:
        """Collect a webhook. Returns None for other requests to allowed hosts: they are sent. Raises NotAllowed."""
        if allowed_by == webhook_delivery.ALLOWED_BY:
            return self._deliver(target, body or b"", headers)
        host = (target.host or "").strip("[]")
        if host.lower() in self._allowed:
            return None
        raise NotAllowed(
            f"{method} {target.url} was not sent: in tests, jobs reach no host but those in run_jobs(allow_hosts=...); "
            f"to let them reach this one, say run_jobs(allow_hosts=[{host!r}])"
        )

    def _deliver(self, target: Url, body: bytes, headers: Mapping[str, str]) -> BaseHTTPResponse:
        """Collect a webhook and answer it. Raises Discard if the URL names a private host."""
        if outbound.plainly_private(target.url, self._settings.webhook_allow_hosts):
            raise Discard(f"{target.host} is not on the public network, and not in {webhook_delivery.ALLOWED_BY}")
        answer, payload = self._answers.get(target.url, WebhookResponse()), JSON.loads(body)
        status = answer.status if isinstance(answer.status, int) else None
        secret = self._settings.webhook_secret.get_secret_value()
        self.deliveries.append(Delivery(target.url, payload["type"], payload, dict(headers), body, status, secret))
        if isinstance(answer.status, OSError):
            raise answer.status
        return HTTPResponse(io.BytesIO(), answer.headers, answer.status, preload_content=False)
