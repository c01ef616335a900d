"""A request is for the upstream of its time, and never for the one after it, which is another's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from proxy.lifecycle.gate import Verdict
from tests.relay.raw.loops import both_loops
from tests.relay.raw.peers import full_queue, get, message, pair, settle

if TYPE_CHECKING:
    from pathlib import Path

    from tests.relay.raw.peers import Pair

LONG = 60.0  # seconds; no test waits for it
MANY = 100  # more than are judged at once


def judge(p: Pair, *verdicts: Verdict) -> None:
    """The state changes, and again before anybody's turn comes."""
    for verdict in verdicts:
        p.verdict = verdict
        p.relay.reconsider()


@pytest.mark.parametrize("again", [Verdict.HOLD, Verdict.RELAY])
@both_loops
async def test_what_was_held_for_one_upstream_is_not_held_for_the_next(again: Verdict) -> None:
    async with pair(hold=LONG) as p:
        p.verdict = Verdict.HOLD
        clients = [await p.sent(get(b"/", b"X-Session-API-Key: theirs")) for _ in range(MANY)]
        await settle(lambda: len(p.relay.shared.parking) == MANY)
        judge(p, Verdict.REFUSE, again)
        for client in clients:
            assert (await client.head()).startswith(b"HTTP/1.1 503 ")
        judge(p, Verdict.RELAY)
        _, _, head = await p.exchange(get(b"/mine"))
        assert head.startswith(b"GET /mine ")
        assert p.accepted.empty()


@both_loops
async def test_what_came_behind_a_held_request_is_not_for_the_next_upstream_either() -> None:
    async with pair(hold=LONG) as p:
        p.verdict = Verdict.HOLD
        post = message(b"POST / HTTP/1.1", b"Host: a", b"Content-Length: 3", body=b"abc")
        clients = [await p.sent(first + get(b"/behind")) for first in (get(b"/"), post)]
        await settle(lambda: len(p.relay.shared.parking) == len(clients))
        judge(p, Verdict.REFUSE, Verdict.RELAY)
        for client in clients:
            assert (await client.rest()).count(b"HTTP/1.1 503 ") == 1
        assert p.accepted.empty()


@both_loops
async def test_what_was_held_for_one_upstream_ends_with_the_shutdown_after_it() -> None:
    async with pair(hold=LONG) as p:
        p.verdict = Verdict.HOLD
        client = await p.sent(get(b"/"))
        await settle(lambda: p.relay.shared.parking)
        judge(p, Verdict.REFUSE, Verdict.CLOSE)
        assert b"\r\nConnection: close\r\n" in await client.rest()


@both_loops
async def test_connection_that_is_made_while_its_upstream_ends_does_not_reach_the_next() -> None:
    with full_queue() as address:
        async with pair(dial=address, connect_timeout=LONG) as p:
            post = message(b"POST / HTTP/1.1", b"Host: a", b"Content-Length: 9")
            clients = [await p.sent(get(b"/")), await p.sent(post)]
            await settle(lambda: len(p.relay.shared.dialler.under_way) == len(clients))
            judge(p, Verdict.HOLD, Verdict.RELAY)  # the same one was started again
            assert len(p.relay.shared.dialler.under_way) == len(clients)
            judge(p, Verdict.REFUSE, Verdict.RELAY)
            for client in clients:
                answer = await client.rest()
                assert answer.startswith(b"HTTP/1.1 502 ")
                assert b"cannot connect to the upstream: it has ended" in answer
            assert not p.relay.shared.dialler.under_way


POLL = get(b"/api/init?wait=300")
THEIRS = message(b"POST /theirs HTTP/1.1", b"Host: a", b"Content-Length: 6", body=b"secret")


def succeed(p: Pair) -> None:
    """The upstream is gone for good, and then there is another one's."""
    p.verdict = Verdict.REFUSE
    p.relay.reconsider(over=True)
    judge(p, Verdict.HOLD, Verdict.RELAY)


@pytest.mark.parametrize("behind", [THEIRS, THEIRS[:30], POLL + THEIRS, b"\r\n", get(b"/ready")])
@both_loops
async def test_what_came_behind_a_long_poll_is_not_for_the_next_upstream(behind: bytes) -> None:
    async with pair() as p:
        client = await p.sent(POLL + behind)
        await settle(lambda: p.relay.bytes_in == len(POLL + behind) and p.control_connections)
        succeed(p)
        p.polled.set()
        assert (await client.rest()).count(b"HTTP/1.1 ") == 1
        assert p.accepted.empty()


@both_loops
async def test_what_came_and_was_not_read_yet_is_not_for_the_next_upstream() -> None:
    async with pair() as p:
        client = await p.sent(POLL)
        await settle(lambda: p.control_connections)
        client.writer.write(THEIRS)  # no turn of the loop from here on
        succeed(p)
        p.polled.set()
        assert (await client.rest()).count(b"HTTP/1.1 ") == 1
        assert p.accepted.empty()


@both_loops
async def test_what_came_behind_answers_that_were_not_read_is_not_for_the_next_upstream(
    tmp_path: Path,
) -> None:
    # What a Unix socket holds is unread soon; with TCP it may be megabytes.
    async with pair(unix=tmp_path) as p:
        client = await p.connect()
        client.pause()
        requests = get(b"/health") * 10_000 + THEIRS
        client.writer.write(requests)
        await settle(lambda: any(each.wire.stalled for each in p.relay.clients))
        succeed(p)
        client.resume()
        await client.ending()
        assert p.accepted.empty()


@both_loops
async def test_a_poll_with_nothing_behind_it_keeps_its_connection_across_upstreams() -> None:
    async with pair() as p:
        client = await p.sent(POLL)
        idle, _ = await p.kept()
        await settle(lambda: p.control_connections)
        succeed(p)
        p.polled.set()
        for each in (client, idle):
            await each.send(get(b"/ready"))
        for _ in range(2):
            assert (await client.response())[0].startswith(b"HTTP/1.1 200 ")
        assert (await idle.response())[0].startswith(b"HTTP/1.1 200 ")


@both_loops
async def test_control_plane_is_reached_across_changes_of_the_state() -> None:
    async with pair(hold=LONG) as p:
        clients = [await p.sent(get(b"/health")) for _ in range(20)]
        await settle(lambda: p.relay.shared.dialler.under_way)
        judge(p, Verdict.REFUSE, Verdict.CLOSE)
        for client in clients:
            assert (await client.head()).startswith(b"HTTP/1.1 200 ")
