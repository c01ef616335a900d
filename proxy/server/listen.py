"""The listening socket: TCP of either family, or a Unix socket that takes over from a dead one."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Final

from proxy.errors import ProxyError, cause_of
from proxy.settings import UnixAddress

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.settings import TcpAddress

# Connections that may wait to be accepted: a burst of watchers and probes, not a queue.
BACKLOG: Final = 1024


class Listener:
    """Where clients connect; a socket file goes with it, if it still is the one that was made."""

    def __init__(self, address: TcpAddress | UnixAddress) -> None:
        self._address = address
        self._server: asyncio.Server | None = None
        self._file: tuple[int, int] | None = None

    async def open(self, connections: Callable[[], asyncio.Protocol]) -> str:
        """Take connections; returns where. Raises `ProxyError` naming the address."""
        loop = asyncio.get_running_loop()
        sock = open_listener(self._address)
        if isinstance(self._address, UnixAddress):
            self._file = identity(self._address.path)
        create = loop.create_unix_server if sock.family == socket.AF_UNIX else loop.create_server
        # The loop listens once more, by itself with a queue for 100.
        self._server = await create(connections, sock=sock, backlog=BACKLOG)
        return bound_address(sock)

    def close(self) -> None:
        """Take no more connections; those that are open stay. May be repeated."""
        file, self._file = self._file, None
        # Another proxy's, or a file that kept us from listening, is not ours to remove.
        if isinstance(self._address, UnixAddress) and file is not None:
            path = self._address.path
            if identity(path) == file:
                Path(path).unlink()
        if self._server is not None:
            self._server.close()


def open_listener(address: TcpAddress | UnixAddress) -> socket.socket:
    """Bind and listen. Raises `ProxyError` naming the address."""
    try:
        if isinstance(address, UnixAddress):
            return _unix(address.path)
        return _tcp(address)
    except OSError as error:
        raise ProxyError(f"cannot listen on {address}: {cause_of(error)}") from error


def bound_address(sock: socket.socket) -> str:
    """Where clients reach it, with the port that the kernel chose."""
    if sock.family == socket.AF_UNIX:
        return f"unix:{sock.getsockname()}"
    host, port = sock.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def identity(path: str) -> tuple[int, int] | None:
    """What tells one file at `path` from another that takes its place; None when there is none."""
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _tcp(address: TcpAddress) -> socket.socket:
    family, _, _, _, place = socket.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    # [::] means every address of the pod: a cluster may probe by IPv4 and route by IPv6.
    both = address.host == "::" and socket.has_dualstack_ipv6()
    return socket.create_server(
        place[:2],
        family=family,
        backlog=BACKLOG,
        dualstack_ipv6=both,
    )


def _unix(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    try:
        try:
            sock.bind(path)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or _answers(path):
                raise
            # Left behind by a predecessor that was killed: nobody listens there.
            Path(path).unlink()
            sock.bind(path)
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _answers(path: str) -> bool:
    if not Path(path).is_socket():
        return True  # a file of somebody's: not ours to remove
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)  # one with a full queue lives, and would keep us waiting
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return False
        except BlockingIOError:
            return True
    return True
