"""The head of a request: what it means, and what of it goes on.

Everything goes on as it came (order, spelling, value bytes, target), except for the fields that
belong to one hop, which are decided here and nowhere else:

| field | the next hop gets |
|---|---|
| `Connection` | `close`, `keep-alive` (HTTP/1.0) and `Upgrade` as far as they hold for this pair |
| fields named in `Connection`, `Keep-Alive`, `Proxy-Connection`, `TE` | nothing |
| `Transfer-Encoding` | `chunked`, spelled exactly so |
| `Upgrade` | itself, on an HTTP/1.1 request whose `Connection` names it; never `h2c` |
| `X-Forwarded-For/-Proto/-Host` | what `Forwarding` says |
| `X-Init-API-Key` | nothing (the control plane gets it) |
| `X-Session-API-Key` | itself, or nothing where it is to be stripped |

`h2c` would open a tunnel in which further requests pass unseen, so it is left out; RFC 9110
section 7.8 lets a server ignore any upgrade.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from proxy.relay.faults import HeadError, refuse_unless_incomplete
from proxy.relay.grammar import DIGITS, HOST, TOKEN, request_grammar
from proxy.relay.limits import KNOWN_HEADS, KNOWN_SIZE

if TYPE_CHECKING:
    from proxy.relay.forwarding import Forwarding
    from proxy.relay.limits import Limits

CHUNKED: Final = -1  # `RequestHead.length` of a body whose length its chunks tell

# `_` counts as `-` in the names that we set: CGI-like servers cannot tell the two apart.
_SPECIAL: Final = re.compile(
    rb"\r\n(connection|content-length|expect|host|keep-alive|proxy-connection|te"
    rb"|transfer-encoding|upgrade|x[-_]forwarded[-_](?:for|host|proto)|x[-_]init[-_]api[-_]key)"
    rb":[\t ]*([^\r]*)",
    re.IGNORECASE,
)
_SESSION_KEY: Final = re.compile(rb"\r\nx[-_]session[-_]api[-_]key:[^\r]*", re.IGNORECASE)
_OWS: Final = b"\t "
_ONE_TOKEN: Final = re.compile(TOKEN + rb"+")
_STRUCK: Final = frozenset({b"keep-alive", b"proxy-connection", b"te"})
_FORWARDED: Final = frozenset({b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto"})
_NOT_FOR_ONE_HOP: Final = frozenset({b"host", b"content-length", b"transfer-encoding"})


class RequestHead:
    """One accepted request head.

    `length` is the size of the body in bytes, or `CHUNKED`; `raw` the head as it came, with its
    empty line; `old` means HTTP/1.0.
    """

    __slots__ = (
        "_out",
        "_out_for",
        "edits",
        "expects",
        "forwarded",
        "host",
        "keep_alive",
        "length",
        "method",
        "old",
        "raw",
        "secrets",
        "target",
        "upgrade",
    )

    def __init__(self, raw: bytes, method: bytes, target: bytes, *, old: bool) -> None:
        self.raw = raw
        self.method = method
        self.target = target
        self.old = old
        self.length = 0
        self.keep_alive = not old
        self.upgrade = False
        self.expects = False
        self.host: bytes | None = None
        self.forwarded: dict[bytes, list[bytes]] = {}
        self.edits: list[tuple[int, int, bytes]] = []
        self.secrets: list[tuple[int, int, bytes]] = []
        self._out = b""
        self._out_for: Forwarding | None = None

    def field(self, name: bytes) -> bytes | None:
        """The value of the first field called `name` (lower case)."""
        found = re.search(rb"\r\n" + re.escape(name) + rb":([^\r]*)", self.raw, re.IGNORECASE)
        return found[1].strip(_OWS) if found else None

    def forward(self, forwarding: Forwarding, *, upstream: bool) -> bytes:
        """The head as the next hop gets it: the upstream, or our own control plane."""
        if not upstream:
            return self._forward(forwarding, self.edits)
        if self._out_for is not forwarding:
            edits = sorted(self.edits + self.secrets) if self.secrets else self.edits
            self._out = self._forward(forwarding, edits)
            self._out_for = forwarding
        return self._out

    def _forward(self, forwarding: Forwarding, edits: list[tuple[int, int, bytes]]) -> bytes:
        raw = self.raw
        parts: list[bytes] = []
        done = 0
        for start, end, replacement in edits:
            parts += raw[done:start], replacement
            done = end
        parts += raw[done:-4], forwarding.lines(self), b"\r\n\r\n"
        return b"".join(parts)

    def __repr__(self) -> str:
        return f"<RequestHead {self.method!r} {self.target!r}>"


class HeadReader:
    """Reads request heads within the limits; one for all connections.

    Clients repeat themselves: whoever polls sends the same bytes again and again. What a head
    means depends on nothing else, so small ones are remembered with their reading in `known`
    (which halves what a small request costs here).
    """

    def __init__(self, limits: Limits, *, strip_session_keys: bool = False) -> None:
        self._limits = limits
        self._strips = strip_session_keys
        self.known: dict[bytes, RequestHead] = {}
        self._match = request_grammar(limits.target_length, limits.header_count).match

    def read(self, data: bytes) -> RequestHead | None:
        """The head that `data` begins with, or None when it is not all there yet.

        Raises `HeadError` for one that is refused, as soon as that is certain.
        """
        match = self._match(data)
        if match is None or match.end() > self._limits.head_size:
            refuse_unless_incomplete(data, self._limits)
            return None
        method, target, minor, _ = match.groups()
        head = RequestHead(match[0], method, target, old=minor == b"0")
        if target == b"*" and method != b"OPTIONS":
            raise HeadError(400, "the target * is for OPTIONS only")
        _judge(head, match.end(3))
        if self._strips:
            head.secrets += ((*found.span(), b"") for found in _SESSION_KEY.finditer(head.raw))
        if method == b"CONNECT":
            raise HeadError(405, "CONNECT is not allowed")
        if len(head.raw) == len(data) <= KNOWN_SIZE:
            if len(self.known) >= KNOWN_HEADS:
                self.known.clear()
            self.known[data] = head
        return head


_Found = dict[bytes, list[re.Match[bytes]]]


def _judge(head: RequestHead, start: int) -> None:
    """Read the fields that matter to a hop, from `start`, and note what becomes of each."""
    found: _Found = {}
    for match in _SPECIAL.finditer(head.raw, start, len(head.raw) - 4):
        found.setdefault(match[1].lower().replace(b"_", b"-"), []).append(match)
    _judge_host(head, _values(found, b"host"))
    _judge_framing(head, found)
    if b"expect" in found:
        head.expects = _values(found, b"expect")[0].lower() == b"100-continue"
    for name in _STRUCK & found.keys():
        head.edits += ((*match.span(), b"") for match in found[name])
    for name in _FORWARDED & found.keys():
        head.forwarded[name] = _values(found, name)
        head.edits += ((*match.span(), b"") for match in found[name])
    head.secrets += ((*match.span(), b"") for match in found.get(b"x-init-api-key", ()))
    if b"connection" in found or b"upgrade" in found:
        _judge_connection(head, found.get(b"connection", []), found.get(b"upgrade", []))
    head.edits.sort()


def _values(found: _Found, name: bytes) -> list[bytes]:
    return [match[2].rstrip(_OWS) for match in found.get(name, ())]


def _judge_host(head: RequestHead, hosts: list[bytes]) -> None:
    """RFC 9112 section 3.2: exactly one, and one that is a host."""
    if len(hosts) > 1:
        raise HeadError(400, "more than one Host field")
    if hosts:
        if HOST.fullmatch(hosts[0]) is None:
            raise HeadError(400, "the Host field is not a host")
        head.host = hosts[0]
    elif not head.old:
        raise HeadError(400, "no Host field")


def _judge_framing(head: RequestHead, found: _Found) -> None:
    """RFC 9112 section 6.3, with everything doubtful refused."""
    lengths = _values(found, b"content-length")
    codings = _values(found, b"transfer-encoding")
    if codings:
        if lengths:
            raise HeadError(400, "both Transfer-Encoding and Content-Length")
        if head.old:
            raise HeadError(400, "Transfer-Encoding in HTTP/1.0")
        if len(codings) > 1:
            raise HeadError(400, "more than one Transfer-Encoding field")
        coding = codings[0].lower()
        if coding != b"chunked" or b"\t" in found[b"transfer-encoding"][0][0]:
            status = 501 if coding.endswith((b",chunked", b", chunked")) else 400
            raise HeadError(status, "the only Transfer-Encoding is chunked")
        head.length = CHUNKED
        span = found[b"transfer-encoding"][0].span()
        head.edits.append((*span, b"\r\nTransfer-Encoding: chunked"))
    elif lengths:
        if len(lengths) > 1:
            raise HeadError(400, "more than one Content-Length field")
        if DIGITS.fullmatch(lengths[0]) is None:
            raise HeadError(400, "the Content-Length is not a number")
        head.length = int(lengths[0])


def _judge_connection(
    head: RequestHead, connection: list[re.Match[bytes]], upgrades: list[re.Match[bytes]]
) -> None:
    """Decide persistence and upgrade, and strike what `Connection` names (RFC 9110 7.6.1)."""
    value = b",".join(match[2] for match in connection).lower()
    options = {option for option in (part.strip(_OWS) for part in value.split(b",")) if option}
    for option in options:
        if option in _NOT_FOR_ONE_HOP or _ONE_TOKEN.fullmatch(option) is None:
            raise HeadError(400, "the Connection field names what it must not")
    if b"close" in options:
        head.keep_alive = False
    elif head.old:
        head.keep_alive = b"keep-alive" in options
    protocols = b",".join(match[2] for match in upgrades).lower()
    head.upgrade = (
        b"upgrade" in options and bool(upgrades) and not head.old and b"h2c" not in protocols
    )
    edits = head.edits
    ours = _connection_line(head, closes=b"close" in options)
    for index, match in enumerate(connection):
        edits.append((*match.span(), b"" if index else ours))
    if not head.upgrade:
        edits += ((*match.span(), b"") for match in upgrades)
    _strike(head, options - {b"close", b"keep-alive", b"upgrade"})


def _connection_line(head: RequestHead, *, closes: bool) -> bytes:
    options = []
    if closes:
        options.append(b"close")
    elif head.old and head.keep_alive:
        options.append(b"keep-alive")
    if head.upgrade:
        options.append(b"Upgrade")
    return b"\r\nConnection: " + b", ".join(options) if options else b""


def _strike(head: RequestHead, names: set[bytes]) -> None:
    """Leave out every field called one of `names`, unless an edit has it already."""
    if not names:
        return
    edited = {start for start, _, _ in head.edits}
    keyed = {start for start, _, _ in head.secrets}
    pattern = rb"\r\n(?:" + b"|".join(map(re.escape, sorted(names))) + rb"):[^\r]*"
    for match in re.finditer(pattern, head.raw, re.IGNORECASE):
        if match.start() not in edited and match.start() not in keyed:
            head.edits.append((*match.span(), b""))


_NO_TRAILER: Final = re.compile(
    rb"(?:connection|content-length|expect|host|keep-alive|proxy-connection|te|transfer-encoding"
    rb"|upgrade|x[-_]forwarded[-_](?:for|host|proto)|x[-_]init[-_]api[-_]key):[^\r]*\r\n",
    re.IGNORECASE,
)


def forwarded_trailers(trailers: bytes) -> bytes:
    """The trailer lines of a request without those that a merge with its head would abuse."""
    if not trailers:
        return trailers
    lines = trailers.splitlines(keepends=True)
    return b"".join(line for line in lines if _NO_TRAILER.match(line) is None)
