"""The audit log: who changed what, in a Redis stream with about AUDIT_LIMIT entries.

It never contains arguments of jobs or API keys, and never makes a request fail: an entry that cannot be written is
logged, kept in memory, and written when Redis accepts it.
"""

import re
import threading
import time
from collections import deque
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

import redis
import structlog

from app.errors import BadRequest
from app.redis.errors import is_transient
from app.redis.keys import AUDIT, STREAM_ID
from app.serializer import JSON, utc

MAX_ENTRIES_READ = 2000  # for one page
BATCH_SIZE = 200
MAX_PENDING = 10_000  # entries kept in memory while Redis accepts none
RETRY_SECONDS = 1.0

log = structlog.get_logger("jobline.audit")


@dataclass(frozen=True)
class Entry:
    """An entry of the audit log: a request, who made it and how it was answered."""

    actor: str
    """The name of the API key; "open" if no keys are configured."""
    action: str
    """For example "jobs.requeue"."""
    method: str
    route: str
    target: str
    """The id or name in the path, or of the created object; "" if there is none."""
    status: int
    address: str
    details: dict[str, Any] = field(default_factory=dict)
    """Counts, and the filter of a bulk action."""


class Log:
    """Writes the entries of one process in order."""

    def __init__(self, connection: redis.Redis, max_entries: int) -> None:
        self.connection, self.max_entries = connection, max_entries
        self._pending: deque[dict[str, Any]] = deque(maxlen=MAX_PENDING)
        self._lock = threading.Lock()
        """Held by the thread that writes pending entries."""

    def record(self, entry: Entry, defer: bool = False) -> None:
        """Write an entry, immediately or later. Never raises a Redis error.

        `defer`: do not try immediately, because Redis has just failed and the caller has waited long enough.
        """
        fields, reason = {**asdict(entry), "details": JSON.dumps(entry.details)}, "Redis was away"
        if not (self._pending or defer):
            try:
                self._write(fields)
            except redis.RedisError as error:
                reason = type(error).__name__
                if not is_transient(error):
                    log.error("not in the audit log", error=reason, **asdict(entry))  # noqa: TRY400 - one line
                    return
            else:
                return
        log.warning("not in the audit log yet", error=reason, **asdict(entry))
        self._pending.append({**fields, "happened_at": utc(datetime.now(UTC))})
        if self._lock.acquire(blocking=False):
            threading.Thread(target=self._write_pending, daemon=True).start()

    def _write(self, fields: dict[str, Any]) -> None:
        self.connection.xadd(AUDIT, fields, maxlen=self.max_entries, approximate=True)

    def _write_pending(self) -> None:
        """Write pending entries in order until none is left."""
        while True:
            while self._pending:
                try:
                    self._write(self._pending[0])
                    self._pending.popleft()
                except redis.RedisError:
                    time.sleep(RETRY_SECONDS)
            self._lock.release()
            if not self._pending or not self._lock.acquire(blocking=False):  # an entry may have been added meanwhile
                return


def page(
    connection: redis.Redis,
    limit: int,
    cursor: str | None = None,
    actor: str | None = None,
    action: str | None = None,
    since: datetime | None = None,
) -> tuple[list[dict[str, Any]], str | None, list[dict[str, str]]]:
    """Entries, newest first, the cursor of the next page if there may be one, and unreadable entries.

    Raises:
        BadRequest: the cursor is invalid.
    """
    if cursor is not None and not STREAM_ID.fullmatch(cursor):
        raise BadRequest("The cursor is invalid")
    oldest = str(max(0, int(since.timestamp() * 1000))) if since else "-"
    page_entries: list[dict[str, Any]] = []
    unreadable: list[dict[str, str]] = []
    read = 0
    while True:
        batch = connection.xrevrange(AUDIT, max=f"({cursor}" if cursor else "+", min=oldest, count=BATCH_SIZE)
        for entry_id, fields in batch:
            cursor = entry_id.decode()
            try:
                entry = _as_json(cursor, fields)
            except (KeyError, ValueError, OverflowError) as error:
                unreadable.append({"id": cursor, "reason": f"{type(error).__name__}: {error}"})
                continue
            if actor in (None, entry["actor"]) and action in (None, entry["action"]):
                page_entries.append(entry)
                if len(page_entries) == limit:
                    return page_entries, cursor, unreadable
        read += len(batch)
        if len(batch) < BATCH_SIZE:
            return page_entries, None, unreadable
        if read >= MAX_ENTRIES_READ:
            return page_entries, cursor, unreadable


def _as_json(entry_id: str, fields: dict[bytes, bytes]) -> dict[str, Any]:
    """An entry as JSON. Raises KeyError, ValueError: it cannot be read."""
    texts = {name.decode(errors="replace"): value.decode(errors="replace") for name, value in fields.items()}
    at = datetime.fromtimestamp(int(entry_id.partition("-")[0]) / 1000, UTC)
    return {
        "id": entry_id,
        "at": texts.get("happened_at", utc(at)),
        **{name: texts[name] for name in ("actor", "action", "method", "route", "target", "address")},
        "status": _parse_status(texts["status"]),
        "details": JSON.loads(fields[b"details"]),
    }


def _parse_status(text: str) -> int:
    """Raises ValueError."""
    if not re.fullmatch(r"[1-5][0-9]{2}", text):
        raise ValueError("not an HTTP status")
    return int(text)
