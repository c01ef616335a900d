"""Who may use an upstream that has no authentication of its own: whoever has a session key.

Pure. A key is taken where the clients of agent servers put it, and nowhere else:

| place | for |
|---|---|
| header `X-Session-API-Key` | programs |
| query parameter `session_api_key` | WebSocket handshakes: browsers can give them no header |
| cookie `oh_workspace_session_key` | what a page loads by itself; not for just any page |

More than one in the same place is none: which one counts would be open.

A browser that is to send such a header to another origin asks for permission first, by a request
that cannot carry it (the CORS preflight): that one passes without, or no page of another origin
could ever use a key. What the upstream answers to it is the upstream's business.

A cookie goes along with whatever any page makes the browser send, so who made it counts. The
browser says so in `Sec-Fetch-Site`; where it does not (plain HTTP, old ones), its `Origin` must
be the `Host`. Without either it is no browser. A page of a sibling name, another pod's in the same
domain, is the same site and another origin: its handshakes are refused as its POSTs are, since
what a WebSocket may change is open.
"""

from __future__ import annotations

import hmac
import re
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_to_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from proxy.relay.http.head import RequestHead

_PARAMETER: Final = b"session_api_key"
_COOKIE: Final = b"oh_workspace_session_key"
_FIELD: Final = re.compile(
    rb"\r\n(x-session-api-key|cookie|origin|sec-fetch-site):([^\r]*)", re.IGNORECASE
)
_OWS: Final = b"\t "
_SAFE: Final = frozenset({b"GET", b"HEAD", b"OPTIONS"})  # RFC 9110 section 9.2.1


class SessionKeys:
    """The keys that were delivered; without any nobody is admitted."""

    __slots__ = ("_keys",)

    def __init__(self, keys: Iterable[str] = ()) -> None:
        self._keys = tuple(key.encode(errors="surrogatepass") for key in keys)

    def admits(self, head: RequestHead) -> bool:
        """Whether `head` carries one of the keys, or is a preflight, which cannot.

        The time it takes tells nothing about the keys.
        """
        found = is_preflight(head)
        for candidate in _candidates(head):
            for key in self._keys:
                found |= hmac.compare_digest(candidate, key)
        return found

    def __repr__(self) -> str:
        return f"<SessionKeys {len(self._keys)}>"


def is_preflight(head: RequestHead) -> bool:
    """A CORS preflight of the Fetch standard: OPTIONS with both fields, and nothing but a head."""
    return (
        head.method == b"OPTIONS"
        and head.length == 0
        and not head.upgrade
        and head.field(b"origin") is not None
        and head.field(b"access-control-request-method") is not None
    )


def _candidates(head: RequestHead) -> Iterator[bytes]:
    fields: dict[bytes, list[bytes]] = {}
    for name, value in _FIELD.findall(head.raw):
        fields.setdefault(name.lower(), []).append(value.strip(_OWS))
    yield from _only(fields.get(b"x-session-api-key", []))
    if head.upgrade:
        yield from _only(list(_parameters(head.target)))
    if _from_own_page(head, fields):
        yield from _only(list(_cookies(fields.get(b"cookie", []))))


def _from_own_page(head: RequestHead, fields: dict[bytes, list[bytes]]) -> bool:
    sites = fields.get(b"sec-fetch-site", [])
    if head.method in _SAFE and not head.upgrade:
        return b"cross-site" not in sites
    if sites:
        return set(sites) == {b"same-origin"}
    host = (head.host or b"").lower()
    return all(origin.lower().partition(b"://")[2] == host for origin in fields.get(b"origin", []))


def _only(values: list[bytes]) -> list[bytes]:
    return values if len(values) == 1 else []


def _parameters(target: bytes) -> Iterator[bytes]:
    for part in target.partition(b"?")[2].split(b"&"):
        name, _, value = part.replace(b"+", b" ").partition(b"=")
        if unquote_to_bytes(name) == _PARAMETER:
            yield unquote_to_bytes(value)


def _cookies(lines: Iterable[bytes]) -> Iterator[bytes]:
    for line in lines:
        for pair in line.split(b";"):
            name, _, value = pair.strip(_OWS).partition(b"=")
            if name == _COOKIE:
                quoted = len(value) > 1 and value[:1] == value[-1:] == b'"'
                yield value[1:-1] if quoted else value
