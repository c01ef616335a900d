"""What one request may cost here, whatever its client puts into it."""

from __future__ import annotations

import asyncio
import itertools
import socket
import string
import tracemalloc
from contextlib import suppress

import pytest

from proxy.lifecycle.gate import Verdict
from proxy.relay.http.forwarding import Forwarding
from proxy.relay.http.reader import HeadReader
from proxy.settings import LimitSettings
from tests.relay.raw.loops import both_loops
from tests.relay.raw.peers import get, message, pair, settle

pytestmark = pytest.mark.slow

READER = HeadReader(LimitSettings())
CLIENT = Forwarding(b"1.2.3.4", trusted=False)


def naming(count: int, ending: str) -> bytes:
    """A head whose `Connection` names `count` fields."""
    letters = itertools.product(string.ascii_lowercase, repeat=3)
    names = ("".join(name) + ending for name in itertools.islice(letters, count))
    line = "Connection: " + ",".join(names)
    return message(b"GET / HTTP/1.1", b"Host: a", line.encode())


def test_a_connection_that_names_thousands_of_fields_leaves_nothing_behind() -> None:
    READER.read(naming(10_000, "-"))
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(20):
            assert READER.read(naming(10_000, string.digits[number % 10] * (number // 10 + 1)))
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 200_000


def test_fields_that_connection_names_stop_here_however_many_it_names() -> None:
    head = READER.read(
        message(
            b"GET / HTTP/1.1",
            b"Host: a",
            b"AAA-: 1",
            b"x-aaa-: 2",
            b"aaa--: 3",
            b"Connection: " + naming(5_000, "-").partition(b"Connection: ")[2].rstrip(),
            b"aba-:4",
        )
    )
    assert head is not None
    out = head.forward(CLIENT, b"0-1", upstream=True)
    assert out.startswith(b"GET / HTTP/1.1\r\nHost: a\r\nx-aaa-: 2\r\naaa--: 3\r\nX-Forwarded-For")


@both_loops
async def test_client_that_asks_the_control_plane_and_hangs_up_leaves_nothing_behind() -> None:
    async with pair() as p:
        for _ in range(20):
            client = await p.sent(get(b"/health"))
            client.close()
        await settle(lambda: p.relay.connections == 20 and not p.relay.open_connections)
        await settle(lambda: not p.relay.shared.dialler.under_way)
        await settle(lambda: not p.control_connections)


@pytest.mark.parametrize(
    "request_",
    [get(b"/"), message(b"POST / HTTP/1.1", b"Host: a", b"Content-Length: 1", body=b"x")],
)
@both_loops
async def test_refused_requests_in_a_long_pipeline_leave_turns_to_others(request_: bytes) -> None:
    async with pair() as p:
        p.verdict = Verdict.REFUSE
        client = await p.connect()
        client.writer.write(request_ * 2000)
        before = most = 0
        while before < 2000:
            await asyncio.sleep(0)
            done = p.relay.refusals["not_ready"]
            most, before = max(most, done - before), done
        assert most <= 2
        for _ in range(2000):
            assert (await client.response())[0].startswith(b"HTTP/1.1 503 ")
        await client.send(get(b"/health"))
        assert (await client.head()).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("before", "again"),
    [
        (message(b"POST / HTTP/1.1", b"Host: a", b"Transfer-Encoding: chunked"), b"1\r\nx\r\n"),
        (b"", b"\r\n"),
    ],
)
@both_loops
async def test_many_small_things_that_wait_are_not_read_in_one_turn(
    before: bytes, again: bytes
) -> None:
    async with pair() as p:
        with socket.create_connection(("127.0.0.1", p.port)) as client:
            client.setblocking(False)
            client.send(before)
            if before:
                await (await p.accept()).head()
            sent = fill(client, again)
            done = most = 0
            while done < sent:
                await asyncio.sleep(0)
                most, done = max(most, p.relay.bytes_in - len(before) - done), p.relay.bytes_in
                done -= len(before)
            assert most <= 256 * 1024


def fill(client: socket.socket, again: bytes) -> int:
    """Send as much of it as the kernel holds; the loop has no turn meanwhile."""
    sent = 0
    data = again * (2**17 // len(again))
    with suppress(BlockingIOError):
        while sent < 2**23:
            sent += client.send(data[sent % len(again) :])
    assert sent > 2**20
    return sent
