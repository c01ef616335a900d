"""What h1spec (github.com/uNetworking/h1spec, 33 cases) expects of a server, through the relay.

The upstream echoes bodies. Each whole request is sent again with the client's side ended behind it.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from proxy.settings import TcpAddress
from tests.relay.raw.loops import both_loops
from tests.relay.raw.peers import message, pair

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

HELLO = b"GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n"
# Where that is cut; none of it is a request yet.
CUTS = [1, 4, 10, 11, 15, 19, 20, 21, 24, 26, 27, 36, 37, 38, 39]

GET = b"GET / HTTP/1.1"
POST = b"POST / HTTP/1.1"
HOST = b"Host: example.com"
CHUNKS = b"c\r\nHellO world1\r\n0\r\n\r\n"
NO_VERSION = b"GET / \r\n\r\n"
BARE_CR = GET + b"\r\nHost: example.com\r\n\rSome-Header: Test\r\n\r\n"

ACCEPTED: dict[str, tuple[bytes, bytes]] = {
    "GET": (message(GET, HOST), b""),
    "edges": (message(GET, b"hoSt:\texample.com", b"empty:"), b""),
    "an empty value": (message(GET, HOST, b"X-Empty-Header: "), b""),
    "Expect": (message(GET, HOST, b"Expect: 100-continue"), b""),
    "a body": (message(POST, HOST, b"Content-Length: 5", body=b"hello"), b"hello"),
    "chunks": (
        message(POST, HOST, b"Transfer-Encoding: chunked", body=CHUNKS),
        b"HellO world1",
    ),
}
REFUSED = {
    "no version": NO_VERSION,
    "brackets in a name": message(GET, HOST, b"X-Invalid[]: test"),
    "no Host": message(GET, b"Content-Length: 5"),
    "two Hosts": message(GET, HOST, b"Host: example.org"),
    "a huge negative length": message(GET, HOST, b"Content-Length: -123456789123456789123456789"),
    "a negative length": message(GET, HOST, b"Content-Length: -1234"),
    "letters as length": message(GET, HOST, b"Content-Length: abc"),
    "a bell": message(GET, HOST, b"X-Bad-Control-Char: test\x07"),
    "HTTP/9.9": message(b"GET / HTTP/9.9", HOST),
    "words before it": b"Extra line" + message(GET, HOST),
    "a bare CR": BARE_CR,
    "both lengths": message(
        *(POST, HOST, b"content-LengtH: 5", b"TransFer-Encoding: chunked"), body=CHUNKS
    ),
}


async def _echo(request: web.Request) -> web.Response:
    return web.Response(body=await request.read())


@asynccontextmanager
async def echo() -> AsyncIterator[TcpAddress]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", _echo)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield TcpAddress(*runner.addresses[0][:2])
    await runner.cleanup()


def test_all_cases_are_here() -> None:
    assert len(CUTS) + len(ACCEPTED) + len(REFUSED) == 33


@pytest.mark.parametrize("cut", CUTS)
@both_loops
async def test_a_part_of_a_head_is_waited_for(cut: int) -> None:
    async with echo() as address, pair(dial=address) as p:
        client = await p.sent(HELLO[:cut])
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await client.some()
        await client.send(HELLO[cut:])
        assert (await client.head()).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("ends", [False, True], ids=["open", "half-closed"])
@pytest.mark.parametrize(("request_", "body"), ACCEPTED.values(), ids=ACCEPTED)
@both_loops
async def test_a_request_is_answered(request_: bytes, body: bytes, *, ends: bool) -> None:
    half_close = "answer" if ends else "abort"
    async with echo() as address, pair(dial=address, half_close=half_close) as p:
        client = await p.sent(request_)
        if ends:
            client.eof()
        head, got = await client.response()
        while head.startswith(b"HTTP/1.1 100 "):
            head, got = await client.response()
        assert head.startswith(b"HTTP/1.1 200 ")
        assert got == body
        assert not ends or await client.rest() == b""


@pytest.mark.parametrize("ends", [False, True], ids=["open", "half-closed"])
@pytest.mark.parametrize("request_", REFUSED.values(), ids=REFUSED)
@both_loops
async def test_what_is_no_request_is_refused(request_: bytes, *, ends: bool) -> None:
    async with echo() as address, pair(dial=address) as p:
        client = await p.sent(request_)
        if ends:
            client.eof()
        status = int((await client.rest()).split()[1])
        assert 400 <= status < 600
