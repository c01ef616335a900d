"""More clients than are allowed: the control paths are answered whatever they do."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from tests.relay.raw.loops import both_loops
from tests.relay.raw.peers import OK, Pair, get, message, pair, settle

if TYPE_CHECKING:
    import pytest

CONTROL = (b"/health", b"/ready", b"/api/init")


async def _all_answered(p: Pair) -> None:
    for path in CONTROL:
        probe = await p.sent(get(path, b"Connection: close"))
        assert (await probe.rest()).startswith(b"HTTP/1.1 200 ")


@both_loops
async def test_at_the_limit_control_paths_are_answered_and_others_are_503() -> None:
    async with pair(connections=2) as p:
        await p.kept()
        await p.connect()
        await _all_answered(p)
        other = await p.sent(get(b"/"))
        answer = await other.rest()
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"Retry-After: " in answer
        assert b"too many connections" in answer
        assert p.relay.refusals["too_many"] == 1


@both_loops
async def test_connection_over_the_limit_is_kept_for_control_paths_only() -> None:
    async with pair(connections=1) as p:
        first = await p.connect()
        await settle(lambda: p.relay.open_connections == 1)
        probe = await p.sent(get(b"/health"))
        await probe.response()
        first.close()
        await settle(lambda: p.relay.open_connections == 1)
        await p.kept()  # there is room for another again
        await probe.send(get(b"/health"))
        await probe.response()
        await probe.send(get(b"/"))
        assert (await probe.rest()).startswith(b"HTTP/1.1 503 ")


@both_loops
async def test_flood_of_idle_connections_does_not_keep_probes_out() -> None:
    async with pair(connections=8, places=4) as p:
        flood = [await p.connect() for _ in range(60)]
        await settle(lambda: p.relay.connections == 60)
        await settle(lambda: p.relay.open_connections == 12)
        await _all_answered(p)
        assert p.relay.crowd.late == 60 - 8 + len(CONTROL)
        for wire in flood:
            wire.close()


@both_loops
async def test_flood_in_the_places_of_probes_does_not_keep_them_out() -> None:
    """Event streams and heads that never end are cut for who comes next."""
    async with pair(connections=1, places=4) as p:
        await p.connect()
        await settle(lambda: p.relay.open_connections == 1)
        for _ in range(4):
            await p.sent(get(b"/api/init?wait=9"))
        await settle(lambda: p.control_connections == 4)
        await _all_answered(p)
        for _ in range(4):
            await p.sent(message(b"GET /health HTTP/1.1", b"Host: a")[:-2])
        await _all_answered(p)
        p.polled.set()


@both_loops
async def test_client_that_has_begun_to_ask_is_not_cut_for_silent_ones() -> None:
    async with pair(connections=1, places=3) as p:
        await p.connect()
        await settle(lambda: p.relay.open_connections == 1)
        asking = await p.sent(b"GET /health HTTP/1.1\r\n")
        silent = [await p.connect() for _ in range(20)]
        await settle(lambda: p.relay.connections == 22)
        await asking.send(b"Host: a\r\n\r\n")
        assert (await asking.head()).startswith(b"HTTP/1.1 200 ")
        assert (await silent[0].ending())[0] == b""


@both_loops
async def test_a_crowd_is_logged_once_when_it_comes_and_once_when_it_is_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    async with pair(connections=4, places=2) as p:
        inside = [await p.connect() for _ in range(4)]
        await settle(lambda: p.relay.connections == 4)
        for _ in range(3):
            other = await p.sent(get(b"/"))
            await other.rest()
        for wire in inside:
            wire.close()
        await settle(lambda: p.relay.open_connections == 0)
        told = [record for record in caplog.records if "limit" in record.message]
        assert [record.levelname for record in told] == ["WARNING", "INFO"]
        assert told[0].__dict__["limit"] == 4
        assert told[1].__dict__["late"] == 3
        client, upstream, _ = await p.exchange(get(b"/"))
        await upstream.send(OK)
        assert (await client.response())[1] == b"ok"


@both_loops
async def test_many_that_come_and_go_at_once_leave_the_count_right() -> None:
    async with pair(connections=3, places=2) as p:
        for _ in range(5):
            wires = await asyncio.gather(*(p.connect() for _ in range(20)))
            for wire in wires[::2]:
                wire.reset()
            for wire in wires[1::2]:
                wire.close()
        await settle(lambda: p.relay.connections == 100 and p.relay.open_connections == 0)
        for _ in range(3):
            await p.exchange(get(b"/"))
        late = await p.sent(get(b"/"))
        assert (await late.rest()).startswith(b"HTTP/1.1 503 ")
