"""What a slow, silent or superfluous client gets, and how everything is drained."""

from __future__ import annotations

import asyncio
import os
import resource
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from proxy.lifecycle.gate import Verdict
from tests.relay.raw.loops import both_loops
from tests.relay.raw.peers import OK, full_queue, get, message, pair, settle

if TYPE_CHECKING:
    from proxy.relay.http.head import RequestHead
    from tests.relay.raw.peers import Wire

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@both_loops
async def test_slow_head_is_408_and_a_silent_connection_just_ends() -> None:
    async with pair(head_timeout=0.1) as p:
        slow = await p.sent(b"GET / HTTP/1.1\r\nHo")
        silent = await p.connect()
        assert (await slow.rest()).startswith(b"HTTP/1.1 408 ")
        assert await silent.rest() == b""


@both_loops
async def test_a_request_for_the_control_plane_is_answered_when_no_descriptor_is_left() -> None:
    async with pair() as p:
        client = await p.connect()
        await settle(lambda: p.relay.open_connections)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        lowest = os.dup(0)
        os.close(lowest)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
        try:
            await client.send(get(b"/health"))
            assert (await client.head()).startswith(b"HTTP/1.1 502 ")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@both_loops
async def test_head_that_drips_is_not_given_more_time() -> None:
    async with pair(head_timeout=0.3) as p:
        client = await p.sent(b"GET / HTTP/1.1\r\n")
        dripping = asyncio.create_task(_drip(client))
        assert (await client.until(b"\r\n")).startswith(b"HTTP/1.1 408 ")
        dripping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await dripping


@both_loops
async def test_head_that_drips_is_read_as_a_whole_only_when_it_is_one() -> None:
    async with pair() as p:
        read, looks = p.relay.shared.heads.read, 0

        def counted(data: bytes | bytearray) -> RequestHead | None:
            nonlocal looks
            looks += 1
            return read(data)

        p.relay.shared.heads.read = counted  # type: ignore[method-assign]
        client, sent = await p.connect(), 0
        for line in [b"GET /slow HTTP/1.1\r\n", b"Host: a\r\n", *[b"X: y\r\n"] * 99]:
            await client.send(line)
            sent += len(line)
            await settle(lambda: p.relay.bytes_in == sent)  # noqa: B023  it is waited for here
        await client.send(b"\r\n")
        assert (await (await p.accept()).head()).count(b"X: y\r\n") == 99
        assert looks <= 3


async def _drip(client: Wire) -> None:
    while True:
        await client.send(b"X: y\r\n")
        await asyncio.sleep(0.05)


@both_loops
async def test_idle_connection_ends_silently_and_upstream_with_it() -> None:
    async with pair(idle_timeout=0.1) as p:
        client, upstream, _ = await p.exchange(get(b"/"))
        await upstream.send(OK)
        assert await client.rest() == OK
        assert await upstream.rest() == b""


@both_loops
async def test_body_that_stops_is_408() -> None:
    async with pair(idle_timeout=0.1) as p:
        post = message(b"POST / HTTP/1.1", b"Host: a", b"Content-Length: 9", body=b"abc")
        client, upstream, _ = await p.exchange(post)
        assert (await client.rest()).startswith(b"HTTP/1.1 408 ")
        assert (await upstream.ending())[0] == b"abc"


@both_loops
async def test_stream_that_pauses_longer_than_the_idle_timeout_goes_on() -> None:
    async with pair(idle_timeout=0.05) as p:
        client, upstream, _ = await p.exchange(get(b"/"))
        await upstream.send(CHUNKED)
        await client.head()
        await asyncio.sleep(0.3)
        await upstream.send(b"0\r\n\r\n")
        assert await client.exactly(5) == b"0\r\n\r\n"


@both_loops
async def test_upstream_that_takes_long_to_answer_is_waited_for() -> None:
    async with pair(idle_timeout=0.05, head_timeout=0.05) as p:
        client, upstream, _ = await p.exchange(get(b"/"))
        await asyncio.sleep(0.3)
        await upstream.send(OK)
        assert (await client.response())[1] == b"ok"


@both_loops
async def test_client_that_stops_reading_is_cut_and_its_upstream_with_it() -> None:
    async with pair(idle_timeout=0.2) as p:
        client, upstream, _ = await p.exchange(get(b"/"))
        client.pause()
        await upstream.send(message(b"HTTP/1.1 200 OK", b"Content-Length: 1000000000"))
        with suppress(ConnectionError):
            while True:
                await upstream.send(b"x" * 1_000_000)
        await settle(lambda: p.relay.open_connections == 0)


@both_loops
async def test_connection_over_the_limit_is_told_and_closed() -> None:
    async with pair(connections=2) as p:
        first, upstream, _ = await p.exchange(get(b"/"))
        await p.connect()
        third = await p.sent(get(b"/"))
        assert (await third.rest()).startswith(b"HTTP/1.1 503 ")
        third.close()
        await upstream.send(OK)
        assert (await first.response())[1] == b"ok"
        first.close()
        await settle(lambda: p.relay.open_connections == 1)
        await p.exchange(get(b"/"))


@both_loops
async def test_drain_closes_idle_connections_and_waits_for_requests() -> None:
    async with pair() as p:
        idle, upstream = await p.kept()
        busy, upstream, _ = await p.exchange(get(b"/2"))
        draining = asyncio.create_task(p.relay.drain(5))
        assert await idle.rest() == b""
        assert not draining.done()
        await upstream.send(OK)
        assert await busy.rest() == OK
        await draining


@both_loops
async def test_drain_gives_up_after_its_grace_and_abort_cuts() -> None:
    async with pair() as p:
        client, upstream, _ = await p.exchange(get(b"/"))
        await p.relay.drain(0.05)
        p.relay.abort()
        assert (await client.ending())[0] == b""
        assert (await upstream.ending())[0] == b""


@both_loops
async def test_request_that_comes_while_draining_is_turned_away() -> None:
    async with pair() as p:
        busy, upstream, _ = await p.exchange(get(b"/"))
        draining = asyncio.create_task(p.relay.drain(5))
        await settle(lambda: p.relay.shared.draining)
        p.verdict = Verdict.CLOSE
        late = await p.sent(get(b"/late"))
        answer = await late.rest()
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"Connection: close" in answer
        await upstream.send(OK)
        assert await busy.rest() == OK
        await draining


@both_loops
async def test_upstream_that_accepts_nobody_is_504_in_time() -> None:
    with full_queue() as address:
        async with pair(dial=address, connect_timeout=0.2) as p:
            client = await p.sent(get(b"/"))
            answer = await client.rest()
            assert answer.startswith(b"HTTP/1.1 504 ")
            assert b"cannot connect to the upstream within 0.2 s" in answer
            assert not p.relay.shared.dialler.under_way


@both_loops
async def test_client_that_leaves_while_its_upstream_is_dialled_stops_the_dial() -> None:
    with full_queue() as address:
        async with pair(dial=address) as p:
            client = await p.sent(get(b"/"))
            await settle(lambda: p.relay.shared.dialler.under_way)
            client.close()
            await settle(
                lambda: not p.relay.shared.dialler.under_way and not p.relay.open_connections
            )
