"""Upstreams of Python's WebSocket libraries: `python server.py LIBRARY PATH`.

They do what server.cjs does, each as well as its library can.
"""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import aiohttp
import websockets
from aiohttp import web
from websockets.asyncio.server import ServerConnection, unix_serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

if TYPE_CHECKING:
    from collections.abc import Sequence

LIMIT = 2**25
endings: list[tuple[int | None, str]] = []


def _choose(_: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    return Subprotocol("v1") if "v1" in offered else None


def _answer(connection: ServerConnection, request: Request) -> Response | None:
    if request.path == "/refuse":
        return connection.respond(HTTPStatus.FORBIDDEN, "not you")
    if "Upgrade" in request.headers:
        return None
    body = json.dumps(endings).encode()
    return Response(200, "OK", Headers({"Content-Length": str(len(body))}), body)


async def _serve_one(connection: ServerConnection) -> None:
    with suppress(websockets.ConnectionClosed):
        async for message in connection:
            if message == "close":
                await connection.close(4321, "as asked")
            elif message == "pieces":
                await connection.send(iter(["one ", "two ", "three"]))
            elif message == "ping":
                await (await connection.ping(b"from upstream"))
                await connection.send("pong from upstream")
            elif message == "die":
                connection.transport.abort()
            else:
                await connection.send(message)
    await connection.wait_closed()
    endings.append((connection.close_code, connection.close_reason or ""))


async def _of_websockets(path: str) -> None:
    async with unix_serve(
        _serve_one,
        path,
        select_subprotocol=_choose,
        process_request=_answer,
        max_size=LIMIT,
    ):
        await asyncio.Event().wait()


async def _listen(request: web.Request) -> web.StreamResponse:
    if "Upgrade" not in request.headers:
        return web.json_response(endings)
    # By itself it answers whatever close code with 1000.
    socket = web.WebSocketResponse(
        protocols=["v1"], max_msg_size=LIMIT, autoping=False, autoclose=False
    )
    await socket.prepare(request)
    message = await socket.receive()
    while message.type not in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED):
        await _obey(request, socket, message)
        message = await socket.receive()
    if message.type is aiohttp.WSMsgType.CLOSE:
        await socket.close(code=message.data, message=(message.extra or "").encode())
    endings.append((socket.close_code, message.extra or ""))
    return socket


async def _obey(
    request: web.Request, socket: web.WebSocketResponse, message: aiohttp.WSMessage
) -> None:
    data: Any = message.data
    if message.type is aiohttp.WSMsgType.PING:
        await socket.pong(data)
    elif message.type is aiohttp.WSMsgType.PONG:
        await socket.send_str("pong " + data.decode())
    elif message.type is aiohttp.WSMsgType.BINARY:
        await socket.send_bytes(data)
    elif data == "close":
        await socket.close(code=4321, message=b"as asked")
    elif data == "pieces":
        await socket.send_str("one two three")  # it cannot send fragments
    elif data == "ping":
        await socket.ping(b"from upstream")
    elif data == "die":
        assert request.transport is not None
        request.transport.abort()
    else:
        await socket.send_str(data)


async def _refuse(_: web.Request) -> web.Response:
    return web.Response(status=403, text="not you")


async def _of_aiohttp(path: str) -> None:
    app = web.Application()
    app.router.add_get("/", _listen)
    app.router.add_get("/refuse", _refuse)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.UnixSite(runner, path).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    libraries = {"websockets": _of_websockets, "aiohttp": _of_aiohttp}
    asyncio.run(libraries[sys.argv[1]](sys.argv[2]))
