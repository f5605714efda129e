"""The log of a job: what it has logged and printed while it ran."""

from typing import Any

import orjson
import redis

from app.errors import BadRequest, NotFound
from app.redis.hash_values import int_of, utc_of
from app.redis.keys import STREAM_ID, job_key, log_key


def page(
    connection: redis.Redis, job_id: str, limit: int, cursor: str | None
) -> tuple[list[dict[str, Any]], str | None]:
    """Lines after the cursor, oldest first, and the cursor of the next page: None if there is none at the moment.

    The id of a line is the cursor to what comes after it.

    Raises:
        NotFound: there is no such job.
        BadRequest: the cursor is invalid.
    """
    if cursor and not STREAM_ID.fullmatch(cursor):
        raise BadRequest("The cursor is invalid")
    with connection.pipeline(transaction=False) as pipeline:
        pipeline.exists(job_key(job_id))
        pipeline.xrange(log_key(job_id), f"({cursor}" if cursor else "-", count=limit)
        exists, entries = pipeline.execute()
    if not exists:
        raise NotFound(f"No job {job_id!r}")
    lines = [
        shape({**orjson.loads(raw[b"line"]), "id": entry.decode(), "attempt": int_of(raw.get(b"attempt"))})
        for entry, raw in entries
    ]
    return lines, entries[-1][0].decode() if len(entries) == limit else None


def shape(line: dict[str, Any]) -> dict[str, Any]:
    """A line in the HTTP contract."""
    return {
        "id": line.get("id"),
        "at": utc_of(line.get("at")),
        "attempt": line.get("attempt"),
        "source": line.get("source"),
        "level": line.get("level"),
        "text": line.get("text"),
        **({"trace_id": line["trace_id"]} if "trace_id" in line else {}),
    }
