"""Ordinary exchanges through the relay, byte by byte, on both event loops."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.relay.raw.loops import both_loops
from tests.relay.raw.peers import OK, get, message, pair
from tests.relay.requestids import without_made_id

FORWARDED = b"X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: a\r\n\r\n"


@both_loops
async def test_request_and_response_arrive_byte_for_byte() -> None:
    async with pair() as p:
        lines = b"GET /a%2f/../b?x=1&? HTTP/1.1\r\nhOsT:a\r\nX-Two:  v \xff\xfe \r\nx-two: w\r\n"
        client, upstream, head = await p.exchange(lines + b"\r\n")
        assert without_made_id(head) == lines + FORWARDED
        fields = b"set-cookie: a", b"Set-Cookie: \xff", b"content-length:3"
        answer = message(b"HTTP/1.1 200 \xe9t\xe9", *fields, body=b"abc")
        await upstream.send(answer)
        assert await client.exactly(len(answer)) == answer


@both_loops
async def test_connection_is_kept_and_paired_with_one_upstream_connection() -> None:
    async with pair() as p:
        client, upstream = await p.kept()
        await client.send(get(b"/2"))
        assert (await upstream.head()).startswith(b"GET /2 ")
        await upstream.send(OK)
        assert await client.exactly(len(OK)) == OK
        assert p.accepted.empty()


@both_loops
async def test_pipelined_requests_are_answered_in_order_one_at_a_time() -> None:
    async with pair() as p:
        one = b"POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
        client, upstream, _ = await p.exchange(
            one + b"GET /2 HTTP/1.1\r\nHost: a\r\n\r\nGET /health HTTP/1.1\r\nHost: a\r\n\r\n"
        )
        assert await upstream.exactly(3) == b"abc"
        await upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n", b"1")
        assert (await upstream.head()).startswith(b"GET /2 ")
        await upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n2")
        assert (await client.response())[1] == b"1"
        assert (await client.response())[1] == b"2"
        assert json.loads((await client.response())[1])["path"] == "/health"


@both_loops
async def test_second_pipelined_request_waits_for_the_first_response() -> None:
    async with pair() as p:
        two = b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n"
        client, upstream, _ = await p.exchange(two)
        await upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no")
        await client.until(b"o")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await upstream.head()
        await upstream.send(b"k")
        assert (await upstream.head()).startswith(b"GET /2 ")


@both_loops
async def test_control_plane_answers_its_own_paths_and_gets_the_key() -> None:
    async with pair() as p:
        client = await p.sent(
            b"POST /api/init?details=true HTTP/1.1\r\nHost: a\r\nX-Init-API-Key: k\r\n"
            b"Content-Length: 4\r\n\r\nbody"
        )
        _, body = await client.response()
        assert json.loads(body) == {"path": "/api/init?details=true", "size": 4, "key": "k"}
        await client.send(
            b"GET /x HTTP/1.1\r\nHost: a\r\nX-Init-API-Key: k\r\nX_Init_Api_Key: k\r\n\r\n"
        )
        upstream = await p.accept()
        head = without_made_id(await upstream.head())
        assert head == b"GET /x HTTP/1.1\r\nHost: a\r\n" + FORWARDED
        await upstream.send(OK)
        assert (await client.response())[1] == b"ok"
        await client.send(get(b"/ready"))
        assert json.loads((await client.response())[1])["path"] == "/ready"


@both_loops
async def test_chunked_request_is_framed_again_with_its_trailers() -> None:
    async with pair() as p:
        client, upstream, head = await p.exchange(
            b"PUT / HTTP/1.1\r\nHost: a\r\ntransfer-encoding:  Chunked\r\nTrailer: T\r\n\r\n"
            b'3;ext="x"\r\nabc\r\n0002\r\nde\r\n0\r\n'
            b"T: v\r\nContent-Length: 9\r\nX-Init-API-Key: k\r\n\r\n"
        )
        assert (
            without_made_id(head)
            == b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: T\r\n"
            + FORWARDED
        )
        assert await upstream.until(b"\r\n\r\n") == b"5\r\nabcde\r\n0\r\nT: v\r\n\r\n"
        await upstream.send(OK)
        assert (await client.response())[1] == b"ok"


@both_loops
async def test_chunks_go_on_as_they_come() -> None:
    async with pair() as p:
        client, upstream, _ = await p.exchange(
            b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\na\r\nabc"
        )
        assert await upstream.exactly(8) == b"3\r\nabc\r\n"
        await client.send(b"defghij\r")
        assert await upstream.exactly(12) == b"7\r\ndefghij\r\n"
        await client.send(b"\n0\r\n\r\n")
        assert await upstream.exactly(5) == b"0\r\n\r\n"


@both_loops
async def test_events_arrive_one_by_one() -> None:
    async with pair() as p:
        client, upstream, _ = await p.exchange(get(b"/events"))
        fields = b"Content-Type: text/event-stream", b"Transfer-Encoding: chunked"
        head = message(b"HTTP/1.1 200 OK", *fields)
        await upstream.send(head)
        assert await client.head() == head
        for number in range(3):
            chunk = b"9\r\ndata: %d\n\n\r\n" % number
            await upstream.send(chunk)
            assert await client.exactly(len(chunk)) == chunk
        await upstream.send(b"0\r\nX-T: 1\r\n\r\n")
        assert await client.until(b"\r\n\r\n") == b"0\r\nX-T: 1\r\n\r\n"
        await client.send(get(b"/2"))
        assert (await upstream.head()).startswith(b"GET /2")


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n"),
        (
            b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
        (get(b"/"), b"HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\n"),
        (get(b"/"), b"HTTP/1.1 304 Not\r\nContent-Length: 5\r\n\r\n"),
        (get(b"/"), b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n"),
    ],
)
@both_loops
async def test_responses_without_body_end_with_their_head(request_: bytes, answer: bytes) -> None:
    async with pair() as p:
        client, upstream, _ = await p.exchange(request_)
        await upstream.send(answer)
        assert await client.head() == answer
        await client.send(get(b"/2"))
        assert (await upstream.head()).startswith(b"GET /2")


@both_loops
async def test_interim_responses_pass() -> None:
    async with pair() as p:
        client, upstream, head = await p.exchange(
            b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
        )
        assert b"\r\nExpect: 100-continue\r\n" in head
        early = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
        await upstream.send(b"HTTP/1.1 100 Continue\r\n\r\n" + early[:9], early[9:])
        assert await client.head() == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert await client.head() == early
        await client.send(b"hi")
        assert await upstream.exactly(2) == b"hi"
        await upstream.send(OK)
        assert (await client.response())[1] == b"ok"


@both_loops
async def test_body_until_close_ends_with_the_connection() -> None:
    async with pair() as p:
        client, upstream, _ = await p.exchange(get(b"/"))
        await upstream.send(b"HTTP/1.1 200 OK\r\n\r\nab", b"cd")
        upstream.close()
        assert await client.rest() == b"HTTP/1.1 200 OK\r\n\r\nabcd"


@both_loops
async def test_http_1_0_client_is_closed_after_the_response() -> None:
    async with pair() as p:
        client, upstream, head = await p.exchange(b"GET / HTTP/1.0\r\n\r\n")
        assert (
            without_made_id(head)
            == b"GET / HTTP/1.0\r\nX-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\n\r\n"
        )
        await upstream.send(OK)
        assert await client.rest() == OK
        assert await upstream.rest() == b""


@both_loops
async def test_http_1_0_keep_alive_holds_when_both_sides_say_so() -> None:
    async with pair() as p:
        ask = b"GET / HTTP/1.0\r\nHost: a\r\nConnection: Keep-Alive\r\n\r\n"
        client, upstream, head = await p.exchange(ask)
        assert b"\r\nConnection: keep-alive\r\n" in head
        answer = b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok"
        await upstream.send(answer)
        assert await client.exactly(len(answer)) == answer
        await client.send(ask)
        await upstream.head()
        await upstream.send(OK)  # does not say so
        assert await client.rest() == OK


@both_loops
async def test_close_asked_for_by_the_client_reaches_the_upstream_and_happens() -> None:
    async with pair() as p:
        client, upstream, head = await p.exchange(
            get(b"/", b"Connection: x-hop, Close", b"X-Hop: 1", b"Keep-Alive: 5")
        )
        assert without_made_id(head) == get(b"/", b"Connection: close")[:-2] + FORWARDED
        await upstream.send(OK)
        assert await client.rest() == OK


@both_loops
async def test_close_announced_by_the_upstream_happens() -> None:
    async with pair() as p:
        client, upstream, _ = await p.exchange(get(b"/"))
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
        await upstream.send(answer)
        assert await client.rest() == answer
        assert await upstream.rest() == b""
