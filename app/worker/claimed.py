"""A job that a worker has claimed, and what is reported of its attempt."""

import zlib
from dataclasses import dataclass, fields
from datetime import datetime
from enum import Enum
from typing import Any, NamedTuple, Protocol

from app.serializer import JSON


@dataclass(slots=True)
class Claimed:
    """A job that this worker has claimed. From `data` on, fields of its hash: None if missing or unreadable."""

    queue: str
    id: str
    """Bytes that are not UTF-8 are escaped as by os.fsdecode (surrogates)."""
    execution_id: str
    data: bytes | None = None
    created_at: bytes | None = None
    timeout: bytes | None = None
    result_ttl: bytes | None = None
    success_callback_name: bytes | None = None
    failure_callback_name: bytes | None = None
    stopped_callback_name: bytes | None = None
    webhooks: bytes | None = None
    group_id: bytes | None = None
    repeats_left: bytes | None = None
    attempts: bytes | None = None
    enqueued_at: bytes | None = None
    dependency_ids: bytes | None = None
    ttl: bytes | None = None
    limits: bytes | None = None
    workflow: bytes | None = None
    workflow_webhook: bytes | None = None
    webhook: bytes | None = None
    function: str = ""
    """The name of its function, once that is known."""
    has_log: bool = False
    """Whether it has written to its log."""

    @property
    def raw_id(self) -> bytes:
        return self.id.encode(errors="surrogateescape")

    def call(self) -> Any:
        """Decode `data`: normally [path of the function, None, arguments, keyword arguments].

        Raises:
            zlib.error, ValueError: unreadable.
        """
        return JSON.loads(zlib.decompress(self.data or b""))

    def waited(self, started_at: float) -> float | None:
        """Seconds from being queued to `started_at` (seconds since 1970); None if it is not known."""
        try:
            return started_at - datetime.fromisoformat((self.enqueued_at or b"").decode()).timestamp()
        except ValueError:
            return None

    @property
    def has_followers(self) -> bool:
        """Whether its end concerns a workflow or a webhook."""
        return self.workflow is not None or self.webhook is not None


FIELDS = [field.name for field in fields(Claimed) if field.default is None]
"""Fields of the hash that a claim returns, in order."""


@dataclass(slots=True)
class Finished:
    """The end of a job that succeeded; `result` is JSON, None for no result; times in seconds since 1970."""

    claimed: Claimed
    result: bytes | None
    result_ttl: int
    started_at: float
    ended_at: float


@dataclass(slots=True)
class Failed:
    """The end of an attempt that raised; times in seconds since 1970."""

    claimed: Claimed
    traceback: str
    may_retry: bool
    wait: float | None
    """Seconds before the retry, those of the job if None."""
    started_at: float
    ended_at: float


class Ended(NamedTuple):
    """How an attempt ended, for the metrics. Times are seconds since 1970."""

    claimed: Claimed
    outcome: str
    """How it ended: one of app.metrics.measures.OUTCOMES."""
    started_at: float
    ended_at: float


class Nothing(Enum):
    """Why there is no job."""

    EMPTY = b"empty"
    AGAIN = b"again"
    """There may be jobs behind those that were put off."""
    PAUSED = b"paused"
    """Only paused queues have jobs."""
    SUSPENDED = b"suspended"
    BUSY = b"busy"
    """Another claim of this worker came first; or this one was sent on a connection that it has given up since."""
    UNLEASED = b"unleased"
    """This worker was given up for dead; its parent's next beat takes a new lease."""


class Reports(Protocol):
    """Where the end of a job is reported: see RedisSession."""

    def ended(self, finished: Finished) -> None: ...
    def failed(self, failed: Failed) -> None: ...
    def counts(self, ended: Ended) -> None: ...
    def releases(self, claimed: Claimed) -> None: ...
    def settle(self) -> None: ...
