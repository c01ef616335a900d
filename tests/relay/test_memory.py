"""Bodies of 100 MB in both directions, through a relay whose memory is watched."""

from __future__ import annotations

import asyncio
import resource
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.relay.raw.peers import Wire, message

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.slow

SIZE = 100_000_000
BLOCK = b"x" * 1_000_000
ROOT = Path(__file__).resolve().parents[2]


def resident(pid: int) -> int:
    """Bytes; proc(5)."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


@asynccontextmanager
async def relay_process(port: int) -> AsyncIterator[tuple[int, int]]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.relay.raw.relay_process", str(port), cwd=ROOT,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdin is not None
    yield int(await process.stdout.readline()), process.pid
    process.stdin.close()
    assert await process.wait() == 0


async def _drop(wire: Wire, size: int) -> None:
    while size:
        data = await wire.some()
        assert data
        size -= len(data)


async def _download(client: Wire, upstream: Wire, size: int) -> None:
    await client.send(message(b"GET / HTTP/1.1", b"Host: a"))
    await upstream.head()
    dropping = asyncio.create_task(_drop_body(client, size))
    await upstream.send(message(b"HTTP/1.1 200 OK", b"Content-Length: %d" % size))
    for _ in range(size // len(BLOCK)):
        await upstream.send(BLOCK)
    await dropping


async def _upload(client: Wire, upstream: Wire, size: int) -> None:
    await client.send(message(b"POST / HTTP/1.1", b"Host: a", b"Content-Length: %d" % size))
    dropping = asyncio.create_task(_drop_body(upstream, size))
    for _ in range(size // len(BLOCK)):
        await client.send(BLOCK)
    await dropping
    await upstream.send(message(b"HTTP/1.1 200 OK", b"Content-Length: 0"))
    await client.head()


async def _drop_body(wire: Wire, size: int) -> None:
    await wire.head()
    await _drop(wire, size)


@pytest.mark.parametrize("transfer", [_download, _upload])
async def test_100_mb_pass_in_constant_memory(transfer: object) -> None:
    assert callable(transfer)
    accepted: asyncio.Queue[Wire] = asyncio.Queue()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.put_nowait(Wire(reader, writer))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    async with relay_process(server.sockets[0].getsockname()[1]) as (port, pid):
        client = Wire(*await asyncio.open_connection("127.0.0.1", port))
        await client.send(message(b"GET / HTTP/1.1", b"Host: a"))
        upstream = await accepted.get()
        await upstream.head()
        await upstream.send(message(b"HTTP/1.1 200 OK", b"Content-Length: 0"))
        await client.head()
        before = resident(pid)
        await transfer(client, upstream, SIZE)
        assert resident(pid) - before < 10_000_000
        client.close()
        upstream.close()
    server.close()
