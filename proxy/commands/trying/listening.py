"""Where processes listen for TCP connections; read from `/proc` (Linux, proc_net(5))."""

from __future__ import annotations

import ipaddress
import re
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_LISTEN: Final = "0A"  # <net/tcp_states.h>
_SOCKET: Final = re.compile(r"socket:\[(\d+)\]")


class Listener(NamedTuple):
    """An address, and how many of the processes accept connections at it."""

    host: str
    port: int
    processes: int

    @property
    def exposed(self) -> bool:
        """Whether others than this machine can connect."""
        address = ipaddress.ip_address(self.host)
        return not (getattr(address, "ipv4_mapped", None) or address).is_loopback

    @property
    def url(self) -> str:
        address = ipaddress.ip_address(self.host)
        if address.version == 4 or address.is_unspecified:
            return f"http://{'127.0.0.1' if address.is_unspecified else self.host}:{self.port}"
        return f"http://[{self.host}]:{self.port}"


def listeners(pids: Iterable[int]) -> list[Listener]:
    """Those of `pids`, in the order of their ports."""
    held: dict[int, int] = {}  # inode -> processes
    for pid in pids:
        for inode in set(_sockets(pid)):
            held[inode] = held.get(inode, 0) + 1
    found: dict[tuple[str, int], int] = {}
    for inode, host, port in _table():
        if inode in held:  # each worker may have one of its own (SO_REUSEPORT)
            found[host, port] = found.get((host, port), 0) + held[inode]
    ordered = sorted(found.items(), key=lambda item: (item[0][1], item[0][0]))
    return [Listener(host, port, count) for (host, port), count in ordered]


def _sockets(pid: int) -> Iterator[int]:
    try:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            if match := _SOCKET.fullmatch(str(entry.readlink())):
                yield int(match[1])
    except OSError:
        return  # it, or one of its files, has gone meanwhile


def _table() -> Iterator[tuple[int, str, int]]:
    for name in ("tcp", "tcp6"):
        try:
            lines = Path(f"/proc/net/{name}").read_text().splitlines()[1:]
        except OSError:  # a machine without that version of IP
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == _LISTEN:
                address, _, port = fields[1].partition(":")
                yield int(fields[9]), _host(address), int(port, 16)


def _host(text: str) -> str:
    """Words of 32 bits, each in the machine's own order."""
    words = [int(text[at : at + 8], 16) for at in range(0, len(text), 8)]
    return str(ipaddress.ip_address(struct.pack(f"={len(words)}I", *words)))
