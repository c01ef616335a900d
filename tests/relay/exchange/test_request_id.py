"""`X-Request-ID`: one name for a request in every log of it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import aiohttp
import pytest

from proxy.lifecycle.gate import Verdict
from tests.relay.raw.loops import both_loops
from tests.relay.raw.peers import OK, Wire, get, message, pair
from tests.relay.requestids import without_made_id

if TYPE_CHECKING:
    from tests.harness import Serve

FORWARDED = b"X-Forwarded-For: 127.0.0.1", b"X-Forwarded-Proto: http", b"X-Forwarded-Host: a"


def ids(head: bytes) -> list[bytes]:
    return re.findall(rb"\r\n[Xx][-_][Rr]equest[-_]I[Dd]: *([^\r]*)", head)


async def asked(upstream: Wire, client: Wire, request: bytes) -> bytes:
    """The head that arrives of one more request on a connection."""
    await client.send(request)
    head = await upstream.head()
    await upstream.send(OK)
    await client.exactly(len(OK))
    return head


@pytest.mark.parametrize(
    "own", [b"a", b"0af7651916cd43dd8448eb211c80319c", b"Root=1-6:x/y+z@host~_.", b"x" * 128]
)
@both_loops
async def test_acceptable_id_goes_on_untouched_and_in_its_place(own: bytes) -> None:
    request = b"x-REQUEST-id:  " + own + b" ", b"A: 1"
    async with pair() as p:
        client, upstream, head = await p.exchange(get(b"/", *request))
        assert head == get(b"/", *request, *FORWARDED)
        await upstream.send(OK)
        assert await client.exactly(len(OK)) == OK
        assert await asked(upstream, client, get(b"/", *request)) == head


@pytest.mark.parametrize(
    "said",
    [
        [b"X-Request-ID:"],
        [b"X-Request-ID: " + b"x" * 129],
        [b"X-Request-ID: a b"],
        [b"X-Request-ID: a,b"],
        [b'X-Request-ID: "a"'],
        [b"X-Request-ID: <script>"],
        [b"X-Request-ID: \xc3\xa9"],
        [b"X-Request-ID: a", b"X-Request-ID: a"],
        [b"X-Request-ID: a", b"x_request_id: b"],
        [b"X_Request_ID: a"],
        [b"X-Request-ID: a", b"Connection: x-request-id"],
    ],
    ids=range(11),
)
@both_loops
async def test_any_other_id_is_replaced(said: list[bytes]) -> None:
    async with pair() as p:
        _, _, head = await p.exchange(get(b"/", *said, b"B: 2"))
        assert without_made_id(head) == get(b"/", b"B: 2", *FORWARDED)


@both_loops
async def test_every_request_has_an_id_of_its_own() -> None:
    async with pair() as p:
        client, upstream, head = await p.exchange(get(b"/"))
        await upstream.send(OK)
        await client.exactly(len(OK))
        seen = ids(head)
        for _ in range(20):
            seen += ids(await asked(upstream, client, get(b"/")))
        _, _, head = await p.exchange(get(b"/"))
        seen += ids(head)
        assert len(seen) == len(set(seen)) == 22


@both_loops
async def test_id_in_the_trailers_ends_here() -> None:
    async with pair() as p:
        request = message(b"PUT / HTTP/1.1", b"Host: a", b"Transfer-Encoding: chunked")
        _, upstream, _ = await p.exchange(request + b"0\r\nX-Request-ID: a\r\nT: v\r\n\r\n")
        assert await upstream.until(b"\r\n\r\n") == b"0\r\nT: v\r\n\r\n"


@both_loops
async def test_trace_context_passes_untouched() -> None:
    trace = (
        b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        b"tracestate: a=1",
    )
    async with pair() as p:
        _, _, head = await p.exchange(get(b"/", *trace))
        assert without_made_id(head) == get(b"/", *trace, *FORWARDED)


@both_loops
async def test_refusals_of_all_kinds_say_the_id() -> None:
    async with pair() as p:
        p.verdict = Verdict.REFUSE
        client = await p.sent(get(b"/", b"X-Request-ID: mine"))
        assert ids(await client.head()) == [b"mine"]
        made = ids(await (await p.sent(get(b"/"))).head())
        assert re.fullmatch(rb"[0-9a-f]{16}-1", made[0])
        broken = await (await p.sent(b"GET / HTTP/1.1\r\nHost : a\r\n\r\n")).rest()
        assert broken.startswith(b"HTTP/1.1 400 ")
        assert re.fullmatch(rb"[0-9a-f]{16}-1", ids(broken)[0])
        p.verdict = Verdict.RELAY
        client, upstream, head = await p.exchange(get(b"/"))
        upstream.close()
        failed = await client.rest()
        assert failed.startswith(b"HTTP/1.1 502 ")
        assert ids(failed) == ids(head)


async def test_control_plane_answers_with_the_id(serve: Serve) -> None:
    proxy = await serve()
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{proxy.url}/health", headers={"X-Request-ID": "mine"}) as answer:
            assert answer.headers.getall("X-Request-ID") == ["mine"]
        async with session.get(f"{proxy.url}/api/init") as answer:
            assert re.fullmatch(r"[0-9a-f]{16}-[0-9a-f]+", answer.headers["X-Request-ID"])
        async with session.post(f"{proxy.url}/api/init", json={"no": 1}) as answer:
            assert answer.status in {401, 422}
            assert "X-Request-ID" in answer.headers
