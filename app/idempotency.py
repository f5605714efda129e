"""The Idempotency-Key header (draft-ietf-httpapi-idempotency-key-header-07): a request that comes twice acts once.

The first answer is kept for a day, written in the same step as the jobs, and given again to the same request of the
same caller. Until then the key is held by the request that is under way.
"""

import hashlib
import secrets
from collections.abc import Callable
from typing import Any

import orjson
import redis
from redis.client import Pipeline

from app.errors import Conflict, Invalid

KEPT = 86_400  # seconds
UNDER_WAY = 60  # seconds after which a request that has not answered is given up

Answer = dict[str, Any]


class Receipt:
    """Of one request."""

    answer: Callable[[list[str]], Answer | None]
    """What is kept, from the ids of the jobs; None: that is not known yet."""

    def __init__(self, connection: redis.Redis, caller: str, key: str, request: bytes) -> None:
        self.connection = connection
        self.key = f"jobline:idempotency:{caller}:{hashlib.sha256(key.encode()).hexdigest()}"
        self._request = hashlib.sha256(request).hexdigest()
        self._mark = orjson.dumps({"request": self._request, "token": secrets.token_hex(8)})

    def earlier(self) -> Answer | None:
        """The answer that was given before; None: this is the first time, and the key is ours.

        Raises:
            Invalid: the key came with another request.
            Conflict: the request is under way.
        """
        with self.connection.pipeline(transaction=False) as pipeline:
            pipeline.set(self.key, self._mark, nx=True, ex=UNDER_WAY)
            pipeline.get(self.key)
            ours, held = pipeline.execute()
        if ours:
            return None
        said = orjson.loads(held or b"{}")
        if said.get("request") not in (self._request, None):
            raise Invalid("This Idempotency-Key came with another request")
        if "answer" not in said:
            raise Conflict("A request with this Idempotency-Key is under way")
        answer: Answer = said["answer"]
        return answer

    def check(self, held: bytes | None) -> None:
        """Raises Conflict: the key is ours no longer."""
        if held != self._mark:
            raise Conflict("Another request with this Idempotency-Key was faster")

    def write(self, pipeline: Pipeline, ids: list[str]) -> None:
        answer = self.answer(ids)
        if answer:
            self.keep(pipeline, answer)

    def keep(self, client: redis.Redis | Pipeline, answer: Answer) -> None:
        client.set(self.key, orjson.dumps({"request": self._request, "answer": answer}), ex=KEPT)

    def give_up(self) -> None:
        """Nothing was done: the same request may come again."""
        if self.connection.get(self.key) == self._mark:
            self.connection.delete(self.key)
