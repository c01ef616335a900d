"""Where the relay hands over a connection: to it the control plane is one more backend."""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING

from aiohttp import web

from proxy.control.handler import Handler
from proxy.errors import ProxyError

if TYPE_CHECKING:
    import socket


class Inlet:
    """Runs an application that listens nowhere; the other parameters are `Handler`'s.

    `grace` is how many seconds handlers have to end when it is closed.
    """

    def __init__(
        self,
        application: web.Application,
        *,
        head_size: int,
        header_count: int,
        idle: float,
        grace: float,
    ) -> None:
        self._handler = functools.partial(
            Handler, head_size=head_size, header_count=header_count, idle=idle
        )
        self._runner = web.AppRunner(
            application,
            # A watcher that hangs up is forgotten. (An activation does not hang on its poster.)
            handler_cancellation=True,
            shutdown_timeout=grace,
        )

    async def open(self) -> None:
        await self._runner.setup()

    async def close(self) -> None:
        await self._runner.cleanup()

    async def connect(self, sock: socket.socket) -> None:
        """Serve one end of a connected pair, whose other end is the relay's."""
        server = self._runner.server
        if server is None:
            raise ProxyError("the control plane is not running")
        loop = asyncio.get_running_loop()
        await loop.connect_accepted_socket(functools.partial(self._handler, server), sock)
