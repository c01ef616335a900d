"""Peers that vanish without a word: no FIN, no reset, nothing that comes is answered."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import pytest

from proxy.server.listen import Listener
from proxy.settings import KeepaliveSettings, TcpAddress, UnixSettings
from tests.relay.raw.loops import both_loops
from tests.relay.raw.peers import OK, PATIENCE, Pair, Wire, get, message, pair, settle

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

SOON = KeepaliveSettings(idle=1, interval=1, count=1)
UPGRADE = message(b"GET / HTTP/1.1", b"Host: a", b"Connection: Upgrade", b"Upgrade: x")
SWITCHED = message(b"HTTP/1.1 101 Switching Protocols", b"Connection: Upgrade", b"Upgrade: x")
STREAM = message(b"HTTP/1.1 200 OK", b"Transfer-Encoding: chunked", body=b"1\r\nx\r\n")


async def tunnel(client: Wire, upstream: Wire) -> None:
    await upstream.send(SWITCHED)
    assert await client.head() == SWITCHED


async def stream(client: Wire, upstream: Wire) -> None:
    await upstream.send(STREAM)
    assert await client.exactly(len(STREAM)) == STREAM


async def computation(_client: Wire, _upstream: Wire) -> None:
    """The answer has not begun."""


@pytest.mark.slow
@pytest.mark.parametrize("unread", [b"", b"1\r\nx\r\n"], ids=["quiet", "sent more"])
@pytest.mark.parametrize("busy", [tunnel, stream, computation])
@both_loops
async def test_a_client_that_has_vanished_costs_no_connection(
    busy: Callable[[Wire, Wire], Awaitable[None]], unread: bytes
) -> None:
    async with pair() as p:
        listener = Listener(TcpAddress("127.0.0.1", 0), UnixSettings(), SOON)
        p.port = int(listener.bind().rpartition(":")[2])
        await listener.serve(p.relay)
        client, upstream, _ = await p.exchange(UPGRADE if busy is tunnel else get(b"/"))
        await busy(client, upstream)
        client.vanish()
        if busy is not computation:
            await upstream.send(unread)
        assert (await upstream.ending())[0] == b""
        await settle(lambda: not p.relay.open_connections)
        listener.close()


@pytest.mark.slow
@both_loops
async def test_an_upstream_that_has_vanished_is_noticed() -> None:
    accepted: asyncio.Queue[Wire] = asyncio.Queue()
    server = await asyncio.start_server(
        lambda reader, writer: accepted.put_nowait(Wire(reader, writer)), "127.0.0.1", 0
    )
    # Reaches the same, and is no loopback address to whoever looks at it.
    address = TcpAddress("0.0.0.0", server.sockets[0].getsockname()[1])
    async with server, pair(dial=address, keepalive=SOON) as p:
        client = await p.sent(get(b"/"))
        async with asyncio.timeout(PATIENCE):
            upstream = await accepted.get()
        await upstream.head()
        upstream.vanish()
        assert (await client.rest()).startswith(b"HTTP/1.1 502 ")
        upstream.reset()


async def test_a_connection_is_probed_as_the_settings_say() -> None:
    accepted: asyncio.Future[socket.socket] = asyncio.get_running_loop().create_future()

    class Told(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            accepted.set_result(transport.get_extra_info("socket"))

    wanted = KeepaliveSettings(idle=70, interval=7, count=3)
    listener = Listener(TcpAddress("127.0.0.1", 0), UnixSettings(), wanted)
    port = int(listener.bind().rpartition(":")[2])
    await listener.serve(Told)
    with socket.create_connection(("127.0.0.1", port)):
        sock = await accepted
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        options = (
            *(socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT),
            socket.TCP_USER_TIMEOUT,
        )
        told = [sock.getsockopt(socket.IPPROTO_TCP, option) for option in options]
        assert told == [70, 7, 3, 91_000]
    listener.close()


async def opened(p: Pair) -> tuple[Wire, Wire]:
    client, upstream, _ = await p.exchange(UPGRADE)
    await tunnel(client, upstream)
    return client, upstream


@both_loops
async def test_a_tunnel_without_a_byte_is_ended_after_its_idle_limit() -> None:
    async with pair(tunnel_idle=0.2) as p:
        client, upstream = await opened(p)
        assert await client.ending() == (b"", "eof")
        assert await upstream.ending() == (b"", "eof")
        await settle(lambda: p.relay.tunnels == 0)


@pytest.mark.parametrize("speaks", ["client", "upstream"])
@both_loops
async def test_a_byte_either_way_keeps_a_tunnel(speaks: str) -> None:
    async with pair(tunnel_idle=0.4) as p:
        ends = await opened(p)
        one, other = ends if speaks == "client" else reversed(ends)
        for _ in range(8):
            await asyncio.sleep(0.1)
            await one.send(b"x")
            assert await other.exactly(1) == b"x"


@both_loops
async def test_an_idle_limit_of_tunnels_is_not_that_of_requests() -> None:
    async with pair(tunnel_idle=0.05) as p:
        client, upstream, _ = await p.exchange(get(b"/"))
        await asyncio.sleep(0.3)
        await upstream.send(OK)
        assert await client.exactly(len(OK)) == OK
