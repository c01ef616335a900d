"""The admin listener: what operators ask, apart from what clients reach."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from aiohttp import web

from proxy.errors import ProxyError
from proxy.server.listen import bound_address, open_listener

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable

    from proxy.settings import ListenSettings

    Page = Callable[[web.Request], Awaitable[web.StreamResponse]]

logger = logging.getLogger(__name__)


class Admin:
    """Serves `pages` (path -> handler of GET) on a socket of its own."""

    def __init__(self, pages: dict[str, Page]) -> None:
        app = web.Application()
        app.add_routes([web.get(path, handler) for path, handler in pages.items()])
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)

    async def open(self, sock: socket.socket) -> None:
        await self._runner.setup()
        await web.SockSite(self._runner, sock).start()

    async def close(self) -> None:
        await self._runner.cleanup()


async def open_admin(listen: ListenSettings, pages: Callable[[], dict[str, Page]]) -> Admin | None:
    """Open the admin listener, if there is to be one. Raises `ProxyError`.

    `pages` is asked only then: what it imports costs time and memory.
    """
    if listen.admin is None:
        return None
    try:
        sock = open_listener(listen.admin)
    except ProxyError as error:
        if "admin" in listen.model_fields_set:
            raise
        # Several proxies on one machine (a developer's) want the same default: one has it.
        logger.warning("no admin listener", extra={"error": str(error)})
        return None
    admin = Admin(pages())
    await admin.open(sock)
    logger.info("admin listening", extra={"address": bound_address(sock)})
    return admin
