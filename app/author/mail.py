"""Send mail over SMTP, through the server of SMTP_URL."""

import logging
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from app.author import network
from app.author.options import Discard
from app.settings import get_settings

if TYPE_CHECKING:
    import smtplib
    from email.message import EmailMessage

log = logging.getLogger(__name__)

TIMEOUT_SECONDS = 30


def send(message: "EmailMessage", to: list[str]) -> bool:
    """Send a message to the recipients `to`, whatever its headers say.

    TLS is used if the server offers it, with a verified certificate. It is required before a password is sent.

    Returns:
        Whether it was sent. Without SMTP_URL it is only logged.

    Raises:
        Discard: a 5xx reply, a refused recipient, an untrusted certificate, or a message this server cannot send.
        OSError: a refused connection, a timeout or a 4xx reply. Another attempt may succeed.
    """
    if network.stand_in:
        network.stand_in.mail(message, to)
        return True
    url = get_settings().smtp_url
    if url is None:
        log.info("no SMTP_URL: mail to %s is logged, not sent: %r", ", ".join(to), str(message["Subject"]))
        return False
    import smtplib
    import ssl

    try:
        with _connect(url.get_secret_value()) as smtp:
            refused = smtp.send_message(message, to_addrs=to)
    except smtplib.SMTPRecipientsRefused as error:
        if any(code < 500 for code, _ in error.recipients.values()):
            raise
        raise Discard(f"Refused: {_replies(error.recipients)}") from None
    except smtplib.SMTPResponseException as error:
        if error.smtp_code < 500:
            raise
        raise Discard(f"The mail server refused: {error.smtp_code} {_plain(error.smtp_error)}") from None
    except (smtplib.SMTPNotSupportedError, ssl.SSLCertVerificationError, UnicodeError) as error:
        reason = (
            "not ASCII" if isinstance(error, UnicodeError) else str(error)
        )  # str(UnicodeError) may contain the password
        raise Discard(f"Cannot be sent by this mail server: {reason}") from None
    if refused:  # the others have received it: a retry would send it to them again
        raise Discard(f"Sent, except to: {_replies(refused)}")
    return True


def _connect(url: str) -> "smtplib.SMTP":
    """Connect and log in. No error may quote the URL: it contains the password."""
    import smtplib
    import ssl

    try:
        parts = urlsplit(url)
        host, port, user, password = parts.hostname, parts.port, parts.username, unquote(parts.password or "")
    except ValueError:
        host = None
    if not host or parts.scheme not in ("smtp", "smtps"):
        raise Discard("SMTP_URL is neither smtp://user:password@host:port nor smtps://...")
    context = ssl.create_default_context()
    if parts.scheme == "smtps":
        smtp: smtplib.SMTP = smtplib.SMTP_SSL(host, port or 465, timeout=TIMEOUT_SECONDS, context=context)
    else:
        smtp = smtplib.SMTP(host, port or (587 if user else 25), timeout=TIMEOUT_SECONDS)
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
