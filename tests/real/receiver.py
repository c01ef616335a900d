"""Takes whatever is posted to it: the other end of webhooks and of telemetry."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType


@dataclass(frozen=True)
class Posted:
    path: str
    headers: dict[str, str]
    body: Any


class Receiver:
    """Serves on a port of its own; what came is in `posted`."""

    def __init__(self) -> None:
        self.posted: list[Posted] = []
        self.url = ""
        self._came = asyncio.Condition()
        application = web.Application(client_max_size=2**24)
        application.router.add_post("/{path:.*}", self._take)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0)

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        await self._runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        posted = Posted(request.path, dict(request.headers), await request.json())
        async with self._came:
            self.posted.append(posted)
            self._came.notify_all()
        return web.json_response({})

    async def until(self, wanted: Callable[[Posted], bool]) -> Posted:
        """The first that is wanted, which may have come already."""
        async with asyncio.timeout(30), self._came:
            while True:
                for posted in self.posted:
                    if wanted(posted):
                        return posted
                await self._came.wait()
