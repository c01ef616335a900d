"""The readiness probe sees an upstream as soon as it listens."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from proxy.activation.readiness.door import met_itself
from proxy.activation.readiness.probe import Probe
from proxy.settings import ReadySettings
from proxy.settings.addresses import parse_url

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from proxy.activation.starter import Exit

NEVER = 3600.0  # seconds: an interval that no test waits for


async def _ready(_request: web.Request) -> web.Response:
    return web.Response()


def _runner() -> web.AppRunner:
    application = web.Application()
    application.router.add_get("/ready", _ready)
    return web.AppRunner(application)


async def _failed_once(probe: Probe) -> None:
    while probe.last_failure is None:
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("kind", ["tcp", "unix"])
async def test_an_upstream_that_begins_to_listen_is_not_left_waiting_for_the_interval(
    kind: str, tmp_path: Path
) -> None:
    runner = _runner()
    await runner.setup()
    # Bound, so that nobody else gets the address, but not listening: connections are refused.
    bound = socket.socket(socket.AF_INET if kind == "tcp" else socket.AF_UNIX)
    bound.bind(("127.0.0.1", 0) if kind == "tcp" else str(tmp_path / "up.sock"))
    port = bound.getsockname()[1] if kind == "tcp" else None
    address = f"http://127.0.0.1:{port}" if kind == "tcp" else f"http+unix://{tmp_path}/up.sock"
    probe = Probe(parse_url(address), ReadySettings(interval=NEVER, timeout=5))
    exited: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
    waiting = asyncio.create_task(probe.wait(exited))
    await _failed_once(probe)
    await web.SockSite(runner, bound).start()
    await asyncio.wait_for(waiting, 60)
    await runner.cleanup()


@asynccontextmanager
async def _answering(
    body: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[Probe]:
    """A probe of a server that says 200 at once, and then what `body` does."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        await body(reader, writer)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    async with server:
        yield Probe(parse_url(url), ReadySettings(interval=NEVER, timeout=60))


async def test_an_upstream_that_has_not_said_everything_is_not_cut_short() -> None:
    cut: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    async def later(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        for _ in range(50):  # turns of the loop that both share: enough for the probe to hang up
            await asyncio.sleep(0)
        cut.set_result(reader.at_eof())

    async with _answering(later) as probe:
        assert await probe.check() is None
    assert not cut.result()


async def test_an_upstream_that_never_stops_talking_is_left() -> None:
    async def on_and_on(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(b"x" * 65536)
                await writer.drain()

    async with _answering(on_and_on) as probe:
        assert await probe.check() is None


def test_a_connection_that_has_met_itself_leaves_the_port_to_the_upstream() -> None:
    """Attempts at a port where nobody listens come to that, when it is one the kernel gives."""
    with socket.socket() as attempt, socket.socket() as upstream:
        attempt.bind(("127.0.0.1", 0))
        address = attempt.getsockname()
        attempt.connect(address)
        assert met_itself(attempt)
        upstream.bind(address)


def test_a_connection_to_somebody_is_kept() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as attempt:
        attempt.connect(server.getsockname())
        assert not met_itself(attempt)
        attempt.send(b"x")
