"""Long polls and event streams of `GET /api/init`, on the real proxy."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from tests.control.watching import INITIALIZING, Stream, stream
from tests.harness import KEY
from tests.running import DORMANT, READY

if TYPE_CHECKING:
    from tests.harness import ProxyProcess, Serve

pytestmark = pytest.mark.slow


async def waiting(proxy: ProxyProcess, query: str) -> asyncio.Task[tuple[int, Any]]:
    """A long poll that has reached the proxy, as far as a client can tell."""
    task = asyncio.create_task(proxy.get(f"/api/init?{query}"))
    await asyncio.sleep(0)
    await proxy.get("/health")
    return task


async def test_a_long_poll_answers_when_the_state_changes(serve: Serve) -> None:
    proxy = await serve()
    poll = await waiting(proxy, "wait=60")
    reached = await waiting(proxy, "wait=60&state=ready&details=true")
    assert (await proxy.init({}))[0] == 200
    status, body = await poll
    assert (status, body["state"]) in {(200, "initializing"), (200, "ready")}
    status, body = await reached
    assert (status, body["state"], body["attempt"]) == (200, "ready", 1)


async def test_a_long_poll_for_the_state_there_is_answers_at_once(serve: Serve) -> None:
    proxy = await serve()
    assert await proxy.get("/api/init?wait=300&state=dormant") == (200, DORMANT)
    assert await proxy.get("/api/init?state=ready") == (200, DORMANT)
    assert await proxy.get("/api/init?wait=0") == (200, DORMANT)
    assert await proxy.get("/api/init?wait=0.05&state=ready") == (200, DORMANT)


async def test_a_failed_activation_does_not_end_the_wait_for_ready(serve: Serve) -> None:
    proxy = await serve()
    poll = await waiting(proxy, "wait=60&state=ready")
    assert (await proxy.init({"env": {"ECHO_EXIT": "3"}}))[0] == 500
    assert not poll.done()
    assert (await proxy.init({}))[0] == 200
    assert await poll == (200, READY)


async def test_a_wait_that_makes_no_sense_is_refused(serve: Serve) -> None:
    proxy = await serve()
    for query in (
        *("wait=-1", "wait=x", "wait=", "wait=nan", "wait=301", "wait=1e9", "wait=%D9%A1"),
        *("wait=1&state=warm", "wait=1&wait=1", "details=maybe"),
    ):
        status, body = await proxy.get(f"/api/init?{query}")
        assert status == 400, query
        assert query.rpartition("=")[0].rpartition("&")[2] in body["detail"]


async def test_a_stream_tells_the_state_and_every_change(serve: Serve) -> None:
    proxy = await serve()
    async with stream(proxy) as events:
        assert await events.event() == DORMANT
        assert (await proxy.init({"env": {"ECHO_EXIT": "3"}}))[0] == 500
        assert await events.event() == INITIALIZING
        failed = await events.event()
        assert failed is not None
        assert failed["state"] == "dormant"
        assert "exited with code 3" in failed["error"]
        assert (await proxy.init({}))[0] == 200
        assert [await events.event(), await events.event()] == [INITIALIZING, READY]


async def test_a_stream_with_details_tells_the_phases_too(serve: Serve) -> None:
    proxy = await serve()
    async with stream(proxy, "?details=true") as events:
        assert (await proxy.init({"session_api_keys": ["of-the-user"]}))[0] == 200
        seen = []
        while (event := await events.event()) is not None:
            seen.append((event["state"], event["phase"]))
            assert "of-the-user" not in json.dumps(event)
            if event["state"] == "ready":
                break
    assert seen == [
        ("dormant", None),
        ("initializing", None),
        ("initializing", "start"),
        ("initializing", "probe"),
        ("ready", None),
    ]
    assert event is not None
    assert {"start", "probe", "total"} <= set(event["timings"])


async def test_a_stream_is_resumed_where_it_ended(serve: Serve) -> None:
    proxy = await serve()
    async with stream(proxy) as events:
        await events.event()
        before = events.last
    assert (await proxy.init({}))[0] == 200
    async with stream(proxy, last=before) as events:
        assert [await events.event(), await events.event()] == [INITIALIZING, READY]
        after = events.last
    async with stream(proxy, last=after) as events:
        os.kill((await proxy.get("/api/self"))[1]["pid"], signal.SIGKILL)
        event = await events.event()  # nothing was missed, so the next is news
        assert event is not None
        assert "SIGKILL" in event["error"]


async def test_an_id_of_another_process_gets_the_state(serve: Serve) -> None:
    proxy = await serve()
    for last in ("0", "x-1", "ffffffff-1", "-", "²-²", "a" * 2000):
        async with stream(proxy, last=last) as events:
            assert await events.event() == DORMANT


async def test_shutdown_ends_streams_and_waits_properly(serve: Serve) -> None:
    proxy = await serve()
    poll = await waiting(proxy, "wait=300&state=ready")
    async with stream(proxy) as plain, stream(proxy, "?details=true") as detailed:
        assert await plain.event() == DORMANT
        assert await detailed.event() is not None
        proxy.process.terminate()
        assert await plain.event() is None  # a chunked body that ends as it should
        assert all(event["state"] == "dormant" for event in await detailed.all())
    assert await poll == (200, DORMANT)
    assert await proxy.ended() == 0
    assert not any("cannot answer" in line["message"] for line in proxy.log)


async def test_head_has_no_stream(serve: Serve) -> None:
    proxy = await serve()
    async with proxy.session.head(
        proxy.url + "/api/init", headers={"Accept": "text/event-stream"}
    ) as answer:
        assert (answer.status, answer.content_type) == (200, "application/json")


async def test_watchers_that_hang_up_are_forgotten(serve: Serve) -> None:
    proxy = await serve()
    for query, accept in (("?wait=300", "*/*"), ("", "text/event-stream")):
        for _ in range(20):
            with suppress(TimeoutError):
                async with (
                    asyncio.timeout(0.01),
                    proxy.session.get(
                        proxy.url + "/api/init" + query, headers={"Accept": accept}
                    ) as answer,
                ):
                    await answer.read()
    assert (await proxy.init({}))[0] == 200
    assert await proxy.stop() == 0
    assert not any(line["level"] == "error" for line in proxy.log if "level" in line)


async def test_a_thousand_watchers_are_all_told(serve: Serve) -> None:
    proxy = await serve()
    many = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(connector=many) as session:

        async def poll() -> dict[str, Any]:
            async with session.get(f"{proxy.url}/api/init?wait=60&state=ready") as answer:
                body: dict[str, Any] = await answer.json()
                return body

        async def listen() -> list[dict[str, Any]]:
            headers = {"Accept": "text/event-stream"}
            async with session.get(f"{proxy.url}/api/init", headers=headers) as answer:
                events = Stream(answer)
                seen = [await events.event()]
                begun.release()
                while seen[-1] != READY:
                    seen.append(await events.event())
                return [event for event in seen if event is not None]

        begun = asyncio.Semaphore(0)
        polls = [asyncio.create_task(poll()) for _ in range(500)]
        streams = [asyncio.create_task(listen()) for _ in range(500)]
        for _ in streams:
            await begun.acquire()
        headers = {"X-Init-API-Key": KEY}
        async with session.post(f"{proxy.url}/api/init", json={}, headers=headers) as answer:
            assert await answer.json() == READY
        assert await asyncio.gather(*polls) == [READY] * 500
        assert await asyncio.gather(*streams) == [[DORMANT, INITIALIZING, READY]] * 500
