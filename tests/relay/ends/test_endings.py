"""How exchanges end that do not end well: what each side sees, and when."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from tests.relay.raw.loops import both_loops
from tests.relay.raw.peers import OK, get, message, pair, settle

if TYPE_CHECKING:
    from tests.relay.raw.peers import Wire

LONG = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
OPEN = b"HTTP/1.1 200 OK\r\n\r\n"


@pytest.mark.parametrize("begun", [LONG + b"abc", CHUNKED + b"3\r\nabc\r\n", CHUNKED + b"5\r\nab"])
@both_loops
async def test_truncated_response_stays_truncated(begun: bytes) -> None:
    async with pair() as p:
        client, upstream, _ = await p.exchange(get(b"/"))
        await upstream.send(begun)
        upstream.close()
        assert await client.ending() == (begun, "eof")


@pytest.mark.parametrize("begun", [LONG + b"abc", CHUNKED + b"3\r\nabc\r\n", OPEN + b"abc"])
@both_loops
async def test_reset_of_the_upstream_is_a_reset_for_the_client(begun: bytes) -> None:
    async with pair() as p:
        client, upstream, _ = await p.exchange(get(b"/"))
        await upstream.send(begun)
        assert await client.exactly(len(begun)) == begun
        upstream.reset()
        assert await client.ending() == (b"", "reset")


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2x\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nBad Name: 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nFolded: 1\r\n 2\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
        message(b"HTTP/1.1 200 OK", b"X: " + b"x" * 300_000),
    ],
)
@both_loops
async def test_an_answer_that_is_none_becomes_502(answer: bytes) -> None:
    async with pair() as p:
        client, upstream, _ = await p.exchange(get(b"/"))
        with suppress(ConnectionError):  # cut before all of a very long one was sent
            await upstream.send(answer)
        upstream.close()
        got = await client.rest()
        assert got.startswith(b"HTTP/1.1 502 ")
        assert b'{"detail": "' in got
        assert got.count(b"HTTP/1.1 ") == 1


@both_loops
async def test_interim_response_before_a_broken_one_still_gets_502() -> None:
    async with pair() as p:
        client, upstream, _ = await p.exchange(get(b"/"))
        await upstream.send(b"HTTP/1.1 102 Processing\r\n\r\nnonsense\r\n\r\n")
        got = await client.rest()
        assert got.startswith(b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 502 ")


@both_loops
async def test_bad_chunk_cuts_the_response() -> None:
    async with pair() as p:
        client, upstream, _ = await p.exchange(get(b"/"))
        await upstream.send(CHUNKED + b"3\r\nabc\r\n")
        await client.until(b"abc\r\n")
        await upstream.send(b"zz\r\nabc\r\n0\r\n\r\n")
        assert await client.ending() == (b"", "eof")


@both_loops
async def test_response_that_breaks_in_its_first_read_arrives_up_to_there() -> None:
    async with pair() as p:
        client, upstream = await p.kept()
        await client.send(get(b"/2"))
        await upstream.send(CHUNKED + b"5\r\nhello\r\n" + b"ZZ\r\n")
        assert await client.ending() == (CHUNKED + b"5\r\nhello\r\n", "eof")


@both_loops
async def test_bytes_after_the_response_are_nobodys_and_end_the_connection() -> None:
    async with pair() as p:
        client, upstream, _ = await p.exchange(get(b"/1") + get(b"/2"))
        await upstream.send(OK + b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfalse")
        assert await client.rest() == OK


@both_loops
async def test_bytes_nobody_asked_for_end_an_idle_connection() -> None:
    async with pair() as p:
        client, upstream = await p.kept()
        await upstream.send(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
        assert await client.rest() == b""


@both_loops
async def test_kept_connection_that_dies_under_a_request_ends_without_an_answer() -> None:
    async with pair() as p:
        client, upstream = await p.kept()
        await client.send(get(b"/2"))
        await upstream.head()
        upstream.close()
        assert await client.rest() == b""


@both_loops
async def test_first_request_that_gets_no_answer_is_502() -> None:
    async with pair() as p:
        client, upstream, _ = await p.exchange(get(b"/1"))
        upstream.reset()
        assert (await client.rest()).startswith(b"HTTP/1.1 502 ")


@pytest.mark.parametrize("leave", ["close", "reset", "eof"])
@both_loops
async def test_upstream_is_cut_as_soon_as_the_client_is_gone(leave: str) -> None:
    async with pair() as p:
        client, upstream, _ = await p.exchange(get(b"/"))
        await upstream.send(CHUNKED)
        await client.head()
        getattr(client, leave)()
        assert (await upstream.ending())[0] == b""
        await settle(lambda: p.relay.open_connections == 0)


@both_loops
async def test_upstream_never_sees_the_end_of_a_body_that_was_cut() -> None:
    async with pair() as p:
        post = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
        client, upstream, _ = await p.exchange(post)
        assert await upstream.exactly(8) == b"3\r\nabc\r\n"
        client.close()
        assert (await upstream.ending())[0] == b""


@both_loops
async def test_client_gone_while_dialling_leaves_nothing() -> None:
    async with pair() as p:
        client = await p.sent(get(b"/"))
        client.reset()
        await settle(lambda: p.relay.connections == 1 and p.relay.open_connections == 0)


@pytest.mark.parametrize("closing", ["close", "reset", "stay"])
@both_loops
async def test_early_answer_reaches_a_client_that_is_still_uploading(closing: str) -> None:
    async with pair() as p:
        post = message(b"POST / HTTP/1.1", b"Host: a", b"Content-Length: 50000000")
        client, upstream, _ = await p.exchange(post)
        upload = asyncio.create_task(_upload(client))
        await upstream.exactly(100_000)
        fields = b"Connection: close", b"Content-Length: 3"
        answer = message(b"HTTP/1.1 413 Too Large", *fields, body=b"big")
        await upstream.send(answer)
        if closing != "stay":
            # With bytes unread, a close is a reset as well.
            getattr(upstream, closing)()
        assert await client.exactly(len(answer)) == answer
        await upload
        assert (await client.ending())[0] == b""


async def _upload(client: Wire) -> None:
    with suppress(ConnectionError, TimeoutError):
        for _ in range(50):
            await client.send(b"x" * 1_000_000)


@both_loops
async def test_answer_before_the_end_of_the_body_keeps_the_connection() -> None:
    async with pair() as p:
        post = message(b"POST / HTTP/1.1", b"Host: a", b"Content-Length: 6")
        client, upstream, _ = await p.exchange(post, b"abc")
        await upstream.exactly(3)
        await upstream.send(OK)
        assert (await client.response())[1] == b"ok"
        await client.send(b"def" + get(b"/2"))
        assert await upstream.exactly(3) == b"def"
        assert (await upstream.head()).startswith(b"GET /2 ")


@pytest.mark.parametrize("leave", ["close", "unasked"])
@both_loops
async def test_upstream_that_leaves_after_an_early_answer_takes_the_client_along(
    leave: str,
) -> None:
    async with pair() as p:
        post = message(b"POST / HTTP/1.1", b"Host: a", b"Content-Length: 10", body=b"123")
        client, upstream, _ = await p.exchange(post)
        await upstream.send(OK)
        assert await client.exactly(len(OK)) == OK
        if leave == "close":
            upstream.close()
        else:
            await upstream.send(OK)
        assert await client.rest() == b""


@both_loops
async def test_final_answer_instead_of_100_ends_the_connection() -> None:
    async with pair() as p:
        fields = b"Host: a", b"Content-Length: 6", b"Expect: 100-continue"
        client, upstream, _ = await p.exchange(message(b"POST / HTTP/1.1", *fields))
        answer = message(b"HTTP/1.1 417 No", b"Content-Length: 0")
        await upstream.send(answer)
        assert await client.exactly(len(answer)) == answer
        await client.send(get(b"/evil"))
        assert await client.rest() == b""
        assert await upstream.rest() == b""


@both_loops
async def test_broken_chunk_in_a_request_is_400_and_cuts_the_upstream() -> None:
    async with pair() as p:
        post = message(b"POST / HTTP/1.1", b"Host: a", b"Transfer-Encoding: chunked")
        client, upstream, _ = await p.exchange(post, b"3\r\nabc\r\n")
        await upstream.until(b"abc\r\n")
        await client.send(b"-1\r\n" + get(b"/evil"))
        assert (await client.rest()).startswith(b"HTTP/1.1 400 ")
        assert (await upstream.ending())[0] == b""
