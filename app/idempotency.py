"""The Idempotency-Key header (draft-ietf-httpapi-idempotency-key-header-07): a request that comes twice acts once.

The first answer is kept for a day, written in the same step as the jobs, and given again to the same request of the
same caller. Where that takes more than one step, the key is held meanwhile by the request that is under way.
"""

import hashlib
import secrets
from collections.abc import Callable
from typing import Any

import orjson
import redis

from app.errors import Conflict, Invalid

KEPT = 86_400  # seconds
UNDER_WAY = 60  # seconds after which a request that has not answered is given up

Answer = dict[str, Any]


class Repeated(Exception):
    """The request was answered before, and so."""

    def __init__(self, answer: Answer) -> None:
        super().__init__("answered before")
        self.answer = answer


class Receipt:
    """Of one request."""

    kept = KEPT
    answer: Callable[[list[str]], Answer | None]
    """What is kept, from the ids of the jobs; None: that is not known yet."""

    def __init__(self, connection: redis.Redis, caller: str, key: str, request: bytes) -> None:
        self.connection = connection
        self.key = f"jobline:idempotency:{caller}:{hashlib.sha256(key.encode()).hexdigest()}"
        self._request = hashlib.sha256(request).hexdigest()
        self._mark = orjson.dumps({"request": self._request, "token": secrets.token_hex(8)})

    def claim(self) -> None:
        """Hold the key while the request is under way. Raises as `judge`."""
        with self.connection.pipeline(transaction=False) as pipeline:
            pipeline.set(self.key, self._mark, nx=True, ex=UNDER_WAY)
            pipeline.get(self.key)
            self.judge(pipeline.execute()[1])

    def judge(self, held: bytes | None) -> None:
        """Of what the key holds: whether the request may act.

        Raises:
            Repeated: it was answered before.
            Invalid: the key came with another request.
            Conflict: the request is under way.
        """
        if held == self._mark:
            return
        said = orjson.loads(held or b"{}")
        if said.get("request") not in (self._request, None):
            raise Invalid("This Idempotency-Key came with another request")
        if "answer" not in said:
            raise Conflict("A request with this Idempotency-Key is under way")
        raise Repeated(said["answer"])

    def value(self, ids: list[str]) -> bytes | None:
        """What the key is to hold when these jobs are made."""
        answer = self.answer(ids)
        return self._filled(answer) if answer else None

    def keep(self, answer: Answer) -> None:
        """Where the answer is known only after the jobs were made."""
        self.connection.set(self.key, self._filled(answer), ex=KEPT)

    def _filled(self, answer: Answer) -> bytes:
        return orjson.dumps({"request": self._request, "answer": answer})

    def give_up(self) -> None:
        """Nothing was done: the same request may come again."""
        if self.connection.get(self.key) == self._mark:
            self.connection.delete(self.key)
