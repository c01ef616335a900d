"""What is answered in the upstream's place, and long pipelines."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from proxy.lifecycle.gate import Verdict
from proxy.relay import Refusal
from proxy.settings import TcpAddress, UnixAddress
from tests.relay.raw.loops import both_loops
from tests.relay.raw.peers import OK, get, message, pair, settle
from tests.relay.requestids import without_made_id

if TYPE_CHECKING:
    from pathlib import Path


@both_loops
async def test_everything_is_refused_while_the_gate_is_shut_and_kept_alive() -> None:
    async with pair() as p:
        p.verdict = Verdict.REFUSE
        client = await p.sent(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
        head, body = await client.response()
        assert head.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nRetry-After: 1\r\n" in head
        assert "detail" in json.loads(body)
        await client.send(b"HEAD /x HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await client.head()).startswith(b"HTTP/1.1 503 ")
        p.verdict = Verdict.RELAY
        await client.send(get(b"/x"))
        assert (await (await p.accept()).head()).startswith(b"GET /x ")


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n",
        b"GET / HTTP/1.0\r\nHost: a\r\n\r\n",
    ],
)
@both_loops
async def test_a_refused_request_whose_end_is_open_ends_the_connection(request_: bytes) -> None:
    async with pair() as p:
        p.verdict = Verdict.REFUSE
        client = await p.sent(request_)
        answer = await client.rest()
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nConnection: close\r\n" in answer
        assert answer.count(b"HTTP/1.1") == 1
        assert p.accepted.empty()


@both_loops
async def test_closing_gate_ends_the_connection() -> None:
    async with pair() as p:
        p.verdict = Verdict.CLOSE
        client = await p.sent(get(b"/"))
        assert b"\r\nConnection: close\r\n" in await client.rest()


@both_loops
async def test_refusal_carries_the_headers_it_was_given() -> None:
    policy = ("Content-Security-Policy", "default-src 'none'")
    page = Refusal(b"<p>wait</p>", "text/html", (policy, ("Vary", "Accept")))
    async with pair(refuse=lambda _verdict, _head: page) as p:
        p.verdict = Verdict.REFUSE
        head, body = await (await p.sent(get(b"/"))).response()
        assert b"\r\nContent-Type: text/html\r\n" in head
        assert b"\r\nContent-Security-Policy: default-src 'none'\r\nVary: Accept\r\n" in head
        assert body == b"<p>wait</p>"


@both_loops
async def test_refused_connection_to_the_upstream_is_502(unused_tcp_port: int) -> None:
    async with pair(dial=TcpAddress("127.0.0.1", unused_tcp_port)) as p:
        client = await p.sent(get(b"/"))
        answer = await client.rest()
        assert answer.startswith(b"HTTP/1.1 502 ")
        assert b"cannot connect to the upstream: Connection refused" in answer


@both_loops
async def test_unix_sockets_on_both_sides(tmp_path: Path) -> None:
    async with pair(unix=tmp_path) as p:
        client, upstream, head = await p.exchange(
            b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n"
        )
        expected = get(b"/", b"X-Forwarded-Proto: http", b"X-Forwarded-Host: a")
        assert without_made_id(head) == expected
        await upstream.send(OK)
        assert (await client.response())[1] == b"ok"


@both_loops
async def test_missing_unix_socket_of_the_upstream_is_502(tmp_path: Path) -> None:
    async with pair(dial=UnixAddress(str(tmp_path / "none"))) as p:
        client = await p.sent(get(b"/"))
        assert (await client.rest()).startswith(b"HTTP/1.1 502 ")


@both_loops
async def test_counters_count() -> None:
    async with pair() as p:
        client, _ = await p.kept(b"/")
        relay = p.relay
        assert (relay.connections, relay.requests, relay.open_connections) == (1, 1, 1)
        assert (relay.bytes_in, relay.bytes_out) == (27, len(OK))
        client.close()
        await settle(lambda: relay.open_connections == 0)


@both_loops
async def test_long_pipeline_is_refused_one_by_one() -> None:
    async with pair() as p:
        p.verdict = Verdict.REFUSE
        client = await p.connect()
        sending = asyncio.create_task(client.send(get(b"/") * 5000 + b"\r\n" * 50_000))
        for _ in range(5000):
            assert (await client.response())[0].startswith(b"HTTP/1.1 503 ")
        await sending
        p.verdict = Verdict.RELAY
        await client.send(get(b"/last"))
        assert (await (await p.accept()).head()).startswith(b"GET /last ")


@both_loops
async def test_long_pipeline_of_odd_sizes_is_relayed_in_order() -> None:
    async with pair() as p:
        requests = [
            message(
                b"POST /%d HTTP/1.1" % number,
                b"Host: a",
                b"X: " + b"x" * (number * 997 % 20_000),
                b"Content-Length: %d" % (number * 1009 % 30_000),
                body=b"y" * (number * 1009 % 30_000),
            )
            for number in range(60)
        ]
        client = await p.connect()
        sending = asyncio.create_task(client.send(b"".join(requests)))
        upstream = await p.accept()
        for number in range(60):
            assert (await upstream.head()).startswith(b"POST /%d " % number)
            await upstream.exactly(number * 1009 % 30_000)
            await upstream.send(OK)
            assert (await client.response())[1] == b"ok"
        await sending
