"""Mail over SMTP."""

import logging
import mimetypes
import smtplib
import ssl
from email.message import EmailMessage
from email.utils import formatdate, make_msgid, parseaddr
from typing import Annotated, Any
from urllib.parse import unquote, urlsplit

from pydantic import EmailStr, Field

from app import Discard, Retry, get_settings, job
from jobs._files import source

log = logging.getLogger(__name__)

TIMEOUT = 30
ATTACHMENT_LIMIT = 20 * 1024 * 1024


@job(retry=Retry(max=5, initial=2, on=(OSError,)))
def send_message(
    to: EmailStr | Annotated[list[EmailStr], Field(min_length=1, max_length=100)],
    subject: str,
    text: str,
    html: str | None = None,
    attachment: str | None = None,
) -> dict[str, Any]:
    """Send one message from MAIL_FROM through SMTP_URL; without SMTP_URL it is only logged.

    `attachment` is the path of a file in storage, at most 20 MiB. TLS is used where the server offers it, its
    certificate verified, and demanded before a password is sent. A refused connection, a timeout and a 4xx reply are
    retried; a retry after the connection broke at the very end can deliver a second copy.

    Returns:
        {"sent": bool, "to": [address], "message_id": str}

    Raises:
        Discard: for a 5xx reply, a refused recipient, an untrusted certificate, a line break in a header, no such file.
    """
    recipients = [to] if isinstance(to, str) else list(to)
    message = _message(recipients, subject, text, html, attachment)
    result = {"sent": True, "to": recipients, "message_id": message["Message-ID"]}
    url = get_settings().smtp_url
    if url is None:
        log.info("no SMTP_URL: mail to %s is logged, not sent: %r", ", ".join(recipients), subject)
        return {**result, "sent": False}
    try:
        with _connect(url.get_secret_value()) as smtp:
            refused = smtp.send_message(message, to_addrs=recipients)
    except smtplib.SMTPRecipientsRefused as error:
        if any(code < 500 for code, _ in error.recipients.values()):
            raise
        raise Discard(f"Refused: {_replies(error.recipients)}") from None
    except smtplib.SMTPResponseException as error:
        if error.smtp_code < 500:
            raise
        raise Discard(f"The mail server refused: {error.smtp_code} {_plain(error.smtp_error)}") from None
    except (smtplib.SMTPNotSupportedError, ssl.SSLCertVerificationError, UnicodeError) as error:
        reason = "not ASCII" if isinstance(error, UnicodeError) else str(error)  # a UnicodeError may quote the password
        raise Discard(f"Cannot be sent by this mail server: {reason}") from None
    if refused:  # the others have it: a retry would send it to them again
        raise Discard(f"Sent, except to: {_replies(refused)}")
    return result


def _message(to: list[str], subject: str, text: str, html: str | None, attachment: str | None) -> EmailMessage:
    message, sender = EmailMessage(), get_settings().mail_from
    try:
        message["From"], message["To"], message["Subject"] = sender, ", ".join(to), subject
    except ValueError as error:
        raise Discard(f"Not a header: {error}") from None
    message["Date"] = formatdate(localtime=True)
    message["Message-ID"] = make_msgid(domain=parseaddr(sender)[1].rpartition("@")[2] or "localhost")
    message.set_content(text)
    if html is not None:
        message.add_alternative(html, subtype="html")
    if attachment is not None:
        file = source(attachment)
        if file.stat().st_size > ATTACHMENT_LIMIT:
            raise Discard(f"{attachment!r} is larger than {ATTACHMENT_LIMIT} bytes")
        kind, encoding = mimetypes.guess_type(file.name)
        main, _, sub = (kind if kind and not encoding else "application/octet-stream").partition("/")
        message.add_attachment(file.read_bytes(), maintype=main, subtype=sub, filename=file.name)
    return message


def _connect(url: str) -> smtplib.SMTP:
    """Logged in. No error may quote the URL: it holds the password."""
    try:
        parts = urlsplit(url)
        host, port, user, password = parts.hostname, parts.port, parts.username, unquote(parts.password or "")
    except ValueError:
        host = None
    if not host or parts.scheme not in ("smtp", "smtps"):
        raise Discard("SMTP_URL is neither smtp://user:password@host:port nor smtps://...")
    context = ssl.create_default_context()
    if parts.scheme == "smtps":
        smtp: smtplib.SMTP = smtplib.SMTP_SSL(host, port or 465, timeout=TIMEOUT, context=context)
    else:
        smtp = smtplib.SMTP(host, port or (587 if user else 25), timeout=TIMEOUT)
    try:
        smtp.ehlo()
        if parts.scheme == "smtp" and smtp.has_extn("starttls"):
            smtp.starttls(context=context)
            smtp.ehlo()
        elif parts.scheme == "smtp" and user:
            raise Discard("The mail server offers no STARTTLS, and a password is not sent without it")
        if user:
            smtp.login(unquote(user), password)
    except BaseException:
        smtp.close()
        raise
    return smtp


def _replies(refused: dict[str, tuple[int, bytes]]) -> str:
    return "; ".join(f"{address}: {code} {_plain(reply)}" for address, (code, reply) in refused.items())


def _plain(reply: bytes | str) -> str:
    return reply.decode(errors="replace") if isinstance(reply, bytes) else reply
