"""Why bytes are no request head, as soon as that is certain.

Reached only by what does not match the grammar: it may be incomplete, or never become a head.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from proxy.relay.http.grammar import BROKEN_LINE, TOKEN

if TYPE_CHECKING:
    from proxy.relay.http.limits import Limits


class HeadError(Exception):
    """The head is refused: an HTTP status and what is wrong, fit for the client to read."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


def refuse_unless_incomplete(data: bytes | bytearray, limits: Limits) -> None:
    """Return if `data` may still become an acceptable head; raise the reason why not."""
    end = data.find(b"\r\n\r\n")
    line_end = data.find(b"\r\n")
    line = data if line_end < 0 else data[:line_end]
    if BROKEN_LINE.search(data, 0, end if end >= 0 else len(data)):
        raise HeadError(400, "the head has a line end or a NUL where none can be")
    _refuse_line(line, limits, complete=line_end >= 0)
    size = len(data) if end < 0 else end + 4
    if size > limits.head_size:
        raise HeadError(431, f"the head is over {limits.head_size} bytes")
    if data.count(b"\r\n", 0, size) > limits.header_count + 2 - (end < 0):
        raise HeadError(431, f"the head has over {limits.header_count} fields")
    if end >= 0:
        raise HeadError(400, "the head is not HTTP/1.1")


def still_incomplete(data: bytearray, seen: int, limits: Limits) -> bool:
    """Whether `data` is no head yet and may become one, as was judged of its first `seen` bytes.

    Says no whenever the whole has to be looked at; its cost is that of the bytes that are new.
    """
    return (
        data.find(b"\n", 0, seen) >= 0  # else the request line has not been judged
        and data.find(b"\r\n\r\n", max(seen - 3, 0)) < 0
        and data.count(b"\n") <= limits.header_count + 1
        and BROKEN_LINE.search(data, seen - 1) is None
    )


_START: Final = re.compile(TOKEN + rb"{0,65}")
_LINE: Final = re.compile(rb"(" + TOKEN + rb"{1,64}+) (\S+) HTTP/([0-9])\.([0-9])")


def _refuse_line(line: bytes | bytearray, limits: Limits, *, complete: bool) -> None:
    """Judge a request line that is not known to be good, or only its beginning."""
    start = _START.match(line)
    rest = line[start.end() :] if start else line
    if start and start.end() > 64:
        raise HeadError(501, "no method is as long as that")
    if (rest and rest[:1] != b" ") or (rest and start and not start.end()):
        raise HeadError(400, "the method is not a method")
    target = rest[1:].partition(b" ")[0]
    if len(target) > limits.target_length:
        raise HeadError(414, f"the target is over {limits.target_length} bytes")
    if not complete:
        return
    match = _LINE.fullmatch(line)
    if match is None:
        raise HeadError(400, "the request line is not METHOD TARGET HTTP/1.1")
    if match[3] != b"1":
        raise HeadError(505, "only HTTP/1 is served")
    if match[1] == b"CONNECT":
        raise HeadError(405, "CONNECT is not allowed")
    if match[2][:1] != b"/" and match[2] != b"*" and match[2][:7].lower() != b"http://":
        raise HeadError(400, "the target is not a path")
    if b"#" in match[2] or re.search(rb"[\x00-\x20\x7f-\xff]", match[2]):
        raise HeadError(400, "the target has a byte that no target can have")
