"""A server with an `/api/init` whose answers a test decides, for the client and the commands."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


class Scripted:
    """`status` is what GET answers; `answer` is status and body for POST, once `let_go` is set."""

    def __init__(self) -> None:
        self.status: dict[str, Any] = {"state": "dormant", "error": None}
        self.answer: tuple[int, Any] = (200, {"state": "ready", "error": None})
        self.headers: dict[str, str] = {}
        self.let_go = asyncio.Event()
        self.let_go.set()
        self.asked = asyncio.Event()  # a POST has arrived
        self.seen: list[tuple[str, str, dict[str, str], Any]] = []
        self.gets = 0
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.method == "GET":
            self.gets += 1
            self._note(request, None)
            return web.json_response(self.status)
        self._note(request, await request.json())
        self.asked.set()
        self.status = {"state": "initializing", "error": None, "phase": "start"}
        await self.let_go.wait()
        status, body = self.answer
        if isinstance(body, dict):
            return web.json_response(body, status=status, headers=self.headers)
        return web.Response(body=body, status=status, headers=self.headers)

    def _note(self, request: web.Request, body: Any) -> None:
        self.seen.append((request.method, request.path_qs, dict(request.headers), body))

    @property
    def posted(self) -> tuple[dict[str, str], Any]:
        """Head and body of the one init."""
        ((_, _, headers, body),) = [call for call in self.seen if call[0] == "POST"]
        return headers, body


@asynccontextmanager
async def scripted(socket: Path | None = None, port: int = 0) -> AsyncIterator[Scripted]:
    server = Scripted()
    app = web.Application()
    app.add_routes([web.route("*", "/api/init", server.handle)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    if socket is not None:
        await web.UnixSite(runner, str(socket)).start()
        server.url = f"http+unix://{socket}"
    else:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        server.let_go.set()
        await runner.cleanup()
