"""The admin listener: what operators and probes ask, apart from what clients reach."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from aiohttp import web

from proxy.errors import ProxyError
from proxy.lifecycle.contract import request_model
from proxy.server.doorkeeper import offers_logins
from proxy.server.listen import Listener

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from proxy.control.openapi import Surface
    from proxy.settings import ListenSettings, Settings

    Page = Callable[[web.Request], Awaitable[web.StreamResponse]]

logger = logging.getLogger(__name__)


# Connections at one time, as their descriptors are the proxy's own: a scraper's and some probes'.
_MOST: Final = 16


class Admin:
    """Serves `pages` (path -> handler of GET) on a listener of its own."""

    def __init__(self, listener: Listener, pages: dict[str, Page]) -> None:
        app = web.Application()
        app.add_routes([web.get(path, handler) for path, handler in pages.items()])
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        self._listener = listener

    async def open(self) -> None:
        await self._runner.setup()
        await self._listener.serve(self._accept)

    async def close(self) -> None:
        self._listener.close()
        await self._runner.cleanup()

    def _accept(self) -> web.RequestHandler:
        server = self._runner.server
        if server is None:
            raise ProxyError("the admin pages are not served")
        # The first to come has had its answer, or only holds a place.
        for each in server.connections[: max(0, len(server.connections) - _MOST + 1)]:
            if each.transport is not None:
                each.transport.abort()
        return server()


def described(settings: Settings) -> Page:
    """The handler of /openapi.json."""

    async def answer(_request: web.Request) -> web.Response:
        from proxy.control.openapi import document  # noqa: PLC0415  hardly anybody asks

        return web.json_response(document(surface_of(settings)))

    return answer


def surface_of(settings: Settings) -> Surface:
    from proxy.control.openapi import Surface  # noqa: PLC0415  as above

    mapping = settings.upstream.fields_and_files
    return Surface(
        prefix=settings.control.prefix,
        alive_paths=mapping.alive_paths,
        request=request_model(mapping.own_fields),
        required=frozenset(name for name, to in mapping.fields.items() if to.required),
        login=offers_logins(settings),
    )


async def open_admin(listen: ListenSettings, pages: Callable[[], dict[str, Page]]) -> Admin | None:
    """Open the admin listener, if there is to be one. Raises `ProxyError`.

    `pages` is asked only then: what it imports costs time and memory.
    """
    if listen.admin is None:
        return None
    listener = Listener(listen.admin, listen.unix)
    try:
        address = listener.bind()
    except ProxyError as error:
        if "admin" in listen.model_fields_set:
            raise
        # Several proxies on one machine (a developer's) want the same default: one has it.
        logger.warning("no admin listener", extra={"error": str(error)})
        return None
    admin = Admin(listener, pages())
    await admin.open()
    logger.info("admin listening", extra={"address": address})
    return admin
