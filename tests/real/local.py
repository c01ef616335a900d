"""A small aiohttp server on loopback that a test runs beside the upstream."""

from __future__ import annotations

from typing import Self

from aiohttp import web


class LocalServer:
    """Serves `application` on a port of its own while it is entered; `url` says where."""

    def __init__(self, application: web.Application) -> None:
        self.url = ""
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0)

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()
