"""Secrets and signatures of webhooks by the Standard Webhooks specification (symmetric scheme, v1).

Several secrets, separated by spaces or commas, all sign each message, so that one can be replaced by another.
"""

import re
from base64 import b64decode
from datetime import UTC, datetime

SECRET = re.compile(r"whsec_[A-Za-z0-9+/]+={0,2}")
MIN_SECRET_BYTES, MAX_SECRET_BYTES = 24, 64


def parse(text: str) -> list[str]:
    """Parse and validate secrets.

    Raises:
        ValueError: names the secret by its number, never its content.
    """
    secrets = text.replace(",", " ").split()
    for number, secret in enumerate(secrets, 1):
        if not SECRET.fullmatch(secret) or not MIN_SECRET_BYTES <= _decoded_size(secret) <= MAX_SECRET_BYTES:
            raise ValueError(
                f"secret {number} is not whsec_ and {MIN_SECRET_BYTES} to {MAX_SECRET_BYTES} bytes in Base64"
            )
    return secrets


def headers(secrets: list[str], message_id: str, body: bytes) -> dict[str, str]:
    """The headers of a message sent now. `message_id` must not contain a full stop."""
    from standardwebhooks import Webhook

    now = datetime.now(UTC)  # sign() labels any time as UTC
    signatures = [Webhook(secret).sign(message_id, now, body.decode()) for secret in secrets]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(signatures),
    }


def _decoded_size(secret: str) -> int:
    try:
        return len(b64decode(secret.removeprefix("whsec_") + "=="))
    except ValueError:
        return 0
