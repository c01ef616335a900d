"""A client that ends its side of the connection behind whole requests."""

from __future__ import annotations

import asyncio

import pytest

from proxy.lifecycle.gate import Verdict
from tests.relay.raw.loops import both_loops
from tests.relay.raw.peers import OK, get, message, pair, settle

PROBE = get(b"/health")
POST = message(b"POST /a HTTP/1.1", b"Host: a", b"Content-Length: 5", body=b"hello")
UPGRADE = get(b"/ws", b"Connection: Upgrade", b"Upgrade: any")

relayed = pytest.mark.parametrize(
    "request_",
    [
        get(b"/a"),
        POST,
        message(b"POST /a HTTP/1.1", b"Host: a", b"Transfer-Encoding: chunked")
        + b"5\r\nhello\r\n0\r\n\r\n",
    ],
    ids=["get", "post", "chunked"],
)


@both_loops
async def test_a_control_request_is_answered() -> None:
    async with pair() as p:
        client = await p.sent(PROBE)
        client.eof()
        answer = await client.rest()
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert answer.endswith(b"}")
        await settle(lambda: not p.relay.open_connections)


@both_loops
async def test_a_long_poll_is_answered_when_it_has_something_to_say() -> None:
    async with pair() as p:
        client = await p.sent(get(b"/api/init?wait=60"))
        client.eof()
        await settle(lambda: p.control_connections == 1)
        await asyncio.sleep(0.1)
        p.polled.set()
        assert (await client.rest()).startswith(b"HTTP/1.1 200 ")


@both_loops
async def test_all_control_requests_of_a_pipeline_are_answered() -> None:
    async with pair() as p:
        client = await p.sent(PROBE * 3)
        client.eof()
        assert (await client.rest()).count(b"HTTP/1.1 200 ") == 3


@both_loops
async def test_refusals_are_sent() -> None:
    async with pair() as p:
        p.verdict = Verdict.REFUSE
        client = await p.sent(get(b"/a") * 3)
        client.eof()
        assert (await client.rest()).count(b"HTTP/1.1 503 ") == 3


@relayed
@both_loops
async def test_the_upstream_is_told_that_the_client_has_gone(request_: bytes) -> None:
    async with pair() as p:
        client, upstream, _ = await p.exchange(request_)
        client.eof()
        assert await client.rest() == b""
        await upstream.ending()
        await settle(lambda: not p.relay.open_connections)


@relayed
@both_loops
async def test_the_answer_comes_where_it_is_to(request_: bytes) -> None:
    async with pair(half_close="answer") as p:
        client, upstream, _ = await p.exchange(request_)
        client.eof()
        await asyncio.sleep(0.1)
        await upstream.send(OK)
        assert await client.rest() == OK
        await settle(lambda: not p.relay.open_connections)


@both_loops
async def test_a_pipeline_is_answered_to_its_end() -> None:
    async with pair(half_close="answer") as p:
        client, upstream, _ = await p.exchange(get(b"/a") + POST + PROBE + get(b"/b"))
        client.eof()
        await upstream.send(OK)
        assert (await upstream.until(b"hello")).startswith(b"POST /a ")
        await upstream.send(OK)
        assert (await upstream.head()).startswith(b"GET /b ")
        await upstream.send(OK)
        answer = await client.rest()
        assert answer.startswith(OK + OK)
        assert answer.endswith(OK)
        assert answer.count(b"HTTP/1.1 200 ") == 4


@both_loops
async def test_what_the_upstream_would_have_to_do_behind_a_probe_is_left() -> None:
    async with pair() as p:
        client = await p.sent(PROBE + get(b"/a") + PROBE)
        client.eof()
        assert (await client.rest()).count(b"HTTP/1.1 ") == 1
        assert p.accepted.empty()


@pytest.mark.parametrize("behind", [b"GET /b HT", POST[:-2]], ids=["half a head", "half a body"])
@both_loops
async def test_half_a_request_behind_it_ends_the_connection(behind: bytes) -> None:
    async with pair(half_close="answer") as p:
        client, upstream, _ = await p.exchange(get(b"/a") + behind)
        client.eof()
        await asyncio.sleep(0.05)
        await upstream.send(OK)
        assert await client.rest() == OK
        await settle(lambda: not p.relay.open_connections)
        await upstream.ending()


@both_loops
async def test_a_pipeline_is_answered_however_slowly_it_is_read() -> None:
    big = b"x" * 10_000_000
    async with pair(half_close="answer") as p:
        client, upstream, _ = await p.exchange(get(b"/1") + get(b"/2"))
        client.pause()
        client.eof()
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(big)
        sending = asyncio.create_task(upstream.send(head + big))
        await settle(lambda: any(each.wire.stalled for each in p.relay.clients))
        client.resume()
        assert await client.exactly(len(head) + len(big)) == head + big
        await sending
        assert (await upstream.head()).startswith(b"GET /2 ")
        await upstream.send(OK)
        assert await client.rest() == OK


@both_loops
async def test_an_upgrade_is_cut() -> None:
    async with pair(half_close="answer") as p:
        client, upstream, _ = await p.exchange(UPGRADE)
        client.eof()
        assert await client.rest() == b""
        await upstream.ending()


@both_loops
async def test_a_client_that_is_reset_behind_its_end_is_noticed() -> None:
    async with pair(half_close="answer", idle_timeout=0.2) as p:
        client, upstream, _ = await p.exchange(get(b"/a"))
        client.eof()
        await settle(lambda: all(each.wire.ended for each in p.relay.clients))
        client.reset()
        await upstream.ending()
        await settle(lambda: not p.relay.open_connections)


@both_loops
async def test_one_that_waits_for_the_upstream_is_served_when_that_is_ready() -> None:
    async with pair(half_close="answer", hold=60) as p:
        p.verdict = Verdict.HOLD
        client = await p.sent(get(b"/a"))
        client.eof()
        await settle(lambda: p.relay.held_requests == 1)
        await settle(lambda: all(each.wire.ended for each in p.relay.clients))
        p.verdict = Verdict.RELAY
        p.relay.reconsider()
        upstream = await p.accept()
        await upstream.head()
        await upstream.send(OK)
        assert await client.rest() == OK
