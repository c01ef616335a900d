"""Takes whatever is posted to it: the other end of webhooks and of telemetry."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiohttp import web

from tests.real.local import LocalServer

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Posted:
    path: str
    headers: dict[str, str]
    body: Any


class Receiver(LocalServer):
    """What came is in `posted`."""

    def __init__(self) -> None:
        self.posted: list[Posted] = []
        self._came = asyncio.Condition()
        application = web.Application(client_max_size=2**24)
        application.router.add_post("/{path:.*}", self._take)
        super().__init__(application)

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
