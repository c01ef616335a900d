"""Reading request heads: from bytes to a `RequestHead`, or to the reason why they are none."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from proxy.relay.http.faults import HeadError, refuse_unless_incomplete
from proxy.relay.http.fields import judge
from proxy.relay.http.grammar import ABSOLUTE, request_grammar
from proxy.relay.http.head import RequestHead
from proxy.relay.http.limits import KNOWN_HEADS, KNOWN_SIZE

if TYPE_CHECKING:
    from proxy.relay.http.limits import Limits

_SESSION_KEY: Final = re.compile(rb"\r\nx[-_]session[-_]api[-_]key:[^\r]*", re.IGNORECASE)


class HeadReader:
    """Reads request heads within the limits; one for all connections.

    Clients repeat themselves: whoever polls sends the same bytes again and again. What a head
    means depends on nothing else, so small ones are remembered with their reading in `known`
    (which halves what a small request costs here).
    """

    def __init__(self, limits: Limits, *, strip_session_keys: bool = False) -> None:
        self.limits = limits
        self._strips = strip_session_keys
        self.known: dict[bytes, RequestHead] = {}
        self._match = request_grammar(limits.target_length, limits.header_count).match

    def read(self, data: bytes | bytearray) -> RequestHead | None:
        """The head that `data` begins with, or None when it is not all there yet.

        Raises `HeadError` for one that is refused, as soon as that is certain.
        """
        match = self._match(data)
        if match is None or match.end() > self.limits.head_size:
            refuse_unless_incomplete(data, self.limits)
            return None
        method, target, minor, _ = match.groups()
        old = minor == b"0"
        head = RequestHead(match[0], method, target, old=old, keep_alive=not old)
        if target == b"*" and method != b"OPTIONS":
            raise HeadError(400, "the target * is for OPTIONS only")
        judge(head, match.end(3))
        if minor > b"1":
            head.edits.insert(0, (*match.span(3), b"1"))
        if target[:1] not in b"/*":
            _take_path(head)
        if self._strips:
            head.secrets += ((*found.span(), b"") for found in _SESSION_KEY.finditer(head.raw))
        if method == b"CONNECT":
            raise HeadError(405, "CONNECT is not allowed")
        head.plain = not (old or head.length or head.upgrade or method == b"HEAD")
        if len(head.raw) == len(data) <= KNOWN_SIZE:
            if len(self.known) >= KNOWN_HEADS:
                self.known.clear()
            self.known[head.raw] = head
        return head


def _take_path(head: RequestHead) -> None:
    """Bring a target in absolute form into origin form (RFC 9112 section 3.2.4).

    All judge the path by itself then; that it is of the same host leaves it one reading.
    """
    found = ABSOLUTE.fullmatch(head.target)
    if found is None or head.host is None or found[1].lower() != head.host.lower():
        raise HeadError(400, "the target is of another host than the Host field")
    rest, start = found[2], len(head.method) + 1
    end = start + len(head.target)
    if not rest and head.method == b"OPTIONS":
        head.target = b"*"
    else:
        head.target = rest if rest[:1] == b"/" else b"/" + rest
    head.edits.insert(0, (start, end, head.target))
