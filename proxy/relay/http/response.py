"""The head of a response: only what is needed to know where the message ends."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from proxy.relay.http.grammar import BROKEN_LINE, RESPONSE, STATUS_LINE, number
from proxy.relay.http.limits import KNOWN_HEADS, KNOWN_SIZE

# `Framing.length` of bodies that do not say how long they are.
CHUNKED: Final = -1
UNTIL_CLOSE: Final = -2

_FRAMING: Final = re.compile(
    rb"\r\n(connection|content-length|transfer-encoding):[\t ]*([^\r]*)", re.IGNORECASE
)
_STATUS_LINE: Final = re.compile(STATUS_LINE)


class ResponseError(Exception):
    """The upstream sent what is no HTTP/1 response."""


@dataclass(slots=True, eq=False)
class Framing:
    """`end`: size of the head; `length`: of the body, or a constant above; `keep`: persists.

    `whole`: size of a final answer whose connection persists, if it says that; else -1.
    """

    status: int
    end: int
    length: int
    keep: bool
    whole: int


class ResponseReader:
    """Reads response heads of up to `limit` bytes; one for all connections.

    Within one second, which is what a `Date` tells, an upstream repeats its heads: small ones are
    remembered with their reading.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.known: dict[bytes, Framing] = {}

    def read(self, data: bytes, *, bodiless: bool, old: bool) -> Framing | None:
        """The framing of the response that `data` begins with, or None when its head is cut.

        `bodiless`: it answers a HEAD request; `old`: an HTTP/1.0 request. Raises `ResponseError`
        for what a client could read in more than one way; nothing of it has been passed on then.
        """
        if bodiless or old:
            return _read(data, self._limit, bodiless=bodiless, old=old)
        head = data[: data.find(b"\r\n\r\n", 0, KNOWN_SIZE) + 4]
        framing = self.known.get(head)
        if framing is None:
            framing = _read(data, self._limit, bodiless=False, old=False)
            if framing is not None and framing.end == len(head):
                if len(self.known) >= KNOWN_HEADS:
                    self.known.clear()
                self.known[head] = framing
        return framing


def _read(data: bytes, limit: int, *, bodiless: bool, old: bool) -> Framing | None:
    """RFC 9112 section 6.3."""
    match = RESPONSE.match(data)
    if match is None or match.end() > limit:
        _refuse_unless_incomplete(data, limit)
        return None
    minor, code, _ = match.groups()
    status = int(code)
    lengths: list[bytes] = []
    codings: list[bytes] = []
    options = b""
    for name, value in _FRAMING.findall(data, match.end(2), match.end() - 4):
        first = name[:2].lower()
        if first == b"tr":
            codings.append(value.strip(b"\t ").lower())
        elif name[3:4] in b"tT":  # con-t-ent, con-n-ection
            lengths.append(value.strip(b"\t "))
        else:
            options += b"," + value.lower()
    length = _length(lengths, codings)
    if bodiless or status < 200 or status in {204, 304}:
        length = 0
    keep = length != UNTIL_CLOSE and _keeps(options, old=old or minor == b"0")
    short = keep and status >= 200 and length >= 0
    end = match.end()
    return Framing(status, end, length, keep, whole=end + length if short else -1)


def _keeps(options: bytes, *, old: bool) -> bool:
    """Whether the connection persists: both ends of HTTP/1.1 assume it, HTTP/1.0 has to say so."""
    if not options:
        return not old
    named = {option.strip(b"\t ") for option in options.split(b",")}
    return b"close" not in named and (not old or b"keep-alive" in named)


def _length(lengths: list[bytes], codings: list[bytes]) -> int:
    if codings:
        if lengths:
            raise ResponseError("both Transfer-Encoding and Content-Length")
        named = [coding.strip(b"\t ") for coding in b",".join(codings).split(b",")]
        named = [coding for coding in named if coding]  # RFC 9110 section 5.6.1.2
        if not named:
            raise ResponseError("an empty Transfer-Encoding")
        return CHUNKED if named[-1] == b"chunked" else UNTIL_CLOSE
    if not lengths:
        return UNTIL_CLOSE
    if len(lengths) > 1:
        raise ResponseError("more than one Content-Length")
    length = number(lengths[0])
    if length is None:
        raise ResponseError("a Content-Length that is not a number")
    return length


def _refuse_unless_incomplete(data: bytes, limit: int) -> None:
    end = data.find(b"\r\n\r\n")
    if (len(data) if end < 0 else end + 4) > limit:
        raise ResponseError(f"a head over {limit} bytes")
    if end >= 0 or BROKEN_LINE.search(data):
        raise ResponseError("a malformed head")
    line, complete, _ = data.partition(b"\r\n")
    known = b"HTTP/1."
    if not known.startswith(line[: len(known)]) or (complete and not _STATUS_LINE.fullmatch(line)):
        raise ResponseError("no HTTP/1 status line")
