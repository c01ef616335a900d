"""Who may use an upstream that has no authentication of its own: whoever has a session key.

Pure. A key is taken where the clients of agent servers put it, and nowhere else:

| place | for |
|---|---|
| headers `X-Session-API-Key`, `X-API-Key`, `Authorization: Bearer` | programs |
| `Authorization: Basic`, as password, or as user without one | `curl -u`; not for just any page |
| query parameter `session_api_key` | WebSocket handshakes: browsers can give them no header |
| a query parameter of the deployment's choice | clients that know no other place |
| cookie `oh_workspace_session_key` | what a page loads by itself; not for just any page |

More than one in the same place is none: which one counts would be open.

A browser that is to send such a header to another origin asks for permission first, by a request
that cannot carry it (the CORS preflight): that one passes without, or no page of another origin
could ever use a key. What the upstream answers to it is the upstream's business.

A cookie, as a password that the browser remembers, goes along with whatever any page makes it send,
so who made it counts. The browser says so in `Sec-Fetch-Site`; where it does not (plain HTTP, old
ones), its `Origin` must be the `Host`. Without either it is no browser. A page of a sibling name,
another pod's in the same domain, is the same site and another origin: its handshakes are refused as
its POSTs are, since what a WebSocket may change is open.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_to_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from proxy.relay.http.head import RequestHead

PARAMETER: Final = "session_api_key"
COOKIE: Final = "oh_workspace_session_key"
_PARAMETER: Final = PARAMETER.encode()
_COOKIE_NAME: Final = COOKIE.encode()
_FIELD: Final = re.compile(
    rb"\r\n(x-session-api-key|x-api-key|authorization|cookie|origin|sec-fetch-site):([^\r]*)",
    re.IGNORECASE,
)
_OWS: Final = b"\t "
_SAFE: Final = frozenset({b"GET", b"HEAD", b"OPTIONS"})  # RFC 9110 section 9.2.1


class SessionKeys:
    """The keys that were delivered; without any nobody is admitted.

    `parameter` is one more query parameter that may have a key. With `strips`, the upstream does
    not see the headers in which one came.
    """

    __slots__ = ("_keys", "_parameter", "_strips")

    def __init__(
        self, keys: Iterable[str] = (), *, parameter: str | None = None, strips: bool = False
    ) -> None:
        self._keys = tuple(key.encode(errors="surrogatepass") for key in keys)
        self._parameter = parameter.encode() if parameter is not None else None
        self._strips = strips

    def admits(self, head: RequestHead) -> bool:
        """Whether `head` carries one of the keys, or is a preflight, which cannot.

        The time it takes tells nothing about the keys.
        """
        found = is_preflight(head)
        for candidate, span in _candidates(head, self._parameter):
            for key in self._keys:
                same = hmac.compare_digest(candidate, key)
                found |= same
                if same and self._strips and span is not None:
                    _strip(head, span)
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


def _strip(head: RequestHead, span: tuple[int, int]) -> None:
    edit = (*span, b"")
    if edit not in head.secrets:  # it may be a head that was read before
        head.secrets.append(edit)


def _candidates(
    head: RequestHead, parameter: bytes | None
) -> Iterator[tuple[bytes, tuple[int, int] | None]]:
    """What may be a key, and from where to where in the head the field is that has it alone."""
    fields: dict[bytes, list[bytes]] = {}
    spans: dict[bytes, tuple[int, int]] = {}
    for match in _FIELD.finditer(head.raw):
        name = match[1].lower()
        fields.setdefault(name, []).append(match[2].strip(_OWS))
        spans[name] = match.span()
    own_page = _from_own_page(head, fields)
    for name in (b"x-session-api-key", b"x-api-key"):
        for value in _only(fields.get(name, [])):
            yield value, spans[name]
    for value in _only(fields.get(b"authorization", [])):
        for candidate in _authorized(value, own_page=own_page):
            yield candidate, spans[b"authorization"]
    asked = [name for name in (_PARAMETER if head.upgrade else None, parameter) if name]
    for name in dict.fromkeys(asked):
        yield from ((value, None) for value in _only(list(_parameters(head.target, name))))
    if own_page:
        yield from ((value, None) for value in _only(list(_cookies(fields.get(b"cookie", [])))))


def _authorized(value: bytes, *, own_page: bool) -> Iterator[bytes]:
    """RFC 6750 section 2.1, RFC 7617."""
    scheme, _, rest = value.partition(b" ")
    credentials = rest.strip(_OWS)
    if scheme.lower() == b"bearer":
        yield credentials
    elif scheme.lower() == b"basic" and own_page:
        try:
            user, _, password = base64.b64decode(credentials, validate=True).partition(b":")
        except binascii.Error:
            return
        yield password or user


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


def _parameters(target: bytes, wanted: bytes) -> Iterator[bytes]:
    for part in target.partition(b"?")[2].split(b"&"):
        name, _, value = part.replace(b"+", b" ").partition(b"=")
        if unquote_to_bytes(name) == wanted:
            yield unquote_to_bytes(value)


def _cookies(lines: Iterable[bytes]) -> Iterator[bytes]:
    for line in lines:
        for pair in line.split(b";"):
            name, _, value = pair.strip(_OWS).partition(b"=")
            if name == _COOKIE_NAME:
                quoted = len(value) > 1 and value[:1] == value[-1:] == b'"'
                yield value[1:-1] if quoted else value
