"""Sees at once when an upstream that has been starting begins to listen.

A connection that is refused costs a tenth of a request by an HTTP client, so it can be tried more
often, and what that saves is time in which a user waits. The one that is accepted carries the
request: the upstream sees no connection that it would not have seen otherwise.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import socket
import struct
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import aiohttp

if TYPE_CHECKING:
    from aiohttp.client_proto import ResponseHandler


class Door:
    """Where connections are accepted: a Unix socket, or the address in an URL."""

    def __init__(self, base: str, socket_path: str | None) -> None:
        self._base = base
        self._socket_path = socket_path

    async def connector(self) -> aiohttp.BaseConnector:
        """For one request. Raises `OSError` when nobody listens.

        Every attempt has a connection of its own: one that was accepted into a backlog by a process
        that died since must not be waited on, and the relay's connections are never shared.
        """
        address = _address(self._base, self._socket_path)
        if address is None:  # a name: its look-up is left to the client
            return aiohttp.TCPConnector(force_close=True)
        return Through(await _connected(*address))

    async def knock(self) -> None:
        """Connect, and hang up. Raises `OSError` when nobody listens."""
        address = _address(self._base, self._socket_path)
        if address is None:
            url = urlsplit(self._base)
            _, writer = await asyncio.open_connection(url.hostname, url.port or 80)
            writer.close()
        else:
            (await _connected(*address)).close()


class Through(aiohttp.BaseConnector):
    """Hands out the one connection that it is given."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(force_close=True)
        self._sock = sock

    async def _create_connection(self, *_args: Any, **_options: Any) -> ResponseHandler:
        loop = asyncio.get_running_loop()
        connect: Any = loop.create_connection
        if self._sock.family == socket.AF_UNIX:
            connect = loop.create_unix_connection
        _, protocol = await connect(self._factory, sock=self._sock)
        return cast("ResponseHandler", protocol)


async def _connected(family: int, address: Any) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, address)
        if met_itself(sock):
            refused = errno.ECONNREFUSED
            raise ConnectionRefusedError(refused, os.strerror(refused))  # noqa: TRY301  as the kernel would
    except BaseException:
        sock.close()
        raise
    return sock


def met_itself(sock: socket.socket) -> bool:
    """Whether a connection is its own other end; then it is closed, and without a trace.

    The kernel gives a connection some port of `ip_local_port_range`, sooner or later the one that
    it goes to, and where nobody listens the two ends of one socket meet (RFC 9293 section 3.5,
    simultaneous open). Closed in the usual way it would keep the port from the upstream.
    """
    if sock.family == socket.AF_UNIX or sock.getsockname() != sock.getpeername():
        return False
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
    return True


def _address(base: str, socket_path: str | None) -> tuple[int, Any] | None:
    """Family and address to connect to; None where a name would have to be looked up first."""
    if socket_path is not None:
        return socket.AF_UNIX, socket_path
    url = urlsplit(base)
    try:
        version = ipaddress.ip_address(url.hostname or "").version
    except ValueError:
        return None
    return (socket.AF_INET if version == 4 else socket.AF_INET6), (url.hostname, url.port or 80)
