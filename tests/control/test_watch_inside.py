"""Watching a life cycle of the test's own: heartbeats, changes in one breath, gaps, wake-ups."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import aiohttp
import pytest
from aiohttp import web

from proxy.control.watch import Bell, Watch, wants_stream
from proxy.lifecycle.state import Event, Lifecycle
from tests.control.watching import INITIALIZING, Stream
from tests.running import DORMANT, READY

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@asynccontextmanager
async def served(lifecycle: Lifecycle, **kwargs: float) -> AsyncIterator[str]:
    """The stream of a life cycle of the test's own."""
    watch = Watch(lifecycle, dict, **kwargs)

    async def answer(request: web.Request) -> web.StreamResponse:
        return await watch.stream(request, details=False)

    app = web.Application()
    app.add_routes([web.get("/", answer)])
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def test_a_quiet_stream_shows_that_it_lives() -> None:
    async with (
        served(Lifecycle(), heartbeat=0.01) as url,
        aiohttp.ClientSession() as session,
        session.get(url) as answer,
    ):
        await answer.content.readuntil(b"\n\n:\n\n:\n\n")


async def test_changes_in_one_breath_are_all_told() -> None:
    lifecycle = Lifecycle()
    async with (
        served(lifecycle) as url,
        aiohttp.ClientSession() as session,
        session.get(url) as answer,
    ):
        events = Stream(answer)
        assert await events.event() == DORMANT
        for event in (Event.INIT_ACCEPTED, Event.UPSTREAM_READY, Event.DRAIN):
            lifecycle.apply(event)
        assert await events.all() == [INITIALIZING, READY]


async def test_who_has_missed_too_much_gets_the_state() -> None:
    lifecycle = Lifecycle()
    async with served(lifecycle) as url, aiohttp.ClientSession() as session:
        async with session.get(url) as answer:
            events = Stream(answer)
            await events.event()
            old = events.last
        lifecycle.apply(Event.INIT_ACCEPTED)
        for number in range(100):
            lifecycle.apply(Event.RETRIED, f"failed {number}")
        async with session.get(url, headers={"Last-Event-ID": old}) as answer:
            event = await Stream(answer).event()
            assert event == {"state": "initializing", "error": "failed 99"}


@pytest.mark.parametrize("seen", [0, 1, 2, 3, 4])
async def test_the_history_ends_with_its_user(seen: int) -> None:
    """Whoever comes back with a number of the first user's time hears of the second's only."""
    lifecycle = Lifecycle()
    async with served(lifecycle) as url, aiohttp.ClientSession() as session:
        async with session.get(url) as answer:
            events = Stream(answer)
            await events.event()
            epoch = events.last.partition("-")[0]
        for event in (Event.INIT_ACCEPTED, Event.UPSTREAM_READY, Event.UPSTREAM_DIED):
            lifecycle.apply(event, "alice's words" if event is Event.UPSTREAM_DIED else None)
        lifecycle.apply(Event.INIT_FAILED, "alice's last words")
        lifecycle.apply(Event.INIT_ACCEPTED)
        lifecycle.apply(Event.UPSTREAM_READY)
        async with session.get(url, headers={"Last-Event-ID": f"{epoch}-{seen}"}) as answer:
            events = Stream(answer)
            told = [await events.event()]
            while told[-1] != READY:
                told.append(await events.event())
    assert told in ([READY], [INITIALIZING, READY])


async def test_a_bell_wakes_those_who_wait_and_nobody_twice() -> None:
    bell = Bell()
    rung: list[int] = []

    async def wait(number: int) -> None:
        await bell.wait()
        rung.append(number)

    tasks = [asyncio.create_task(wait(number)) for number in range(100)]
    await asyncio.sleep(0)
    tasks[3].cancel()
    bell.ring()
    tasks[50].cancel()
    late = asyncio.create_task(wait(100))
    await asyncio.gather(*tasks, return_exceptions=True)
    assert rung == [number for number in range(100) if number not in {3, 50}]
    assert not late.done()
    bell.ring()
    await late


@pytest.mark.parametrize(
    ("accept", "stream"),
    [
        ("text/event-stream", True),
        ("application/json, Text/Event-Stream;q=0.5", True),
        ("*/*", False),
        ("text/event-streams", False),
        ("", False),
    ],
)
def test_only_those_who_ask_for_events_get_a_stream(accept: str, *, stream: bool) -> None:
    assert wants_stream(accept) is stream
