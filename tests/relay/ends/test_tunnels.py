"""Upgraded connections, raw: what passes, when, and how each side's end reaches the other."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from proxy.lifecycle.gate import Verdict
from tests.relay.raw.loops import both_loops
from tests.relay.raw.peers import Pair, Wire, get, message, pair, settle

UPGRADE = get(b"/ws", b"Connection: keep-alive, Upgrade", b"Upgrade: any/1")
SWITCH = message(b"HTTP/1.1 101 Switching Protocols", b"Connection: Upgrade", b"Upgrade: any/1")


async def opened(p: Pair) -> tuple[Wire, Wire]:
    client, upstream, _ = await p.exchange(UPGRADE)
    await upstream.send(SWITCH)
    assert await client.head() == SWITCH
    await settle(lambda: p.relay.tunnels == 1)
    return client, upstream


@both_loops
async def test_any_protocol_is_tunnelled_with_the_bytes_around_the_handshake() -> None:
    async with pair() as p:
        client, upstream, head = await p.exchange(UPGRADE + b"early")
        assert b"\r\nConnection: Upgrade\r\nUpgrade: any/1\r\n" in head
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await upstream.exactly(1)
        await upstream.send(SWITCH + b"first", b"\x00second")
        assert await client.head() == SWITCH
        assert await client.exactly(12) == b"first\x00second"
        assert await upstream.exactly(5) == b"early"
        await client.send(b"GET / HTTP/1.1\r\n\r\n")
        assert await upstream.exactly(18) == b"GET / HTTP/1.1\r\n\r\n"


@both_loops
async def test_handshake_cut_into_single_bytes() -> None:
    async with pair() as p:
        client = await p.sent(*(UPGRADE[i : i + 1] for i in range(len(UPGRADE))))
        upstream = await p.accept()
        await upstream.head()
        await upstream.send(*(SWITCH[i : i + 1] for i in range(len(SWITCH))), b"x")
        assert await client.head() == SWITCH
        assert await client.exactly(1) == b"x"


@both_loops
async def test_tunnel_may_be_half_closed_by_either_side() -> None:
    async with pair() as p:
        client, upstream = await opened(p)
        client.eof()
        assert await upstream.rest() == b""
        await upstream.send(b"still here")
        assert await client.exactly(10) == b"still here"
        upstream.close()
        assert await client.rest() == b""
        await settle(lambda: p.relay.open_connections == 0 and p.relay.tunnels == 0)

        client, upstream = await opened(p)
        upstream.eof()
        assert await client.rest() == b""
        await client.send(b"still here")
        assert await upstream.exactly(10) == b"still here"
        client.close()
        assert await upstream.rest() == b""
        await settle(lambda: p.relay.open_connections == 0)


@both_loops
async def test_reset_on_one_side_of_a_tunnel_is_a_reset_on_the_other() -> None:
    async with pair() as p:
        client, upstream = await opened(p)
        client.reset()
        assert await upstream.ending() == (b"", "reset")
        await settle(lambda: p.relay.tunnels == 0)
        client, upstream = await opened(p)
        upstream.reset()
        assert await client.ending() == (b"", "reset")
        await settle(lambda: p.relay.tunnels == 0)


@both_loops
async def test_tunnel_has_no_idle_timeout() -> None:
    async with pair(idle_timeout=0.05, head_timeout=0.05) as p:
        client, upstream = await opened(p)
        await asyncio.sleep(0.3)
        await client.send(b"x")
        assert await upstream.exactly(1) == b"x"


@both_loops
async def test_drain_does_not_wait_for_tunnels_nor_cut_them() -> None:
    async with pair() as p:
        client, upstream = await opened(p)
        await p.relay.drain(5)
        await upstream.send(b"goodbye")
        assert await client.exactly(7) == b"goodbye"


@both_loops
async def test_upgrade_refused_by_the_upstream_is_an_ordinary_answer() -> None:
    async with pair() as p:
        client, upstream, _ = await p.exchange(UPGRADE)
        answer = message(b"HTTP/1.1 403 Forbidden", b"Content-Length: 2", body=b"no")
        await upstream.send(answer)
        assert await client.exactly(len(answer)) == answer
        await client.send(get(b"/next"))
        assert (await upstream.head()).startswith(b"GET /next ")


@both_loops
async def test_bytes_sent_ahead_of_a_refused_upgrade_are_no_request() -> None:
    async with pair() as p:
        client, upstream, _ = await p.exchange(UPGRADE + get(b"/smuggled"))
        answer = message(b"HTTP/1.1 403 Forbidden", b"Content-Length: 2", body=b"no")
        await upstream.send(answer)
        assert await client.rest() == answer
        assert await upstream.rest() == b""


@both_loops
async def test_upgrade_before_ready_is_refused_before_any_101() -> None:
    async with pair() as p:
        p.verdict = Verdict.REFUSE
        client = await p.sent(UPGRADE)
        assert (await client.rest()).startswith(b"HTTP/1.1 503 ")
        assert p.accepted.empty()


@pytest.mark.parametrize(
    "request_",
    [
        get(b"/", b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: x"),
        get(b"/", b"Upgrade: websocket"),
        get(b"/", b"Connection: Upgrade"),
        message(b"GET / HTTP/1.0", b"Host: a", b"Connection: Upgrade", b"Upgrade: websocket"),
    ],
)
@both_loops
async def test_upgrade_that_is_none_is_not_passed_on_and_a_101_to_it_is_502(
    request_: bytes,
) -> None:
    async with pair() as p:
        client, upstream, head = await p.exchange(request_)
        assert b"pgrade" not in head
        assert b"HTTP2" not in head
        await upstream.send(SWITCH)
        assert (await client.rest()).startswith(b"HTTP/1.1 502 ")


@both_loops
async def test_101_before_the_body_of_the_upgrade_request_is_502() -> None:
    async with pair() as p:
        fields = b"Host: a", b"Connection: Upgrade", b"Upgrade: any", b"Content-Length: 5"
        client, upstream, _ = await p.exchange(message(b"POST / HTTP/1.1", *fields))
        await upstream.send(SWITCH)
        assert (await client.rest()).startswith(b"HTTP/1.1 502 ")


@both_loops
async def test_upgrade_request_with_a_body_opens_a_tunnel_behind_it() -> None:
    async with pair() as p:
        fields = b"Host: a", b"Connection: Upgrade", b"Upgrade: any", b"Content-Length: 5"
        post = message(b"POST / HTTP/1.1", *fields, body=b"12345ahead")
        client, upstream, _ = await p.exchange(post)
        assert await upstream.exactly(5) == b"12345"
        await upstream.send(SWITCH)
        assert await client.head() == SWITCH
        assert await upstream.exactly(5) == b"ahead"


@both_loops
async def test_slow_reader_of_a_tunnel_holds_the_sender_not_memory() -> None:
    async with pair() as p:
        client, upstream = await opened(p)
        client.pause()
        with suppress(TimeoutError):
            async with asyncio.timeout(0.5):
                for _ in range(100):
                    await upstream.send(b"x" * 1_000_000)
        assert p.relay.bytes_out < 50_000_000
