"""Server-sent events as WHATWG HTML, section 9.2.6, has them, however they are cut."""

import pytest

from app.cli.sse import Event, Parser


def parsed(stream: bytes, size: int | None = None) -> list[Event]:
    """In pieces of that size."""
    parser, size = Parser(), size or len(stream)
    pieces = [stream[start : start + size] for start in range(0, len(stream), size)]
    return [event for piece in pieces for event in parser.feed(piece)]


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        ("data: one\n\n", [("message", "one")]),
        ("event: end\ndata: one\n\ndata: two\n\n", [("end", "one"), ("message", "two")]),
        ("data: YHOO\ndata: +2\ndata: 10\n\n", [("message", "YHOO\n+2\n10")]),
        ("data\n\ndata\ndata\n\ndata:", [("message", ""), ("message", "\n")]),
        (
            "data:test\n\ndata: test\n\ndata:  test\n\n",
            [("message", "test"), ("message", "test"), ("message", " test")],
        ),
        (": alive\n\n:\ndata: a:b: c\n: within\n\n", [("message", "a:b: c")]),
        ("event: lost\n\ndata: one\n\n", [("message", "one")]),
        ("nothing: one\nData: two\n data: three\n\n", []),
        ("\ufeffdata: one\n\n\ufeffdata: two\n\n", [("message", "one")]),
        ("data: one\r\ndata: two\r\n\r\ndata: three\r\n\r\n", [("message", "one\ntwo"), ("message", "three")]),
        ("data: one\rdata: two\r\rdata: three\r\r", [("message", "one\ntwo"), ("message", "three")]),
        ("data: one\rdata: two\ndata: three\r\n\n", [("message", "one\ntwo\nthree")]),
        ("data: a\u2028b\x0bc\x85d\n\n", [("message", "a\u2028b\x0bc\x85d")]),
        ("data: Ünï €😀\n\n", [("message", "Ünï €😀")]),
        ("data: one\n\ndata: cut off\n", [("message", "one")]),
    ],
)
@pytest.mark.parametrize("size", [None, 1, 2, 3, 7])
def test_events_are_the_same_however_they_are_cut(stream: str, events: list[tuple[str, str]], size: int | None) -> None:
    assert parsed(stream.encode(), size) == events


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
def test_an_event_is_told_as_soon_as_its_last_line_has_ended(end: str) -> None:
    parser = Parser()
    assert list(parser.feed(f"data: one{end}".encode())) == []
    assert list(parser.feed(end[:1].encode())) == [("message", "one")]
    assert list(parser.feed(f"{end[1:]}data: two{end}{end}".encode())) == [("message", "two")]


def test_what_is_no_utf_8_is_replaced() -> None:
    assert parsed(b"data: \xff\xe2\x82\n\n", 1) == [("message", "\ufffd\ufffd")]


def test_the_last_id_is_that_of_an_event_that_was_complete() -> None:
    parser = Parser("0")
    places = []
    for piece in ("data: a\n\n", "id: 1\n", "\n", "id: 2\ndata: b\n", "\n", "data: c\n\n", "id: 3\0\n\n", "id\n\n"):
        list(parser.feed(piece.encode()))
        places.append(parser.last_id)
    assert places == ["0", "0", "1", "1", "2", "2", "2", ""]


@pytest.mark.parametrize(("said", "seconds"), [("2500", 2.5), ("0", 0), ("", 9), ("-1", 9), ("1.5", 9), ("²", 9)])
def test_how_long_to_wait_is_whole_milliseconds(said: str, seconds: float) -> None:
    parser = Parser(retry=9)
    list(parser.feed(f"retry: {said}\n".encode()))
    assert parser.retry == seconds
