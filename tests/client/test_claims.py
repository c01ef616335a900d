"""The client's claims, waits and watches: on the real proxy, and on servers that lack them."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from proxy.client import InitClient, InitStatus, LostError, RefusedError, UnreachableError
from tests.client.orchestrated import scripted
from tests.harness import KEY

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.harness import Serve

pytestmark = pytest.mark.slow

BODY = {"env": {"CLAIM": "mine"}}


class Forwarder:
    """A TCP forwarder that cuts the first `cuts` connections once their request is delivered."""

    def __init__(self, target: str, cuts: int) -> None:
        self._host, _, port = target.removeprefix("http://").rpartition(":")
        self._port = int(port)
        self.cuts = cuts
        self.connections = 0
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        cut = self.connections <= self.cuts
        theirs, to_them = await asyncio.open_connection(self._host, self._port)
        if cut:
            to_them.write(await reader.readuntil(b"\r\n\r\n"))
            to_them.write(await reader.readuntil(b"}}"))
            await to_them.drain()
            await theirs.read(1)  # the activation has ended; nobody hears of it
        else:
            await asyncio.gather(pump(reader, to_them), pump(theirs, writer))
        to_them.close()
        writer.close()


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


@asynccontextmanager
async def forwarder(target: str, cuts: int) -> AsyncIterator[Forwarder]:
    running = Forwarder(target, cuts)
    listener = await asyncio.start_server(running.serve, "127.0.0.1", 0)
    running.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    async with listener:
        yield running


async def test_a_claim_whose_answer_is_lost_is_asked_for_again(serve: Serve) -> None:
    proxy = await serve()
    lost: list[LostError] = []
    async with forwarder(proxy.url, cuts=2) as between, InitClient(between.url, KEY) as client:
        assert await client.claim(BODY, on_lost=lost.append) == InitStatus("ready")
        assert between.connections == 3
    assert len(lost) == 2
    assert (await proxy.get("/api/init?details=true"))[1]["attempt"] == 1
    assert (await proxy.get("/api/env"))[1]["CLAIM"] == "mine"


async def test_an_init_whose_answer_is_lost_is_not_asked_for_again(serve: Serve) -> None:
    proxy = await serve()
    async with forwarder(proxy.url, cuts=1) as between, InitClient(between.url, KEY) as client:
        with pytest.raises(LostError):
            await client.init(BODY)
        assert between.connections == 1


async def test_a_claim_of_ones_own_can_be_repeated_and_no_other(serve: Serve) -> None:
    proxy = await serve()
    async with InitClient(proxy.url, KEY) as client:
        assert (await client.claim(BODY, claim_id="one")).state == "ready"
        assert (await client.claim(BODY, claim_id="one")).state == "ready"
        for again in (client.claim(BODY), client.claim({}, claim_id="one")):
            with pytest.raises(RefusedError) as caught:
                await again
            assert caught.value.http_status == 409


async def test_a_server_without_claims_leaves_a_doubt_that_is_said() -> None:
    async with scripted() as server:
        server.answer = 400, {"detail": "already initialized"}
        async with forwarder(server.url, cuts=1) as between, InitClient(between.url) as client:
            with pytest.raises(RefusedError, match="already initialized; the request whose answer"):
                await client.claim(BODY)
    keys = {headers.get("Idempotency-Key") for _, _, headers, _ in server.seen}
    assert len(server.seen) == 2
    assert len(keys) == 1  # one claim, generated once
    assert None not in keys


async def test_a_claim_ends_when_its_time_is_up() -> None:
    async with scripted() as server:
        async with forwarder(server.url, cuts=10**6) as between, InitClient(between.url) as client:
            with pytest.raises(LostError):
                await client.claim(BODY, timeout=1)
        server.let_go.clear()
        async with InitClient(server.url) as client:
            with pytest.raises(UnreachableError, match="did not answer in time"):
                await client.claim(BODY, timeout=0.05)


async def test_waiting_on_the_proxy_takes_one_request(serve: Serve) -> None:
    proxy = await serve()
    async with forwarder(proxy.url, cuts=0) as between, InitClient(between.url, KEY) as client:
        waiting = asyncio.create_task(client.wait_for("ready", timeout=60, interval=0.001))
        while not between.connections:
            await asyncio.sleep(0.001)
        async with InitClient(proxy.url, KEY) as other:
            await other.claim()
        assert (await waiting).state == "ready"
        assert between.connections == 1


async def test_changes_come_by_the_stream_of_the_proxy(serve: Serve) -> None:
    proxy = await serve()
    async with forwarder(proxy.url, cuts=0) as between, InitClient(between.url) as client:
        async with aclosing(client.changes(details=True)) as changes:
            assert (await anext(changes)).state == "dormant"
            assert (await proxy.init())[0] == 200
            phases = []
            async for status in changes:
                phases.append(status.details["phase"])
                if status.state == "ready":
                    break
        assert phases == [None, "start", "probe", None]
        assert between.connections == 1


async def test_watching_ends_with_the_proxy(serve: Serve) -> None:
    proxy = await serve()
    async with InitClient(proxy.url) as client, aclosing(client.changes()) as changes:
        await anext(changes)
        await proxy.stop()
        with pytest.raises(UnreachableError):
            await anext(changes)


async def test_a_broken_stream_is_taken_up_again() -> None:
    resumed: asyncio.Queue[str | None] = asyncio.Queue()

    async def break_off(request: web.Request) -> web.StreamResponse:
        resumed.put_nowait(request.headers.get("Last-Event-ID"))
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b'event: status\nid: x\ndata: {"state": "initializing",\n')
        await response.write(b'data: "error": null}\n\n: comment\n\ndata: {"sta')
        assert request.transport is not None
        request.transport.abort()
        return response

    app = web.Application()
    app.add_routes([web.get("/api/init", break_off)])
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with (
        InitClient(f"http://127.0.0.1:{runner.addresses[0][1]}") as client,
        aclosing(client.changes(interval=0.01)) as changes,
    ):
        assert await anext(changes) == InitStatus("initializing")
        following = asyncio.ensure_future(anext(changes))
        assert [await resumed.get(), await resumed.get()] == [None, "x"]
        await runner.cleanup()
        with pytest.raises(UnreachableError):
            await following
