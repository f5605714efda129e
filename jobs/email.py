"""Send mail over SMTP."""

import mimetypes
from email.message import EmailMessage
from email.utils import formatdate, make_msgid, parseaddr
from typing import Annotated, Any

from pydantic import EmailStr, Field

from app import Discard, Retry, get_settings, job
from app.author import mail
from jobs._files import source

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

    `attachment` is the path of a file in storage, at most 20 MiB. TLS is used if the server offers it, with a verified
    certificate, and is required before a password is sent. A refused connection, a timeout and a 4xx reply are retried.
    A retry after the connection broke at the very end can deliver a second copy.

    Returns:
        {"sent": bool, "to": [address], "message_id": str}

    Raises:
        Discard: a 5xx reply, a refused recipient, an untrusted certificate, a line break in a header, or no such file.
    """
    recipients = [to] if isinstance(to, str) else list(to)
    message = _message(recipients, subject, text, html, attachment)
    sent = mail.send(message, recipients)
    return {"sent": sent, "to": recipients, "message_id": message["Message-ID"]}


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
