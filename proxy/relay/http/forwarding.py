"""`X-Forwarded-*`, and `Forwarded` where it is wanted: who is asking, told to the next hop.

A peer that is not trusted is the client: what it says of itself is replaced. A trusted one is a
proxy in front of us: its own address goes to the end of the list that it sent, and the scheme
and host that the client used are what it says, if it says so.

`Forwarded` (RFC 7239) is a list, so what a trusted proxy has said in it stays, and ours is added.

A Unix socket has no address, so it adds none; whether what its peer says is kept is `trust_unix`.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

Told = dict[bytes, list[bytes]]  # name (lower case) -> values
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_REMEMBERED: Final = 4096  # peers whose address was parsed once; then all are forgotten

_FOR: Final = b"x-forwarded-for"
_HOST: Final = b"x-forwarded-host"
_PROTO: Final = b"x-forwarded-proto"


class Forwarding:
    """The lines for requests of one peer; `address` is empty for a Unix socket."""

    __slots__ = ("_element", "_prefix", "address", "trusted")

    def __init__(self, address: bytes, *, trusted: bool, forwarded: bool = False) -> None:
        self.trusted = trusted
        self.address = address
        self._prefix = b"\r\nX-Forwarded-For: " + address if address else b""
        self._prefix += b"\r\nX-Forwarded-Proto: http"
        node = b'"[%b]"' % address if b":" in address else address or b"unknown"
        self._element = b"\r\nForwarded: for=%b;proto=http" % node if forwarded else b""

    def lines(self, told: Told, host: bytes | None) -> bytes:
        """Header lines, each with its leading CRLF; what a request told, and its `Host`."""
        if self.trusted and told:
            lines = self._extended(told, host)
        elif host is None:
            lines = self._prefix
        else:
            lines = self._prefix + b"\r\nX-Forwarded-Host: " + host
        if not self._element:
            return lines
        return lines + self._element + (b';host="%b"' % host if host else b"")

    def _extended(self, told: Told, host: bytes | None) -> bytes:
        addresses = [*told.get(_FOR, ()), self.address]
        lines = b""
        if any(addresses):
            lines += b"\r\nX-Forwarded-For: " + b", ".join(filter(None, addresses))
        lines += b"\r\nX-Forwarded-Proto: " + told.get(_PROTO, [b"http"])[0]
        asked = told.get(_HOST, [host])[0]
        return lines if asked is None else lines + b"\r\nX-Forwarded-Host: " + asked


class Peers:
    """Knows which peers are trusted, and whether `Forwarded` is written."""

    def __init__(
        self, trusted: Iterable[Network], *, trust_unix: bool, forwarded: bool = False
    ) -> None:
        self._unix = Forwarding(b"", trusted=trust_unix, forwarded=forwarded)
        self._forwarded = forwarded
        self._networks = tuple(trusted)
        self._known: dict[str, Forwarding] = {}

    def forwarding(self, peername: Any) -> Forwarding:
        """`peername` is what the transport says: (address, port, …), or a path for Unix."""
        if not isinstance(peername, tuple):
            return self._unix
        host = peername[0]
        known = self._known.get(host)
        if known is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            known = self._known[host] = self._judge(host)
        return known

    def _judge(self, host: str) -> Forwarding:
        address = ipaddress.ip_address(host.partition("%")[0])
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        trusted = any(address in network for network in self._networks)
        told = str(address).encode()
        return Forwarding(told, trusted=trusted, forwarded=self._forwarded)
