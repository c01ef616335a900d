"""WebSockets of two independent implementations, through the relay."""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import aiohttp
import pytest
import websockets
from aiohttp import web
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from proxy.settings import TcpAddress
from tests.relay.raw.loops import both_loops
from tests.relay.raw.peers import pair

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

BIG = 16 * 1024 * 1024


async def _websockets_echo(connection: ServerConnection) -> None:
    async for message in connection:
        if message == "close":
            await connection.close(4321, "as asked")
        elif message == "pieces":
            await connection.send(iter(["one ", "two ", "three"]))
        else:
            await connection.send(message)


def _choose(_: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    return Subprotocol("v1") if "v1" in offered else None


async def _aiohttp_echo(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse(protocols=["v2", "v1"], max_msg_size=0)
    await socket.prepare(request)
    async for message in socket:
        if message.data == "close":
            await socket.close(code=4321, message=b"as asked")
        elif message.type is aiohttp.WSMsgType.TEXT:
            await socket.send_str(message.data)
        elif message.type is aiohttp.WSMsgType.BINARY:
            await socket.send_bytes(message.data)
    return socket


@asynccontextmanager
async def relayed(server: str) -> AsyncIterator[str]:
    """The URL of an echo server of that implementation, behind a relay."""
    if server == "websockets":
        serving = serve(_websockets_echo, "127.0.0.1", 0, select_subprotocol=_choose, max_size=None)
        async with serving as running:
            port = running.sockets[0].getsockname()[1]
            async with pair(dial=TcpAddress("127.0.0.1", port)) as p:
                yield f"ws://127.0.0.1:{p.port}/"
        return
    app = web.Application()
    app.router.add_get("/", _aiohttp_echo)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    async with pair(dial=TcpAddress(*runner.addresses[0])) as p:
        yield f"ws://127.0.0.1:{p.port}/"
    await runner.cleanup()


SERVERS = pytest.mark.parametrize("server", ["websockets", "aiohttp"])


@SERVERS
@pytest.mark.parametrize("compression", ["deflate", None])
@both_loops
async def test_messages_of_every_size_come_back(server: str, compression: str | None) -> None:
    async with relayed(server) as url, connect(url, compression=compression) as socket:
        assert bool(socket.protocol.extensions) == (compression is not None)
        for message in ("", "text \N{SNOWMAN}", b"", b"\x00\xff", os.urandom(70_000)):
            await socket.send(message)
            assert await socket.recv() == message


@SERVERS
@both_loops
async def test_message_of_16_mib_comes_back(server: str) -> None:
    async with relayed(server) as url, connect(url, compression=None, max_size=None) as socket:
        message = os.urandom(BIG)
        await socket.send(message)
        assert await socket.recv() == message


@SERVERS
@both_loops
async def test_subprotocol_is_the_upstreams_choice(server: str) -> None:
    offered = [Subprotocol("v0"), Subprotocol("v1")]
    async with relayed(server) as url, connect(url, subprotocols=offered) as socket:
        assert socket.subprotocol == "v1"


@SERVERS
@both_loops
async def test_close_code_and_reason_arrive(server: str) -> None:
    async with relayed(server) as url, connect(url) as socket:
        await socket.send("close")
        with pytest.raises(websockets.ConnectionClosed):
            await socket.recv()
        assert (socket.close_code, socket.close_reason) == (4321, "as asked")


@both_loops
async def test_close_code_of_the_client_arrives() -> None:
    async with relayed("websockets") as url, connect(url) as socket:
        await socket.close(4000, "mine")
        assert (socket.close_code, socket.close_reason) == (4000, "mine")


@SERVERS
@both_loops
async def test_pings_are_answered_by_the_other_end(server: str) -> None:
    async with relayed(server) as url, connect(url) as socket:
        async with asyncio.timeout(5):
            await (await socket.ping(b"payload"))


@both_loops
async def test_fragments_stay_fragments() -> None:
    async with relayed("websockets") as url, connect(url) as socket:
        await socket.send("pieces")
        pieces = [piece async for piece in socket.recv_streaming()]
        assert pieces == ["one ", "two ", "three", ""]  # the last frame of its sender is empty
        await socket.send(iter([b"a", b"", b"b"]))
        assert await socket.recv() == b"ab"


@SERVERS
@both_loops
async def test_aiohttp_as_client(server: str) -> None:
    async with (
        relayed(server) as url,
        aiohttp.ClientSession() as session,
        session.ws_connect(url, compress=15, max_msg_size=0) as socket,
    ):
        assert socket.compress
        for message in ("hello", "x" * 200_000):
            await socket.send_str(message)
            assert await socket.receive_str() == message
        await socket.send_str("close")
        closing = await socket.receive()
        expected = (aiohttp.WSMsgType.CLOSE, 4321, "as asked")
        assert (closing.type, closing.data, closing.extra) == expected


@both_loops
async def test_refusal_of_the_upstream_arrives_with_its_body() -> None:
    async def refuse(_request: web.Request) -> web.Response:
        return web.Response(status=403, text="not you")

    app = web.Application()
    app.router.add_get("/", refuse)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with pair(dial=TcpAddress(*runner.addresses[0])) as p:
        with pytest.raises(websockets.InvalidStatus) as caught:
            async with connect(f"ws://127.0.0.1:{p.port}/"):
                pass
        assert caught.value.response.status_code == 403
        assert caught.value.response.body == b"not you"
    await runner.cleanup()
