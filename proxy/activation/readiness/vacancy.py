"""Nobody else may answer in the upstream's place.

A server that listens at the upstream's address before the upstream was started is a stranger's: a
leftover with another user's keys, or a neighbour in the pod. It would pass the readiness probe, and
the user's requests would go to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import TYPE_CHECKING, Final

from proxy.errors import ActivationError
from proxy.settings import TcpAddress

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from proxy.settings import ServerUrl

# Seconds. On loopback a connection is made or refused at once; what is silent serves nobody.
_LIMIT: Final = 1.0
# Seconds for whoever is ended to be gone, and until the first look; then doubling, since each look
# takes a place in the queue of a stranger's who may not be accepting.
_VACATE_LIMIT: Final = 5.0
_VACATE_POLL: Final = 0.02


async def ensure_vacant(url: ServerUrl) -> None:
    """Raise `ActivationError` when somebody accepts connections at the upstream's address."""
    address = url.address
    try:
        async with asyncio.timeout(_LIMIT):
            _, writer = await (
                asyncio.open_connection(address.host, address.port)
                if isinstance(address, TcpAddress)
                else asyncio.open_unix_connection(address.path)
            )
    except (OSError, TimeoutError):
        return
    owner = _owner(writer.get_extra_info("socket"))
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    raise ActivationError(
        f"cannot start the upstream: its address is taken, {owner} listens at {url}"
    )


async def vacate(url: ServerUrl, end: Callable[[], Awaitable[None]]) -> None:
    """End what is known to be at the address by `end()`, until nobody is there.

    Raises `ActivationError` when somebody stays.
    """
    deadline = asyncio.get_running_loop().time() + _VACATE_LIMIT
    pause = _VACATE_POLL
    while True:
        await end()
        try:
            await ensure_vacant(url)
        except ActivationError:
            if asyncio.get_running_loop().time() > deadline:
                raise
            await asyncio.sleep(pause)
            pause *= 2
        else:
            return


def _owner(sock: socket.socket) -> str:
    """Who listens at the other end, as far as the kernel tells (unix(7), SO_PEERCRED)."""
    if sock.family != socket.AF_UNIX:
        return "another process"
    credentials = struct.Struct("3i")
    packed = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, credentials.size)
    return f"process {credentials.unpack(packed)[0]}"
