"""The same raw requests sent to the upstream directly and through the relay."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import httptools
import pytest

from tests.relay.raw import strict
from tests.relay.raw.corpus_requests import ACCEPTED, REFUSED
from tests.relay.raw.corpus_responses import BAD, CUT, SAME
from tests.relay.raw.peers import PATIENCE, Wire, get, pair
from tests.relay.requestids import strip_ids

FORWARDED = [
    (b"X-Forwarded-For", b" 127.0.0.1"),
    (b"X-Forwarded-Proto", b" http"),
]
KNOWN = {
    m.encode()
    for m in (["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PURGE"])
}


async def arrived(wire: Wire) -> strict.Request:
    """The request as it arrives at an upstream that reads strictly."""
    data = b""
    async with asyncio.timeout(PATIENCE):
        while True:
            with suppress(ValueError):
                request, rest = strict.read(data)
                assert not rest
                return request
            data += await wire.until(b"\n") if b"\r\n\r\n" not in data else await wire.some()


def llhttp_accepts(data: bytes) -> bool:
    class Seen:
        complete = False

        def on_message_complete(self) -> None:
            self.complete = True

    seen = Seen()
    try:
        httptools.HttpRequestParser(seen).feed_data(data)
    except httptools.HttpParserUpgrade:
        return True
    except httptools.HttpParserError:
        return False
    return seen.complete


@pytest.mark.parametrize("sent", ACCEPTED, ids=range(len(ACCEPTED)))
async def test_accepted_request_arrives_as_it_would_directly(sent: bytes) -> None:
    direct, _ = strict.read(sent.lstrip(b"\r\n"))
    async with pair() as p:
        await p.sent(sent)
        relayed = await arrived(await p.accept())
    strip_ids(relayed, direct)
    assert relayed.line == direct.line
    host = direct.get(b"host")
    forwarded = FORWARDED + [(b"X-Forwarded-Host", b" " + value) for value in host]
    assert relayed.end_to_end() == direct.end_to_end()
    assert relayed.fields[-len(forwarded) :] == forwarded
    assert (relayed.body, relayed.trailers) == (direct.body, direct.trailers)
    ours = {b"connection", b"transfer-encoding"}
    extra = [pair for pair in relayed.fields if pair not in direct.fields + forwarded]
    assert {name.lower() for name, _ in extra} <= ours


@pytest.mark.parametrize(("status", "sent"), REFUSED, ids=range(len(REFUSED)))
async def test_refused_request_never_reaches_the_upstream(status: int, sent: bytes) -> None:
    async with pair() as p:
        client = await p.sent(sent)
        answer = await client.rest()
        assert answer.startswith(b"HTTP/1.1 %d " % status)
        assert b"\r\nConnection: close\r\n" in answer
        assert b'{"detail": "' in answer
        assert p.accepted.empty() or not (await (await p.accept()).ending())[0]


@pytest.mark.parametrize(("status", "sent"), REFUSED[::3], ids=range(len(REFUSED[::3])))
async def test_refused_request_is_refused_however_it_is_cut(status: int, sent: bytes) -> None:
    async with pair() as p:
        client = await p.connect()
        with suppress(ConnectionError):
            for at in range(min(len(sent), 200)):
                client.writer.write(sent[at : at + 1])
                await asyncio.sleep(0)
            client.writer.write(sent[200:])
        answer = (await client.ending())[0]
        assert answer[9:10] in {b"4", b"5"}


@pytest.mark.parametrize("sent", ACCEPTED, ids=range(len(ACCEPTED)))
def test_whatever_is_accepted_llhttp_would_accept(sent: bytes) -> None:
    if sent.lstrip(b"\r\n").split(b" ")[0] in KNOWN:
        assert llhttp_accepts(sent)


@pytest.mark.parametrize("sent", SAME, ids=range(len(SAME)))
@pytest.mark.parametrize("ending", ["close", "reset"])
async def test_response_reaches_the_client_as_it_would_directly(sent: bytes, ending: str) -> None:
    async with pair() as p:
        client, upstream, _ = await p.exchange(get(b"/"))
        await upstream.send(sent)
        if ending == "close":
            upstream.close()
            assert await client.exactly(len(sent)) == sent
        else:
            assert await client.exactly(len(sent)) == sent
            upstream.reset()
        client.eof()  # as a whole answer does not end it
        assert (await client.ending())[0] == b""


@pytest.mark.parametrize("sent", BAD, ids=range(len(BAD)))
async def test_response_with_more_than_one_reading_is_502(sent: bytes) -> None:
    async with pair() as p:
        client, upstream, _ = await p.exchange(get(b"/"))
        with suppress(ConnectionError):
            await upstream.send(sent)
        upstream.close()
        answer = await client.rest()
        assert answer.startswith(b"HTTP/1.1 502 ")
        assert answer.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize(("good", "bad"), CUT, ids=range(len(CUT)))
@pytest.mark.parametrize("together", [True, False])
async def test_response_that_goes_wrong_ends_the_connection(
    good: bytes, bad: bytes, *, together: bool
) -> None:
    async with pair() as p:
        # What comes late is the answer to the next request, if there is one.
        client, upstream, _ = await p.exchange(get(b"/") + get(b"/next") * together)
        with suppress(ConnectionError):
            await (upstream.send(good + bad) if together else upstream.send(good, bad))
        got, _ = await client.ending()
        assert got.startswith(good)
        begun = b"chunked" in good and not good.endswith(b"0\r\n\r\n")
        # What breaks arrives up to where it does, and what is whole stays as it was.
        assert (good + bad).startswith(got) if begun else got == good
        assert len(got) < len(good + bad)
