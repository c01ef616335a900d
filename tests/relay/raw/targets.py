"""What must hold for any bytes whatsoever of the relay's pure parts; each raises where it does not.

A first byte that is not part of what is read decides where the rest is cut in two.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import httptools

from proxy.relay.http.body import RequestBody
from proxy.relay.http.chunks import ChunkError, ChunkReader
from proxy.relay.http.faults import HeadError
from proxy.relay.http.forwarding import Forwarding
from proxy.relay.http.reader import HeadReader
from proxy.relay.http.response import ResponseError, ResponseReader
from proxy.settings import LimitSettings
from tests.relay.raw import strict

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.relay.http.head import RequestHead

REQUESTS: Final = HeadReader(LimitSettings())
# Reads what goes on, which may have more fields than we take.
NEXT: Final = HeadReader(LimitSettings.model_construct(header_count=200, head_size=2**20))
RESPONSES: Final = ResponseReader(65536)
_EMPTY_CODING: Final = re.compile(rb"\r\ntransfer-encoding:[\t ]*\r\n", re.IGNORECASE)
CLIENT: Final = Forwarding(b"1.2.3.4", trusted=False)
MADE: Final = b"0123456789abcdef-1"


class Seen:
    """What llhttp reads."""

    def __init__(self) -> None:
        self.target = b""
        self.fields = 0
        self.complete = False

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, _name: bytes, _value: bytes) -> None:
        self.fields += 1

    def on_headers_complete(self) -> None:
        self.complete = True


def _cut(data: bytes) -> tuple[int, bytes]:
    return (data[0] * len(data) // 256, data[1:]) if data else (0, b"")


def _head(data: bytes, reader: HeadReader = REQUESTS) -> RequestHead | None:
    try:
        return reader.read(data)
    except HeadError:
        return None


def request(data: bytes) -> None:
    """A beginning that is refused stays so; what goes on is read alike by llhttp and by us."""
    at, data = _cut(data)
    head = _head(data)
    try:
        REQUESTS.read(data[:at])
    except HeadError:
        assert head is None
    if head is None:
        return
    out = head.forward(CLIENT, MADE, upstream=True)
    again = _head(out, NEXT)
    assert again is not None
    assert again.raw == out
    assert (again.method, again.target, again.length) == (head.method, head.target, head.length)
    _llhttp_agrees(again)
    _follow(head, data[len(head.raw) :], at)


def _llhttp_agrees(head: RequestHead) -> None:
    seen = Seen()
    try:
        httptools.HttpRequestParser(seen).feed_data(head.raw)
    except httptools.HttpParserInvalidMethodError:
        return  # it knows some methods, we take any
    except httptools.HttpParserUpgrade:
        pass
    assert seen.complete
    assert seen.target == head.target
    assert seen.fields == head.raw.count(b"\r\n") - 2


def _follow(head: RequestHead, rest: bytes, at: int) -> None:
    """However the body is cut, the same goes on; framed as a second reading expects."""
    whole = _taken(head.length, [rest])
    assert whole == _taken(head.length, [rest[:at], rest[at:]])
    if whole is not None and whole[1]:
        line = b"Content-Length: %d" % head.length
        if head.length < 0:
            line = b"Transfer-Encoding: chunked"
        framed, left = strict.read(b"POST / HTTP/1.1\r\n" + line + b"\r\n\r\n" + whole[2])
        assert not left
        assert framed.body == whole[0]


def _taken(length: int, pieces: list[bytes]) -> tuple[bytes, bool, bytes] | None:
    """The content that went on, whether the body ended, and one framing of it; None: refused."""
    body = RequestBody(length)
    passed = b""
    for piece in pieces:
        if body.done:
            break
        try:
            passed += body.take(piece)[0]
        except ChunkError:
            return None
    if length >= 0 or not body.done:
        return (passed, body.done, passed) if length >= 0 else (b"", False, b"")
    framed = strict.read(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + passed)[0]
    trailers = b"".join(b"%b:%b\r\n" % pair for pair in framed.trailers)
    content = b"%x\r\n%b\r\n" % (len(framed.body), framed.body) if framed.body else b""
    return framed.body, True, content + b"0\r\n" + trailers + b"\r\n"


def response(data: bytes) -> None:
    """A final response that is accepted is read alike by llhttp."""
    _, data = _cut(data)
    for bodiless in (True, False):
        for old in (True, False):
            try:
                framing = RESPONSES.read(data, bodiless=bodiless, old=old)
            except ResponseError:
                framing = None
    if framing is None or framing.status < 200:
        return
    if _EMPTY_CODING.search(data, 0, framing.end):
        return  # llhttp refuses what RFC 9110 section 5.6.1.2 allows
    assert framing.end <= len(data)
    seen = Seen()
    parser = httptools.HttpResponseParser(seen)
    parser.feed_data(data[: framing.end])
    assert seen.complete
    assert parser.get_status_code() == framing.status
    assert seen.fields == data[: framing.end].count(b"\r\n") - 2


def chunks(data: bytes) -> None:
    """However a chunked body is cut, it has one reading; a second one agrees."""
    at, data = _cut(data)
    whole = _read_chunks([data])
    assert whole == _read_chunks([data[:at], data[at:]])
    if whole is None or not whole[1]:
        return
    end, _, content = whole
    plain, left = strict.read(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + data)
    assert (plain.body, left) == (content, data[end:])


def _read_chunks(pieces: list[bytes]) -> tuple[int, bool, bytes] | None:
    """Where the body ended, whether it did, and what was in it; None for what is none."""
    reader = ChunkReader()
    content: list[bytes] = []
    end = 0
    try:
        for piece in pieces:
            end += reader.feed(piece, content)
    except ChunkError:
        return None
    return end, reader.done, b"".join(content)


TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    "request": request,
    "response": response,
    "chunks": chunks,
}
