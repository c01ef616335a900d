"""A client's connection is its own: an upstream may close an idle one of its own meanwhile."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from proxy.lifecycle.gate import Verdict
from tests.relay.raw.loops import both_loops
from tests.relay.raw.peers import OK, PATIENCE, Pair, Wire, get, message, pair, settle

if TYPE_CHECKING:
    from collections.abc import Iterator

MANY = 60


def post(number: int) -> bytes:
    return message(b"POST /%d HTTP/1.1" % number, b"Host: a", b"Content-Length: 2", body=b"hi")


@contextmanager
def raw(wire: Wire) -> Iterator[socket.socket]:
    """Its socket: what is done with it is done before the loop has its next turn."""
    descriptor = os.dup(wire.writer.get_extra_info("socket").fileno())
    with socket.socket(fileno=descriptor) as sock:
        yield sock


async def answered(client: Wire, upstream: Wire) -> None:
    await upstream.send(OK)
    assert await client.exactly(len(OK)) == OK


@pytest.mark.parametrize("ending", ["close", "reset"])
@both_loops
async def test_an_idle_upstream_that_leaves_costs_the_client_nothing(ending: str) -> None:
    async with pair() as p:
        client, upstream = await p.kept()
        if ending == "close":
            upstream.close()
        else:
            upstream.reset()
        await asyncio.sleep(0.05)
        for target in (b"/2", b"/3"):
            await client.send(get(target))
            if target == b"/2":
                upstream = await p.accept()
            assert (await upstream.head()).startswith(b"GET %b " % target)
            await answered(client, upstream)


@both_loops
async def test_an_upstream_that_leaves_beside_a_control_request_costs_nothing_either() -> None:
    async with pair() as p:
        client, upstream = await p.kept()
        await client.send(get(b"/api/init?wait=60"))
        await settle(lambda: p.control_connections)
        upstream.close()
        await asyncio.sleep(0.05)
        p.polled.set()
        assert (await client.response())[0].startswith(b"HTTP/1.1 200 ")
        await client.send(get(b"/2"))
        upstream = await p.accept()
        assert (await upstream.head()).startswith(b"GET /2 ")


async def kept_for_a_while(p: Pair, number: int) -> list[tuple[Wire, Wire]]:
    """Connections that have been idle for longer than one that is in use."""
    pairs = [await p.kept() for _ in range(number)]
    tick = p.relay.shared.wheel.tick
    await settle(lambda: p.relay.shared.wheel.tick > tick)
    return pairs


@both_loops
async def test_no_request_is_lost_when_its_upstream_leaves_in_the_same_moment() -> None:
    async with pair(idle_timeout=1.0) as p:
        pairs = await kept_for_a_while(p, MANY)
        for number, (client, upstream) in enumerate(pairs):
            with raw(client) as asking, raw(upstream) as leaving:
                asking.sendall(post(number))
                leaving.shutdown(socket.SHUT_WR)
        came: list[bytes] = []
        for _ in pairs:
            upstream = await p.accept()
            came.append(await upstream.until(b"hi"))
            await upstream.send(OK)
        for number, (client, upstream) in enumerate(pairs):
            assert await client.exactly(len(OK)) == OK
            assert sum(head.startswith(b"POST /%d " % number) for head in came) == 1
            assert await upstream.rest() == b""  # of those that left
        assert p.accepted.empty()


@both_loops
async def test_a_request_that_was_written_to_an_upstream_that_left_is_not_sent_again() -> None:
    async with pair() as p:
        client, upstream = await p.kept()
        await client.send(post(1))
        assert (await upstream.until(b"hi")).startswith(b"POST /1 ")
        upstream.close()
        assert await client.rest() == b""
        assert p.accepted.empty()


@both_loops
async def test_an_upstream_that_is_gone_for_the_next_request_is_502() -> None:
    async with pair() as p:
        client, upstream = await p.kept()
        p.stop_listening()
        upstream.close()
        await asyncio.sleep(0.05)
        await client.send(get(b"/2"))
        assert (await client.rest()).startswith(b"HTTP/1.1 502 ")


@pytest.mark.parametrize("first", ["the state changes", "the upstream closes"])
@both_loops
async def test_clients_are_closed_when_the_state_leaves_ready(first: str) -> None:
    async with pair(hold=PATIENCE) as p:
        client, upstream = await p.kept()
        never = await p.sent(get(b"/ready"))
        assert (await never.response())[0].startswith(b"HTTP/1.1 200 ")
        if first == "the upstream closes":
            upstream.close()
            await asyncio.sleep(0.05)
        p.verdict = Verdict.HOLD
        p.relay.reconsider(left=True)
        assert await client.rest() == b""
        await upstream.ending()
        await never.send(get(b"/ready"))  # no upstream was anything to it
        assert (await never.response())[0].startswith(b"HTTP/1.1 200 ")
