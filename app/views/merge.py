"""Jobs from many lists and registries, merged newest first, page by page.

Each list and registry has an order of its own (app/views/registries.py), which is nearly that in which its jobs were
queued. A few jobs of each are read ahead; the next one comes from where the newest was read. The cost of a page grows
with its size and the number of queues, not with the number of jobs.
"""

import base64
import binascii
import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import orjson
import redis

from app.errors import BadRequest
from app.views import job_view
from app.views.registries import Place, Source, parse_source

READ_AT_MOST = 2000  # jobs looked at for one page after the first of each source, however few pass the filter
READ_AHEAD = 4  # jobs of each source at least
BATCH = 200  # jobs of one source in one round trip at most
LONGEST_CURSOR = 4_000_000  # bytes, unpacked

Job = dict[str, Any]


def newest(job: Job) -> str:
    """When a job was last queued, or else created: what lists are sorted by."""
    return str(job["enqueued_at"] or job["created_at"] or "")


class _Stream:
    """The jobs of one source that were read ahead, and how far they were taken."""

    def __init__(self, source: Source, place: Place | None, size: int) -> None:
        self.source, self.place, self.size = source, place, size
        self.ahead: list[tuple[str, Place, Job | None]] = []
        """The last comes first. With each, the newest time among it and those behind it: a job that was queued long ago
        and has only just ended does not hide younger ones."""
        self.ended = False

    def fill(self, ids: list[tuple[str, Place]], jobs: list[Job | None]) -> None:
        self.ended, latest = len(ids) < self.size, ""
        self.size = max(self.size, min(2 * self.size, BATCH))
        for (_, place), job in zip(reversed(ids), reversed(jobs), strict=True):
            latest = max(latest, newest(job) if job else "")
            self.ahead.append((latest, place, job))

    def take(self) -> Job | None:
        _, self.place, job = self.ahead.pop()
        return job


def page(
    connection: redis.Redis, sources: Iterable[Source], fits: Callable[[Job], bool], limit: int, cursor: str | None
) -> tuple[list[Job], str | None]:
    """Up to `limit` jobs that fit, and the cursor of the next page if there may be one.

    The jobs of a single source stay in its order.

    Raises:
        BadRequest: a cursor that was not given out here.
    """
    places = _parse(cursor) if cursor else {}
    wanted = sorted(set(sources), key=lambda source: source.rank)
    size = max(READ_AHEAD, 2 * limit // len(wanted)) if len(wanted) > 1 else limit
    streams = [_Stream(source, places.get(source), size) for source in wanted]
    _read(connection, streams)
    found: dict[str, Job] = {}
    read = 0
    while len(found) < limit and (left := [stream for stream in streams if stream.ahead]):
        stream = max(left, key=lambda one: one.ahead[-1][0])
        job = stream.take()
        if job and fits(job):
            found.setdefault(job["id"], job)  # one that has moved meanwhile may be seen twice
        if not stream.ahead and not stream.ended and len(found) < limit:
            if read >= READ_AT_MOST:
                break
            _read(connection, [stream])
            read += len(stream.ahead)
    jobs = list(found.values())
    if len(wanted) > 1:
        jobs.sort(key=newest, reverse=True)
    more = any(stream.ahead or not stream.ended for stream in streams)
    return jobs, _cursor({**places, **{s.source: s.place for s in streams if s.place}}) if more else None


def _read(connection: redis.Redis, streams: Sequence[_Stream]) -> None:
    """The next jobs of each, in two round trips, and one more for each queue that was begun on an earlier page."""
    answers: list[list[tuple[str, Place]]] = []
    asked = [stream for stream in streams if not stream.source.looks_up(stream.place)]
    with connection.pipeline(transaction=False) as pipeline:
        for stream in asked:
            stream.source.ask(pipeline, stream.place, stream.size)
        told = iter(pipeline.execute(raise_on_error=False))
    for stream in streams:
        if stream.source.looks_up(stream.place):
            answers.append(stream.source.after(connection, stream.place, stream.size))
        else:
            answers.append(stream.source.entries(next(told)))
    jobs = iter(job_view.fetch(connection, [job_id for ids in answers for job_id, _ in ids]))
    for stream, ids in zip(streams, answers, strict=True):
        stream.fill(ids, [next(jobs) for _ in ids])


def _cursor(places: dict[Source, Place]) -> str:
    """Opaque to callers: the place in each source of which jobs were taken."""
    plain = orjson.dumps([[source.registry, source.queue, place] for source, place in places.items()])
    return base64.urlsafe_b64encode(zlib.compress(plain)).decode().rstrip("=")


def _parse(text: str) -> dict[Source, Place]:
    """Raises BadRequest for a cursor that was not given out here."""
    try:
        packed = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        found = orjson.loads(zlib.decompressobj().decompress(packed, LONGEST_CURSOR))
        entries = [parse_source(*entry) for entry in found]
        return {source: place for source, place in entries if place}
    except (ValueError, TypeError, binascii.Error, zlib.error):
        raise BadRequest("The cursor is not one of ours") from None
