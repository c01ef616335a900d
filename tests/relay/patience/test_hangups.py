"""Clients that go while nobody reads what they send: what they held is free again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.relay.raw.loops import both_loops
from tests.relay.raw.peers import get, message, pair, settle

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.relay.raw.peers import Pair, Wire

POST = message(b"POST / HTTP/1.1", b"Host: a", b"Content-Length: 1000000000")
UPGRADE = message(b"GET / HTTP/1.1", b"Host: a", b"Connection: Upgrade", b"Upgrade: x")
SWITCHED = message(b"HTTP/1.1 101 Switching Protocols", b"Connection: Upgrade", b"Upgrade: x")
PIECE = bytes(range(256)) * 256
LEAVING: list[Callable[[Wire], None]] = [lambda wire: wire.close(), lambda wire: wire.reset()]

leaving = pytest.mark.parametrize("leave", LEAVING, ids=["closes", "resets"])


def unread(p: Pair) -> bool:
    (client,) = p.relay.clients
    return bool(client.wire.pauses)


async def fill(p: Pair, client: Wire) -> int:
    """Send until no more is read; what is left of it fits into the kernel's buffers."""
    sent, before = 0, p.relay.bytes_in
    while not unread(p):
        await client.send(PIECE)
        sent += len(PIECE)
        await settle(lambda: unread(p) or p.relay.bytes_in == before + sent)  # noqa: B023  at once
    return sent


@leaving
@both_loops
async def test_a_body_that_the_upstream_does_not_take(leave: Callable[[Wire], None]) -> None:
    async with pair(idle_timeout=0.2) as p:
        client, upstream, _ = await p.exchange(POST)
        upstream.pause()
        await fill(p, client)
        leave(client)
        await settle(lambda: p.relay.open_connections == 0)
        upstream.resume()
        await upstream.ending()


@leaving
@both_loops
async def test_more_requests_than_are_held(leave: Callable[[Wire], None]) -> None:
    async with pair(idle_timeout=0.2) as p:
        client, upstream, _ = await p.exchange(get(b"/") + get(b"/again") * 3000)
        await settle(lambda: unread(p))
        leave(client)
        await settle(lambda: p.relay.open_connections == 0)
        await upstream.ending()


@both_loops
async def test_a_tunnel_that_is_reset() -> None:
    async with pair(idle_timeout=0.2) as p:
        client, upstream, _ = await p.exchange(UPGRADE)
        await upstream.send(SWITCHED)
        await client.head()
        upstream.pause()
        await fill(p, client)
        client.reset()
        await settle(lambda: p.relay.open_connections == 0)


@both_loops
async def test_a_tunnel_whose_client_has_said_all_that_it_will_is_no_hang_up() -> None:
    async with pair(idle_timeout=0.1) as p:
        client, upstream, _ = await p.exchange(UPGRADE)
        await upstream.send(SWITCHED)
        await client.head()
        upstream.pause()
        sent = await fill(p, client)
        client.eof()
        looks = p.relay.shared.hangups.looks
        await settle(lambda: p.relay.shared.hangups.looks > looks + 1)
        upstream.resume()
        assert len(await upstream.exactly(sent)) == sent
        await upstream.send(b"and an answer")
        assert await client.exactly(13) == b"and an answer"


@both_loops
async def test_a_client_that_is_only_slow_to_be_read_is_waited_for() -> None:
    async with pair(idle_timeout=0.1) as p:
        client, upstream, _ = await p.exchange(POST)
        upstream.pause()
        sent = await fill(p, client)
        looks = p.relay.shared.hangups.looks
        await settle(lambda: p.relay.shared.hangups.looks > looks + 1)
        upstream.resume()
        assert len(await upstream.exactly(sent)) == sent
