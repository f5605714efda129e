"""Event streams."""

from app.catalog.fields import Strict


class EventsQuery(Strict):
    queue: str | None = None
    function: str | None = None
