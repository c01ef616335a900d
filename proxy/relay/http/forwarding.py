"""`X-Forwarded-*`: who is asking, told to the next hop.

A peer that is not trusted is the client: what it says of itself is replaced. A trusted one is a
proxy in front of us: its own address goes to the end of the list that it sent, and the scheme
and host that the client used are what it says, if it says so.

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

    __slots__ = ("_prefix", "address", "trusted")

    def __init__(self, address: bytes, *, trusted: bool) -> None:
        self.trusted = trusted
        self.address = address
        self._prefix = b"\r\nX-Forwarded-For: " + address if address else b""
        self._prefix += b"\r\nX-Forwarded-Proto: http"

    def lines(self, told: Told, host: bytes | None) -> bytes:
        """Header lines, each with its leading CRLF; what a request told, and its `Host`."""
        if self.trusted and told:
            return self._extended(told, host)
        if host is None:
            return self._prefix
        return self._prefix + b"\r\nX-Forwarded-Host: " + host

    def _extended(self, told: Told, host: bytes | None) -> bytes:
        addresses = [*told.get(_FOR, ()), self.address]
        lines = b""
        if any(addresses):
            lines += b"\r\nX-Forwarded-For: " + b", ".join(filter(None, addresses))
        lines += b"\r\nX-Forwarded-Proto: " + told.get(_PROTO, [b"http"])[0]
        asked = told.get(_HOST, [host])[0]
        return lines if asked is None else lines + b"\r\nX-Forwarded-Host: " + asked


class Peers:
    """Knows which peers are trusted."""

    def __init__(self, trusted: Iterable[Network], *, trust_unix: bool) -> None:
        self._unix = Forwarding(b"", trusted=trust_unix)
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
        return Forwarding(str(address).encode(), trusted=trusted)
