"""API keys and their scopes. Only SHA-256 hashes are stored: a key has 256 random bits, so it needs no slower hash."""

import hashlib
import hmac
import secrets
from dataclasses import dataclass

SCOPES = ("read", "metrics", "enqueue", "admin")
ANY = "any"
"""Every key has this scope."""


@dataclass(frozen=True)
class ApiKey:
    """One entry of API_KEYS: `name:scope+scope:sha256`."""

    name: str
    scopes: frozenset[str]
    digest: str

    def __str__(self) -> str:
        return f"{self.name}:{'+'.join(sorted(self.scopes))}:{self.digest}"

    def allows(self, scope: str) -> bool:
        """Whether the key has this scope. admin includes the others, and read includes metrics."""
        return (
            scope in self.scopes
            or "admin" in self.scopes
            or scope == ANY
            or (scope == "metrics" and "read" in self.scopes)
        )


def new(name: str, scopes: list[str]) -> tuple[str, ApiKey]:
    """Generate a key. Returns the key itself and its entry for API_KEYS.

    Raises:
        ValueError: a scope is unknown, or the name is invalid.
    """
    key = f"jl_{secrets.token_urlsafe(32)}"
    return key, parse(f"{name}:{'+'.join(scopes)}:{_digest(key)}")[0]


def parse(entries: str) -> list[ApiKey]:
    """Parse API_KEYS: entries separated by commas or white space.

    Raises:
        ValueError: an entry is invalid. It names the number of the entry, never its content.
    """
    keys = []
    for number, entry in enumerate(entries.replace(",", " ").split(), 1):
        name, _, rest = entry.partition(":")
        scopes, _, digest = rest.partition(":")
        scope_set = frozenset(scopes.split("+"))
        if not name or not scope_set <= set(SCOPES) or len(digest) != 64:
            raise ValueError(f"entry {number} is not name:scope+scope:sha256 with scopes of {', '.join(SCOPES)}")
        keys.append(ApiKey(name, scope_set, digest.lower()))
    return keys


def share(limit: int, keys: list[ApiKey]) -> int:
    """How much of a limit one key may use: half of it if there are several keys."""
    return max(1, limit // 2) if len({key.name for key in keys}) > 1 else limit


def find(keys: list[ApiKey], key: str) -> ApiKey | None:
    """The entry of this key, compared in constant time."""
    digest, match = _digest(key), None
    for entry in keys:
        if hmac.compare_digest(entry.digest, digest):
            match = entry
    return match


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
