"""However the bytes of both sides are cut into reads, the outcome is the same.

Searched for on the pure part, thousands of cases a second; a few of the same go through sockets.
"""

from __future__ import annotations

import asyncio
import itertools
from contextlib import suppress
from typing import TYPE_CHECKING
from unittest.mock import ANY

import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.relay.exchange.intake import Fault
from proxy.relay.http.chunks import ChunkError, ChunkReader
from tests.relay.raw import strict
from tests.relay.raw.corpus_requests import ACCEPTED, REFUSED
from tests.relay.raw.corpus_responses import BAD, CUT, SAME
from tests.relay.raw.peers import OK, PATIENCE, Pair, Wire, get, message, pair
from tests.relay.raw.played import Played
from tests.relay.requestids import strip_ids

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

MANY = settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
FEW = settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def cut(data: bytes, places: list[int]) -> list[bytes]:
    at = sorted({place % len(data) for place in places} | {0, len(data)}) if data else [0, 0]
    return [data[start:end] for start, end in itertools.pairwise(at)]


PLACES = st.lists(st.integers(0, 10**6), max_size=12)
SHORT = [case for case in ACCEPTED if len(case) < 2000]
KEPT = [case for case in SHORT if b"HTTP/1.0" not in case and b": close" not in case]


def one_by_one(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def relayed(sent: bytes, segments: list[bytes]) -> strict.Request:
    """What the upstream gets of one whole request."""
    played = Played()
    played.client(segments)
    request, rest = strict.read(played.to_upstream)
    assert not rest
    assert not played.intake.held
    strip_ids(request, strict.read(sent.lstrip(b"\r\n"))[0])
    return request


@MANY
@given(sent=st.sampled_from(ACCEPTED), places=PLACES)
def test_request_cut_anywhere_arrives_the_same(sent: bytes, places: list[int]) -> None:
    assert relayed(sent, cut(sent, places)) == relayed(sent, [sent])


@MANY
@given(case=st.sampled_from(REFUSED), places=PLACES)
def test_refused_request_cut_anywhere_is_refused(
    case: tuple[int, bytes], places: list[int]
) -> None:
    played = Played()
    played.client(cut(case[1], places))
    # One that only lacks its end is refused when its time is up.
    follows = played.ending if played.over else played.talk.too_slow(stuck=None, paused=False)
    assert isinstance(follows, Fault)
    assert 400 <= follows.status < 600
    # A body that broke later than its head must not have come to an end.
    assert not played.to_upstream.endswith(b"0\r\n\r\n")


@MANY
@given(sent=st.sampled_from(SAME + BAD), places=PLACES)
def test_response_cut_anywhere_arrives_the_same(sent: bytes, places: list[int]) -> None:
    played = Played()
    played.client([get(b"/")])
    played.upstream(cut(sent, places))
    if not played.over:
        played.upstream_over(reset=False)
    if sent in SAME:
        assert played.to_client == sent
        assert not isinstance(played.ending, Fault)
    else:
        assert played.ending == Fault(502, ANY)
        assert b"HTTP/1.1 2" not in played.to_client


@MANY
@given(case=st.sampled_from(CUT), places=PLACES, reset=st.booleans())
def test_response_that_goes_wrong_ends_the_connection_wherever_its_reads_end(
    case: tuple[bytes, bytes], places: list[int], *, reset: bool
) -> None:
    played = Played()
    played.client([get(b"/")])
    played.upstream(cut(case[0] + case[1], places))
    if not played.over:
        played.upstream_over(reset=reset)
    assert (case[0] + case[1]).startswith(played.to_client)
    assert played.to_client.startswith(case[0])
    assert played.over


@MANY
@given(
    sent=st.lists(st.sampled_from(KEPT), min_size=2, max_size=6),
    places=PLACES,
    answers=st.data(),
)
def test_pipeline_cut_anywhere_is_answered_in_order(
    sent: list[bytes], places: list[int], answers: st.DataObject
) -> None:
    played = Played()
    played.client(cut(b"".join(sent), places))
    expected = b""
    for number, request in enumerate(sent):
        assert len(played.requests) == number + 1  # the next one waits for its turn
        head = played.requests[-1]
        assert head.raw.split(b" ")[:2] == request.lstrip(b"\r\n").split(b" ")[:2]
        body = b"" if head.method == b"HEAD" else b"%d" % number
        answer = message(b"HTTP/1.1 200 OK", b"Content-Length: 1", body=body)
        played.upstream(cut(answer, answers.draw(PLACES)))
        expected += answer
        assert played.to_client == expected
    assert not played.over
    assert not played.talk.busy


@pytest.mark.parametrize("sent", SHORT)
def test_request_byte_by_byte_arrives_the_same(sent: bytes) -> None:
    assert relayed(sent, one_by_one(sent)) == relayed(sent, [sent])


# The same by sockets.


def run(scenario: Callable[[Pair], Awaitable[None]], *, loop: str) -> None:
    async def main() -> None:
        async with pair() as p, asyncio.timeout(PATIENCE):
            await scenario(p)

    factory = uvloop.new_event_loop if loop == "uvloop" else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())


async def trickle(wire: Wire, segments: list[bytes]) -> None:
    """Send so that most segments are reads of their own at the relay."""
    with suppress(ConnectionError):
        for segment in segments:
            wire.writer.write(segment)
            await wire.writer.drain()
            await asyncio.sleep(0)
            await asyncio.sleep(0)


async def seen(p: Pair, sent: bytes, segments: list[bytes]) -> tuple[strict.Request, bytes]:
    """What the upstream read, and what the client got in answer."""
    client = await p.connect()
    sending = asyncio.create_task(trickle(client, segments))
    upstream = await p.accept()
    got = b""
    request = None
    while request is None:
        got += await upstream.some()
        with suppress(ValueError):
            request, rest = strict.read(got)
            assert not rest
    strip_ids(request, strict.read(sent.lstrip(b"\r\n"))[0])
    await sending
    head = request.line.startswith(b"HEAD ")
    await upstream.send(OK[:-2] if head else OK)
    answer = await client.head() if head else await client.exactly(len(OK))
    client.close()
    return request, answer


@FEW
@given(sent=st.sampled_from(SHORT), places=PLACES, loop=st.sampled_from(["asyncio", "uvloop"]))
def test_request_cut_anywhere_arrives_the_same_by_sockets(
    sent: bytes, places: list[int], loop: str
) -> None:
    async def scenario(p: Pair) -> None:
        assert await seen(p, sent, cut(sent, places)) == await seen(p, sent, [sent])

    run(scenario, loop=loop)


@FEW
@given(
    case=st.sampled_from([case for case in REFUSED if len(case[1]) < 2000]),
    places=PLACES,
    loop=st.sampled_from(["asyncio", "uvloop"]),
)
def test_refused_request_cut_anywhere_is_refused_by_sockets(
    case: tuple[int, bytes], places: list[int], loop: str
) -> None:
    async def scenario(p: Pair) -> None:
        client = await p.connect()
        await trickle(client, cut(case[1], places))
        answer, _ = await client.ending()
        assert answer[:10] in {b"HTTP/1.1 4", b"HTTP/1.1 5"}
        if not p.accepted.empty():
            # A body that broke later than its head: it must not have come to an end.
            arrived, _ = await (await p.accept()).ending()
            assert not arrived.endswith(b"0\r\n\r\n")

    run(scenario, loop=loop)


@FEW
@given(
    sent=st.sampled_from(SAME + BAD),
    places=PLACES,
    loop=st.sampled_from(["asyncio", "uvloop"]),
)
def test_response_cut_anywhere_arrives_the_same_by_sockets(
    sent: bytes, places: list[int], loop: str
) -> None:
    async def scenario(p: Pair) -> None:
        client, upstream, _ = await p.exchange(get(b"/"))
        await trickle(upstream, cut(sent, places))
        upstream.close()
        if sent in SAME:
            assert await client.exactly(len(sent)) == sent
            client.eof()  # as a whole answer does not end it
            assert (await client.ending())[0] == b""
        else:
            assert (await client.rest()).startswith(b"HTTP/1.1 502 ")

    run(scenario, loop=loop)


@FEW
@given(
    sent=st.lists(st.sampled_from(KEPT), min_size=2, max_size=4),
    places=PLACES,
    loop=st.sampled_from(["asyncio", "uvloop"]),
)
def test_pipeline_cut_anywhere_is_answered_in_order_by_sockets(
    sent: list[bytes], places: list[int], loop: str
) -> None:
    async def scenario(p: Pair) -> None:
        client = await p.connect()
        sending = asyncio.create_task(trickle(client, cut(b"".join(sent), places)))
        upstream = await p.accept()
        for number, request in enumerate(sent):
            head = await upstream.head()
            assert head.split(b" ")[:2] == request.lstrip(b"\r\n").split(b" ")[:2]
            await _body(upstream, head)
            body = b"" if head.startswith(b"HEAD") else b"%d" % number
            upstream.writer.write(message(b"HTTP/1.1 200 OK", b"Content-Length: 1", body=body))
            assert await client.head()
            assert await client.exactly(len(body)) == body
        await sending

    run(scenario, loop=loop)


async def _body(upstream: Wire, head: bytes) -> None:
    lower = head.lower()
    if b"\r\ntransfer-encoding:" in lower:
        reader = ChunkReader()
        while not reader.done:
            reader.feed(await upstream.until(b"\n"))
    elif b"\r\ncontent-length:" in lower:
        value = lower.split(b"\r\ncontent-length:")[1].split(b"\r\n")[0]
        await upstream.exactly(int(value))


@settings(max_examples=300, deadline=None)
@given(
    chunks=st.lists(st.binary(min_size=1, max_size=40), max_size=8),
    after=st.binary(max_size=10),
    places=PLACES,
)
def test_chunk_reader_finds_the_end_however_the_body_is_cut(
    chunks: list[bytes], after: bytes, places: list[int]
) -> None:
    body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    reader = ChunkReader()
    pieces: list[bytes] = []
    used = 0
    for segment in cut(body + after, places):
        if reader.done:
            break
        used += reader.feed(segment, pieces)
    assert reader.done
    assert used == len(body)
    assert b"".join(pieces) == b"".join(chunks)


@settings(max_examples=300, deadline=None)
@given(noise=st.text("01a\r\n; \0"), places=PLACES)
def test_chunk_reader_judges_noise_the_same_however_it_is_cut(
    noise: str, places: list[int]
) -> None:
    body = noise.encode()

    def judge(segments: list[bytes]) -> tuple[int, bool] | None:
        reader = ChunkReader()
        used = 0
        try:
            for segment in segments:
                if reader.done:
                    break
                used += reader.feed(segment)
        except ChunkError:
            return None
        return used, reader.done

    whole, pieces = judge([body]), judge(cut(body, places))
    # An error may show later in pieces than at once, but never in one only for good.
    if whole is not None and pieces is not None:
        assert whole == pieces
    else:
        assert not (whole or pieces or (0, False))[1]
