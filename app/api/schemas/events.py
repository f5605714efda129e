"""Streams of events."""

from app.fields import Strict


class EventsQuery(Strict):
    queue: str | None = None
    function: str | None = None
