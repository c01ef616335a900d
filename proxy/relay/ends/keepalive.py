"""Peers whose machine or network has gone without a word: the kernel asks whether they are there.

An accepted connection inherits this of its listener, so it costs none of them a system call.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proxy.relay.http.limits import Keepalive


def keep_alive(sock: socket.socket, wanted: Keepalive) -> None:
    """Have the connections of a TCP socket end when nothing comes of the peer's machine."""
    patience = wanted.idle + wanted.interval * wanted.count
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, wanted.idle)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, wanted.interval)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, wanted.count)
    # While there are bytes to be acknowledged no probes are sent: by itself the kernel would send
    # those again for a quarter of an hour (tcp(7), tcp_retries2).
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, patience * 1000)
