"""CORS around the control plane's application: preflights, and what every answer carries."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from proxy.lifecycle.cors import Cors

_PREFLIGHT = ("Origin", "Access-Control-Request-Method", "Access-Control-Request-Headers")


def let_pages_read(app: web.Application, cors: Cors) -> None:
    """Have the pages that `cors` allows read every answer of `app`."""

    @web.middleware
    async def preflights(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        if request.method == "OPTIONS":
            told = cors.preflight(*(request.headers.get(name) for name in _PREFLIGHT))
            if told:
                return web.Response(headers=dict(told))
        return await handler(request)

    async def headers(request: web.Request, response: web.StreamResponse) -> None:
        response.headers.update(cors.headers(request.headers.get("Origin")))

    app.middlewares.insert(0, preflights)
    app.on_response_prepare.append(headers)
