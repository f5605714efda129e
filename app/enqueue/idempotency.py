"""The Idempotency-Key header (draft-ietf-httpapi-idempotency-key-header-07): a request that comes twice acts once.

The answer is kept for a day, written in the same step as the jobs, and given again to the same request of the same
caller. Where it is not known in that step, the ids of the jobs are kept, and the answer is put in their place later.
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
    """What is kept of a request: its answer, or the ids of the jobs (or of the workflow) that it made."""

    body: Any
    status: int
    ids: list[str]


@dataclass
class Receipt:
    """One request with an Idempotency-Key. `answer` is kept with the jobs, if it is known before they are made."""

    key: str
    request: str
    """Hexadecimal digest of the request."""
    answer: Answer | None = field(default=None)

    @classmethod
    def of(cls, caller: str, key: str, request: bytes) -> "Receipt":
        digest = hashlib.sha256(key.encode()).hexdigest()
        return cls(idempotency_key(caller, digest), hashlib.sha256(request).hexdigest())

    def script_args(self) -> dict[str, Any]:
        """Arguments of the scripts that make jobs."""
        return {
            "receipt": self.key,
            "receipt_seconds": RETENTION_SECONDS,
            "receipt_request": self.request,
            "receipt_answer": orjson.dumps(self.answer) if self.answer else "",
        }

    def read(self, stored: bytes, token: str) -> Answer | None:
        """What was kept, or None if this very try has kept it, and the answer was lost. `token`: its first id.

        Raises:
            Invalid: the key came with another request.
        """
        record = orjson.loads(stored)
        if record["request"] != self.request:
            raise Invalid("This Idempotency-Key came with another request")
        if record.get("token") == token:
            return None
        answer: Answer = record["answer"] if "answer" in record else {"ids": record["ids"]}
        return answer

    def store_answer(self, connection: redis.Redis, answer: Answer) -> None:
        """Put the answer in the place of the ids."""
        record = orjson.dumps({"request": self.request, "answer": answer})
        connection.set(self.key, record, ex=RETENTION_SECONDS)
