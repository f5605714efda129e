"""The Idempotency-Key header (draft-ietf-httpapi-idempotency-key-header-07): a repeated request takes effect once.

The response is stored for a day, atomically with the jobs, and returned again for the same request of the same caller.
Where it is not known yet at that point, the ids of the jobs are stored and later replaced by the response.
"""

import hashlib
from dataclasses import dataclass, field
from typing import Any, TypedDict

import orjson
import redis

from app.errors import Invalid
from app.redis.keys import idempotency_key

RETENTION_SECONDS = 86_400


class Answer(TypedDict, total=False):
    """The stored response to a request, or the ids of the jobs (or of the workflow) that it created."""

    body: Any
    status: int
    ids: list[str]


@dataclass
class Receipt:
    """The record of a request with an Idempotency-Key, from which later ones with that key are answered.

    `answer` is stored with the jobs if it is known before they are written; otherwise their ids are.
    """

    key: str
    request: str
    """Hexadecimal digest of the request."""
    answer: Answer | None = field(default=None)

    @classmethod
    def of(cls, caller: str, key: str, request: bytes) -> "Receipt":
        digest = hashlib.sha256(key.encode()).hexdigest()
        return cls(idempotency_key(caller, digest), hashlib.sha256(request).hexdigest())

    def script_args(self) -> dict[str, Any]:
        """Arguments for the scripts that write jobs."""
        return {
            "receipt": self.key,
            "receipt_seconds": RETENTION_SECONDS,
            "receipt_request": self.request,
            "receipt_answer": orjson.dumps(self.answer) if self.answer else "",
        }

    def read(self, stored: bytes, token: str) -> Answer | None:
        """Return the stored response; None if this very attempt stored it and Redis's reply was lost.

        `token` identifies the attempt: the id of its first job.

        Raises:
            Invalid: the key was used for a different request.
        """
        record = orjson.loads(stored)
        if record["request"] != self.request:
            raise Invalid("This Idempotency-Key was used for a different request")
        if record.get("token") == token:
            return None
        answer: Answer = record["answer"] if "answer" in record else {"ids": record["ids"]}
        return answer

    def store_answer(self, connection: redis.Redis, answer: Answer) -> None:
        """Replace the stored ids by the response."""
        record = orjson.dumps({"request": self.request, "answer": answer})
        connection.set(self.key, record, ex=RETENTION_SECONDS)
