"""Jobs from many lists and registries, merged newest first, page by page.

Each list and registry has its own order (app/views/registries.py), which is nearly the order of enqueueing. A few jobs
of each are read ahead, and the next job comes from the registry whose first job is newest. The cost of a page depends
on its size and the number of queues, not on the number of jobs.
"""

import base64
import binascii
import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import orjson
import redis

from app.errors import BadRequest
from app.redis.errors import execute_each
from app.views import job_view
from app.views.registries import Position, Registry, parse_position

MAX_JOBS_READ = 2000  # for one page, besides the first batch of each registry, however few match
READ_AHEAD = 4  # minimum number of jobs per registry
MAX_BATCH_SIZE = 200  # jobs of one registry in one round trip
MAX_CURSOR_BYTES = 4_000_000  # uncompressed

Job = dict[str, Any]


def queued_at(job: Job) -> str:
    """When a job was last enqueued, or else created: the sort key of lists."""
    return str(job["enqueued_at"] or job["created_at"] or "")


class _Stream:
    """The jobs read ahead from one registry, and the position of the last one taken."""

    def __init__(self, registry: Registry, position: Position | None, size: int) -> None:
        self.registry, self.position, self.size = registry, position, size
        self.ahead: list[tuple[str, Position, Job | None]] = []
        """The jobs, last to be taken first, as (sort key, position, job). The key is the newest `queued_at` of this and
        all later jobs, so that an old job which has only just ended does not hide newer ones."""
        self.ended = False

    def fill(self, ids: list[tuple[str, Position]], jobs: list[Job | None]) -> None:
        self.ended, latest = len(ids) < self.size, ""
        self.size = max(self.size, min(2 * self.size, MAX_BATCH_SIZE))
        for (_, position), job in zip(reversed(ids), reversed(jobs), strict=True):
            latest = max(latest, queued_at(job) if job else "")
            self.ahead.append((latest, position, job))

    def take(self) -> Job | None:
        _, self.position, job = self.ahead.pop()
        return job


def page(
    connection: redis.Redis,
    registries: Iterable[Registry],
    matches: Callable[[Job], bool],
    limit: int,
    cursor: str | None,
) -> tuple[list[Job], str | None]:
    """Up to `limit` matching jobs, and the cursor of the next page if there may be one.

    Jobs of a single registry keep its order.

    Raises:
        BadRequest: the cursor is invalid.
    """
    positions = _parse(cursor) if cursor else {}
    ordered = sorted(set(registries), key=lambda registry: registry.rank)
    size = max(READ_AHEAD, 2 * limit // len(ordered)) if len(ordered) > 1 else limit
    streams = [_Stream(registry, positions.get(registry), size) for registry in ordered]
    _read(connection, streams)
    page_jobs: dict[str, Job] = {}
    read = 0
    while len(page_jobs) < limit and (remaining := [stream for stream in streams if stream.ahead]):
        stream = max(remaining, key=lambda stream: stream.ahead[-1][0])
        job = stream.take()
        if job and matches(job):
            page_jobs.setdefault(job["id"], job)  # a job that moves meanwhile may be read twice
        if not stream.ahead and not stream.ended and len(page_jobs) < limit:
            if read >= MAX_JOBS_READ:
                break
            _read(connection, [stream])
            read += len(stream.ahead)
    jobs = list(page_jobs.values())
    if len(ordered) > 1:
        jobs.sort(key=queued_at, reverse=True)
    more = any(stream.ahead or not stream.ended for stream in streams)
    return jobs, _cursor({**positions, **{s.registry: s.position for s in streams if s.position}}) if more else None


def _read(connection: redis.Redis, streams: Sequence[_Stream]) -> None:
    """Read ahead in two round trips, plus one for each queue continued from an earlier page."""
    answers: list[list[tuple[str, Position]]] = []
    pipelined = [stream for stream in streams if not stream.registry.needs_lookup(stream.position)]
    with connection.pipeline(transaction=False) as pipeline:
        for stream in pipelined:
            stream.registry.request(pipeline, stream.position, stream.size)
        replies = iter(execute_each(pipeline))
    for stream in streams:
        if stream.registry.needs_lookup(stream.position):
            answers.append(stream.registry.after(connection, stream.position, stream.size))
        else:
            answers.append(stream.registry.parse_entries(next(replies)))
    jobs = iter(job_view.fetch(connection, [job_id for ids in answers for job_id, _ in ids]))
    for stream, ids in zip(streams, answers, strict=True):
        stream.fill(ids, [next(jobs) for _ in ids])


def _cursor(positions: dict[Registry, Position]) -> str:
    """Encode the position in each registry from which jobs were taken; opaque to clients."""
    plain = orjson.dumps([[registry.kind, registry.queue, position] for registry, position in positions.items()])
    return base64.urlsafe_b64encode(zlib.compress(plain)).decode().rstrip("=")


def _parse(text: str) -> dict[Registry, Position]:
    """Decode a cursor. Raises BadRequest: it is invalid."""
    try:
        compressed = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        entries = orjson.loads(zlib.decompressobj().decompress(compressed, MAX_CURSOR_BYTES))
        positions = [parse_position(*entry) for entry in entries]
        return {registry: position for registry, position in positions if position}
    except (ValueError, TypeError, binascii.Error, zlib.error):
        raise BadRequest("The cursor is invalid") from None
