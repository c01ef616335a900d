"""What the relay counts for the metrics."""

from __future__ import annotations

import pytest

from proxy.lifecycle.gate import Verdict
from proxy.relay.telling.tally import BOUNDS, Tally, Times
from tests.relay.raw.loops import both_loops
from tests.relay.raw.peers import OK, get, pair, settle
from tests.relay.telling.test_access_log import SWITCH, UPGRADE


def count(times: Times) -> float:
    return times.buckets[-1][1]


def counted(tally: Tally) -> dict[tuple[str, str, str], int]:
    return {(s, m, status): count for s, m, status, count in tally.requests() if count}


@both_loops
async def test_requests_are_counted_by_who_answered_method_and_status() -> None:
    tally = Tally()
    async with pair(tally=tally) as p:
        client, upstream = await p.kept()
        for method, status in ((b"PUT", 404), (b"PURGE", 200), (b"BREW", 799)):
            await client.send(get(b"/").replace(b"GET", method))
            await upstream.head()
            await upstream.send(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % status)
            await client.response()
        await client.send(get(b"/health"))
        await client.response()
        p.verdict = Verdict.REFUSE
        await client.send(get(b"/"))
        await client.response()
        await (await p.sent(b"\x16\x03\x01")).rest()
        assert counted(tally) == {
            ("upstream", "GET", "2xx"): 1,
            ("upstream", "PUT", "4xx"): 1,
            ("upstream", "other", "2xx"): 1,
            ("upstream", "other", "other"): 1,
            ("control", "GET", "2xx"): 1,
            ("proxy", "GET", "5xx"): 1,
            ("proxy", "other", "4xx"): 1,
        }
        for times in (tally.first_byte, tally.end):
            assert count(times) == 4  # the upstream's
            assert times.total > 0
        assert not any(tally.cut.values())


@both_loops
async def test_tunnel_counts_when_it_opens_and_its_life_is_no_answer_time() -> None:
    tally = Tally()
    async with pair(tally=tally) as p:
        client, upstream, _ = await p.exchange(get(b"/", *UPGRADE))
        await upstream.send(SWITCH)
        await client.head()
        assert counted(tally) == {("upstream", "GET", "1xx"): 1}
        client.reset()
        await settle(lambda: not p.relay.open_connections)
        assert counted(tally) == {("upstream", "GET", "1xx"): 1}
        assert (count(tally.first_byte), count(tally.end)) == (1, 0)
        assert tally.end.total == pytest.approx(0, abs=1e-9)


@both_loops
async def test_cut_requests_are_counted_by_who_cut_them() -> None:
    tally = Tally()
    async with pair(tally=tally) as p:
        client, _, _ = await p.exchange(get(b"/"))
        client.close()
        await settle(lambda: tally.cut["client"])
        client, upstream, _ = await p.exchange(get(b"/"))
        await upstream.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        await client.head()
        upstream.close()
        await client.ending()
        await settle(lambda: tally.cut["upstream"])
        await p.exchange(get(b"/"))
    assert tally.cut == {"client": 1, "upstream": 1, "timeout": 0, "limit": 0, "shutdown": 1}
    assert counted(tally) == {("upstream", "GET", "none"): 2, ("upstream", "GET", "2xx"): 1}


@both_loops
async def test_nothing_is_counted_any_more_when_nobody_asks() -> None:
    tally = Tally()
    async with pair(tally=tally) as p:
        client, upstream, _ = await p.exchange(get(b"/"))
        p.relay.count_no_more()
        await upstream.send(OK)
        await client.response()
        await client.send(get(b"/"))
        await upstream.head()
        await upstream.send(OK)
        await client.response()
        assert not counted(tally)


@pytest.mark.parametrize(
    ("seconds", "bound"), [(0.0, "0.001"), (0.001, "0.001"), (0.0011, "0.0025"), (1e6, "+Inf")]
)
def test_time_is_in_every_bucket_that_is_not_below_it(seconds: float, bound: str) -> None:
    tally = Tally()
    tally.count(0, b"GET", 200, seconds, seconds)
    times = tally.first_byte
    first = next(name for name, count in times.buckets if count)
    assert first == bound
    assert [name for name, _ in times.buckets] == [*map(str, BOUNDS), "+Inf"]
    assert times.total == seconds


def test_beginning_and_end_of_an_answer_are_counted_apart() -> None:
    tally = Tally()
    tally.count(0, b"GET", 200, 0.02, 7.0)
    tally.count(0, b"GET", 200, 0.02, 0.02)
    tally.count(0, b"GET", 0, 9.0, 9.0)  # no answer: no times
    tally.count(1, b"GET", 200, 9.0, 9.0)  # nor where another than the upstream answered
    begun, ended = dict(tally.first_byte.buckets), dict(tally.end.buckets)
    assert (begun["0.01"], begun["0.025"], begun["+Inf"]) == (0, 2, 2)
    assert (ended["0.025"], ended["5.0"], ended["10.0"], ended["+Inf"]) == (1, 1, 2, 2)
    assert tally.first_byte.total == pytest.approx(0.04)
    assert tally.end.total == pytest.approx(7.02)
