"""Parser of server-sent events (WHATWG HTML, section 9.2.6)."""

import codecs
import re
from collections.abc import Iterator
from typing import NamedTuple

LINE_END = re.compile(r"\r\n|\r|\n")
DEFAULT_RETRY_SECONDS = 1.0


class Event(NamedTuple):
    kind: str
    data: str


class Parser:
    """Parser of one stream. To resume a lost stream, pass the `last_id` and `retry` of its parser."""

    def __init__(self, last_id: str = "", retry: float = DEFAULT_RETRY_SECONDS) -> None:
        self.last_id = last_id
        """Id of the last complete event."""
        self.retry = retry
        """Seconds to wait before reconnecting."""
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")("replace")
        self._unfinished, self._after_cr = "", False
        self._kind, self._data, self._id = "", list[str](), last_id

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """The events that this chunk completes. A chunk may end anywhere, even within a character."""
        text = self._decoder.decode(chunk)
        if not text:
            return
        if self._after_cr:
            text = text.removeprefix("\n")
        self._after_cr = text.endswith("\r")
        *lines, self._unfinished = LINE_END.split(self._unfinished + text)
        for line in lines:
            if line:
                self._field(*line.partition(":"))
            else:
                yield from self._end()

    def _field(self, name: str, _: str, value: str) -> None:
        value = value.removeprefix(" ")
        if name == "event":
            self._kind = value
        elif name == "data":
            self._data.append(value)
        elif name == "id" and "\0" not in value:
            self._id = value
        elif name == "retry" and re.fullmatch("[0-9]{1,9}", value):
            self.retry = int(value) / 1000

    def _end(self) -> Iterator[Event]:
        kind, data, self._kind, self._data, self.last_id = self._kind or "message", self._data, "", [], self._id
        if data:
            yield Event(kind, "\n".join(data))
