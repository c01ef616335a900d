"""Requests that are held until the gate judges them differently, as raw bytes."""

from __future__ import annotations

import asyncio

import pytest

from proxy.lifecycle.gate import Verdict
from tests.relay.raw.loops import both_loops
from tests.relay.raw.peers import OK, Pair, Wire, get, message, pair, settle

POST = b"POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"
UPGRADE = get(b"/socket", b"Connection: Upgrade", b"Upgrade: websocket")
LONG = 60.0  # seconds; no test waits for it


async def held(p: Pair, *segments: bytes) -> Wire:
    """A client whose request is held."""
    p.verdict = Verdict.HOLD
    before = len(p.relay.shared.parking)
    client = await p.sent(*segments)
    await settle(lambda: len(p.relay.shared.parking) > before)
    return client


def judge(p: Pair, verdict: Verdict) -> None:
    p.verdict = verdict
    p.relay.reconsider()


@both_loops
async def test_held_request_is_relayed_with_its_body_and_what_follows_it() -> None:
    async with pair(hold=LONG) as p:
        client = await held(p, POST % 3 + b"ab", b"c" + get(b"/2"))
        assert p.accepted.empty()
        judge(p, Verdict.RELAY)
        upstream = await p.accept()
        assert (await upstream.head()).startswith(b"POST /1 ")
        assert await upstream.exactly(3) == b"abc"
        await upstream.send(OK)
        assert (await upstream.head()).startswith(b"GET /2 ")
        await upstream.send(OK)
        assert await client.exactly(2 * len(OK)) == 2 * OK
        assert p.relay.requests == 2


@both_loops
async def test_held_chunked_body_is_relayed_as_it_comes() -> None:
    async with pair(hold=LONG) as p:
        lines = b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab"
        client = await held(p, lines)
        judge(p, Verdict.RELAY)
        upstream = await p.accept()
        await upstream.head()
        assert await upstream.until(b"ab\r\n") == b"2\r\nab\r\n"
        await client.send(b"c\r\n0\r\n\r\n")
        assert await upstream.until(b"0\r\n\r\n") == b"1\r\nc\r\n0\r\n\r\n"
        await upstream.send(OK)
        assert (await client.response())[1] == b"ok"


@both_loops
async def test_large_body_is_bounded_while_held_and_arrives_whole() -> None:
    async with pair(hold=LONG) as p:
        size = 16 * 2**20
        client = await held(p, POST % size)
        client.writer.write(b"x" * size)
        await settle(lambda: p.relay.bytes_in > 2**16)
        before = -1
        while before != p.relay.bytes_in:  # as much as it takes
            before = p.relay.bytes_in
            await asyncio.sleep(0.05)
        assert before < 2**20
        judge(p, Verdict.RELAY)
        upstream = await p.accept()
        await upstream.head()
        assert await upstream.exactly(size) == b"x" * size
        await upstream.send(OK)
        assert (await client.response())[1] == b"ok"


@both_loops
async def test_held_handshake_becomes_a_tunnel() -> None:
    async with pair(hold=LONG) as p:
        client = await held(p, UPGRADE)
        judge(p, Verdict.RELAY)
        upstream = await p.accept()
        assert b"\r\nUpgrade: websocket\r\n" in await upstream.head()
        switched = message(
            b"HTTP/1.1 101 Switching Protocols", b"Connection: Upgrade", b"Upgrade: websocket"
        )
        await upstream.send(switched + b"hello")
        assert await client.exactly(len(switched) + 5) == switched + b"hello"
        await client.send(b"frame")
        assert await upstream.exactly(5) == b"frame"


@pytest.mark.parametrize("verdict", [Verdict.REFUSE, Verdict.CLOSE])
@both_loops
async def test_held_request_is_refused_when_the_state_falls_back(verdict: Verdict) -> None:
    async with pair(hold=LONG) as p:
        client = await held(p, POST % 3 + b"abc")
        socket = await held(p, UPGRADE)
        judge(p, verdict)
        head, _ = await client.response()
        assert head.startswith(b"HTTP/1.1 503 ")
        assert (await socket.rest()).startswith(b"HTTP/1.1 503 ")
        if verdict is Verdict.REFUSE:  # the connection is kept
            p.verdict = Verdict.RELAY
            await client.send(get(b"/2"))
            assert (await (await p.accept()).head()).startswith(b"GET /2 ")
        else:
            assert await client.rest() == b""
        assert not p.relay.shared.parking


@both_loops
async def test_held_request_stays_held_while_the_gate_says_so() -> None:
    async with pair(hold=LONG) as p:
        client = await held(p, get(b"/1"))
        judge(p, Verdict.HOLD)
        other = await held(p, get(b"/2"))
        judge(p, Verdict.REFUSE)
        for each in (client, other):
            assert (await each.head()).startswith(b"HTTP/1.1 503 ")


@both_loops
async def test_held_requests_are_refused_when_their_time_is_up() -> None:
    async with pair(hold=0.05) as p:
        p.verdict = Verdict.HOLD
        for _ in range(2):  # the timer is set again after it ran out
            clients = [await p.sent(get(b"/1")) for _ in range(3)]
            for client in clients:
                head, _ = await client.response()
                assert head.startswith(b"HTTP/1.1 503 ")
                assert b"\r\nRetry-After: " in head
        assert p.accepted.empty()


@both_loops
async def test_client_that_goes_away_while_held_is_forgotten() -> None:
    async with pair(hold=LONG) as p:
        closed = await held(p, get(b"/1"))
        broken = await held(p, get(b"/2"))
        closed.close()
        broken.reset()
        await settle(lambda: not p.relay.shared.parking and not p.relay.open_connections)
        judge(p, Verdict.RELAY)
        client, _, head = await p.exchange(get(b"/3"))
        assert head.startswith(b"GET /3 ")
        assert p.accepted.empty()
        client.close()


@both_loops
async def test_drain_ends_what_is_held() -> None:
    async with pair(hold=LONG) as p:
        client = await held(p, get(b"/1"))
        await p.relay.drain(LONG)
        assert b"\r\nConnection: close\r\n" in await client.rest()


@both_loops
async def test_control_plane_is_not_held() -> None:
    async with pair(hold=LONG) as p:
        await held(p, get(b"/1"))
        client = await p.sent(get(b"/ready"))
        assert (await client.head()).startswith(b"HTTP/1.1 200 ")
