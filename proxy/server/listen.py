"""Listening sockets: TCP of either family or both, or a Unix socket that follows a dead one.

`[::]` is every address of the machine, IPv4 alone where the machine knows no other: a cluster may
probe by one family and route by the other. `localhost` is both loopbacks, as far as there are two.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import grp
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Final

from proxy.errors import ProxyError, cause_of
from proxy.relay.ends.keepalive import keep_alive
from proxy.settings import TcpAddress, UnixAddress

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.settings import KeepaliveSettings, UnixSettings

# Connections that may wait to be accepted: a burst of watchers and probes, not a queue.
_BACKLOG: Final = 1024
# Ports of the kernel's choice that are tried until one is free in every family.
_TRIES: Final = 8
# What a machine says of a family that it does not have.
_NO_FAMILY: Final = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL})


class Listener:
    """Where clients connect; a socket file goes with it, if it still is the one that was made."""

    def __init__(
        self,
        address: TcpAddress | UnixAddress,
        unix: UnixSettings,
        keepalive: KeepaliveSettings | None = None,
    ) -> None:
        self._address = address
        self._unix = unix
        self._keepalive = keepalive
        self._socks: list[socket.socket] = []
        self._servers: list[asyncio.Server] = []
        self._file: tuple[int, int] | None = None

    def bind(self) -> str:
        """Have connections queued; returns where. Raises `ProxyError` naming the address."""
        address = self._address
        try:
            if isinstance(address, UnixAddress):
                self._socks = [_unix(address.path, self._unix)]
                self._file = identity(address.path)
                return str(address)
            self._socks = _tcp(address)
            if self._keepalive is not None:
                for sock in self._socks:
                    keep_alive(sock, self._keepalive)
        except OSError as error:
            raise ProxyError(f"cannot listen on {address}: {cause_of(error)}") from error
        host, port = self._socks[0].getsockname()[:2]
        return str(TcpAddress(host if len(self._socks) == 1 else address.host, port))

    async def serve(self, connections: Callable[[], asyncio.Protocol]) -> None:
        """Take those that are queued, and whoever comes."""
        loop = asyncio.get_running_loop()
        unix = isinstance(self._address, UnixAddress)
        for sock in self._socks:
            create = loop.create_unix_server if unix else loop.create_server
            # The loop listens once more, by itself with a queue for 100.
            self._servers.append(await create(connections, sock=sock, backlog=_BACKLOG))

    def close(self) -> None:
        """Take no more connections; those that are open stay. May be repeated."""
        file, self._file = self._file, None
        # Another proxy's, or a file that kept us from listening, is not ours to remove.
        if isinstance(self._address, UnixAddress) and file is not None:
            path = self._address.path
            if identity(path) == file:
                Path(path).unlink()
        for server in self._servers:
            server.close()


def identity(path: str) -> tuple[int, int] | None:
    """What tells one file at `path` from another that takes its place; None when there is none."""
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _tcp(address: TcpAddress) -> list[socket.socket]:
    tries = _TRIES if address.port == 0 else 1
    while True:
        tries -= 1
        try:
            return _bind_all(_places(address.host), address.port)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or not tries:
                raise


def _places(host: str) -> list[str]:
    """The addresses of a host."""
    if host == "::":
        return [host if _knows_ipv6() else "0.0.0.0"]  # noqa: S104  what was asked for
    if host.lower() == "localhost":
        return ["127.0.0.1", "::1"]  # whatever a look-up knows of it (RFC 6761 section 6.3)
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys(str(each[4][0]) for each in found))


def _knows_ipv6() -> bool:
    try:
        socket.socket(socket.AF_INET6).close()
    except OSError:
        return False
    return True


def _bind_all(hosts: list[str], port: int) -> list[socket.socket]:
    """One for each of `hosts` that the machine has, all on one port."""
    socks: list[socket.socket] = []
    with contextlib.ExitStack() as stack:
        lacking: OSError | None = None
        for host in hosts:
            try:
                sock = _bound(host, port)
            except OSError as error:
                if error.errno not in _NO_FAMILY:
                    raise
                lacking = error
            else:
                socks.append(stack.enter_context(sock))
                port = sock.getsockname()[1]
        if lacking is not None and not socks:
            raise lacking
        stack.pop_all()
    return socks


def _bound(host: str, port: int) -> socket.socket:
    six = ":" in host
    return socket.create_server(
        (host, port),
        family=socket.AF_INET6 if six else socket.AF_INET,
        backlog=_BACKLOG,
        dualstack_ipv6=host == "::" and socket.has_dualstack_ipv6(),
    )


def _unix(path: str, unix: UnixSettings) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    try:
        _bind(sock, path, unix.mode)
        # Before anybody can connect.
        if unix.group is not None:
            os.chown(path, -1, _group(unix.group), follow_symlinks=False)
        sock.listen(_BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _bind(sock: socket.socket, path: str, mode: int | None) -> None:
    before = os.umask(0o777 & ~mode) if mode is not None else None
    try:
        sock.bind(path)
    except OSError as error:
        if error.errno != errno.EADDRINUSE or _answers(path):
            raise
        # Left behind by a predecessor that was killed: nobody listens there.
        Path(path).unlink()
        sock.bind(path)
    finally:
        if before is not None:
            os.umask(before)


def _group(group: str | int) -> int:
    try:
        return group if isinstance(group, int) else grp.getgrnam(group).gr_gid
    except KeyError:
        raise ProxyError(f"cannot listen: listen.unix.group: there is no group {group!r}") from None


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
