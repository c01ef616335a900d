"""The fields of a request that belong to one hop: what they say to us, and what of them goes on.

Decided here and nowhere else; every other field goes on as it came.

| field | the next hop gets |
|---|---|
| `Connection` | `close`, `keep-alive` (HTTP/1.0) and `Upgrade` as far as they hold for this pair |
| fields named in `Connection`, `Keep-Alive`, `Proxy-Connection`, `TE` | nothing |
| `Transfer-Encoding` | `chunked`, spelled exactly so |
| `Content-Length` | itself, or without very many zeros |
| `Upgrade` | itself, on an HTTP/1.1 request whose `Connection` names it; never `h2c` |
| `Max-Forwards` of TRACE and OPTIONS | one less; with 0 the request ends here |
| `X-Forwarded-For/-Proto/-Host` | what `Forwarding` says |
| `Forwarded`, `X-Real-IP`, every other `X-Forwarded-…` | nothing, unless the peer is trusted |
| `X-Init-API-Key` | nothing (the control plane gets it) |
| `X-Session-API-Key` | itself, or nothing where it is to be stripped |
| `X-Request-ID` | itself if it is one and acceptable, else one that is made here |

`h2c` would open a tunnel in which further requests pass unseen, so it is left out; RFC 9110
section 7.8 lets a server ignore any upgrade.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from proxy.relay.http.faults import HeadError
from proxy.relay.http.grammar import HOST, REQUEST_ID, TOKEN, number

if TYPE_CHECKING:
    from proxy.relay.http.head import RequestHead

CHUNKED: Final = -1  # `RequestHead.length` of a body whose length its chunks tell

# `_` counts as `-` in the names that we set: CGI-like servers cannot tell the two apart.
_SPECIAL: Final = re.compile(
    rb"\r\n(connection|content-length|expect|host|keep-alive|max-forwards|proxy-connection"
    rb"|te|transfer-encoding|upgrade|forwarded|x[-_]real[-_]ip|x[-_]forwarded[-_][^:\r]++"
    rb"|x[-_]init[-_]api[-_]key|x[-_]request[-_]id):[\t ]*([^\r]*)",
    re.IGNORECASE,
)
_ANY: Final = re.compile(rb"\r\n([^:\r]++):[^\r]*+")
_OWS: Final = b"\t "
_ONE_TOKEN: Final = re.compile(TOKEN + rb"+")
_STRUCK: Final = frozenset({b"keep-alive", b"proxy-connection", b"te"})
_COUNTED: Final = frozenset({b"OPTIONS", b"TRACE"})
_FORWARDED: Final = frozenset({b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto"})
_CLAIMS: Final = frozenset({b"forwarded", b"x-real-ip"})
_CLAIM: Final = b"x-forwarded-"
_NOT_FOR_ONE_HOP: Final = frozenset({b"host", b"content-length", b"transfer-encoding"})


_Found = dict[bytes, list[re.Match[bytes]]]


def judge(head: RequestHead, start: int) -> None:
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
    if b"max-forwards" in found and head.method in _COUNTED:
        _count_down(head, found[b"max-forwards"])
    for name in _FORWARDED & found.keys():
        head.forwarded[name] = _values(found, name)
        head.edits += ((*match.span(), b"") for match in found[name])
    for name in found:
        if name in _CLAIMS or (name.startswith(_CLAIM) and name not in _FORWARDED):
            head.claims += ((*match.span(), b"") for match in found[name])
    head.secrets += ((*match.span(), b"") for match in found.get(b"x-init-api-key", ()))
    if b"connection" in found or b"upgrade" in found:
        _judge_connection(head, found.get(b"connection", []), found.get(b"upgrade", []))
    if b"x-request-id" in found:
        _judge_request_id(head, found[b"x-request-id"])
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
        # Empty elements of a list do not count (RFC 9110 section 5.6.1.2).
        named = [coding.strip(_OWS) for coding in codings[0].lower().split(b",")]
        named = [coding for coding in named if coding]
        if named != [b"chunked"]:
            known = len(named) > 1 and named[-1] == b"chunked"
            raise HeadError(501 if known else 400, "the only Transfer-Encoding is chunked")
        head.length = CHUNKED
        span = found[b"transfer-encoding"][0].span()
        head.edits.append((*span, b"\r\nTransfer-Encoding: chunked"))
    elif lengths:
        if len(lengths) > 1:
            raise HeadError(400, "more than one Content-Length field")
        length = number(lengths[0])
        if length is None:
            raise HeadError(400, "the Content-Length is not a number")
        head.length = length
        if len(lengths[0]) > 18:  # zeros that nobody has to have room for
            span = found[b"content-length"][0].span()
            head.edits.append((*span, b"\r\nContent-Length: %d" % head.length))


def _count_down(head: RequestHead, found: list[re.Match[bytes]]) -> None:
    """RFC 9110 section 7.6.2."""
    left = number(found[0][2].rstrip(_OWS))
    if len(found) > 1 or left is None:
        raise HeadError(400, "the Max-Forwards field is not a number")
    if not left:
        raise HeadError(405, f"{head.method.decode()} is not served by the proxy itself")
    head.edits.append((*found[0].span(), b"\r\nMax-Forwards: %d" % (left - 1)))


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
    # One pattern for every head: one made of its names would be kept by `re` after it.
    for match in _ANY.finditer(head.raw):
        struck = match[1].lower() in names
        if struck and match.start() not in edited and match.start() not in keyed:
            head.edits.append((*match.span(), b""))


def _judge_request_id(head: RequestHead, ids: list[re.Match[bytes]]) -> None:
    edited = {start for start, _, _ in head.edits}  # named in `Connection`
    spelled, value = ids[0][1].lower(), ids[0][2].rstrip(_OWS)
    alone = len(ids) == 1 and ids[0].start() not in edited and spelled == b"x-request-id"
    if alone and REQUEST_ID.fullmatch(value):
        head.request_id = value
    else:
        head.edits += ((*match.span(), b"") for match in ids if match.start() not in edited)


_NO_TRAILER: Final = re.compile(
    rb"(?:connection|content-length|expect|host|keep-alive|proxy-connection|te|transfer-encoding"
    rb"|upgrade|forwarded|x[-_]real[-_]ip|x[-_]forwarded[-_][^:\r]++|x[-_]init[-_]api[-_]key"
    rb"|x[-_]request[-_]id):[^\r]*\r\n",
    re.IGNORECASE,
)


def forwarded_trailers(trailers: bytes) -> bytes:
    """The trailer lines of a request without those that a merge with its head would abuse."""
    if not trailers:
        return trailers
    lines = trailers.splitlines(keepends=True)
    return b"".join(line for line in lines if _NO_TRAILER.match(line) is None)
