"""What all clients together may have kept for them, and who is turned away when it is used up."""

from __future__ import annotations

import asyncio
import resource
import socket
from contextlib import ExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from proxy.lifecycle.gate import Verdict
from proxy.relay.patience.budget import FREE, RESERVE, Budget, Share
from tests.harness import echo_settings
from tests.relay.raw.loops import both_loops
from tests.relay.raw.peers import Pair, Wire, get, message, pair, settle
from tests.relay.test_memory import resident

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.harness import ProxyProcess, Serve

LARGE = b"\r\n".join([b"A: " + b"x" * 4000] * 5)
MOST = 100  # clients, of whom few have room in the budget
HEADS = {
    "unfinished head": b"GET / HTTP/1.1\r\nHost: a\r\n" + LARGE,
    "held request": get(b"/", LARGE),
    "held body": message(b"POST / HTTP/1.1", b"Host: a", b"Content-Length: 90000", body=LARGE),
    "long poll": get(b"/api/init?wait=60", LARGE),
    "long poll with a body": message(
        b"GET /api/init?wait=60 HTTP/1.1", b"Host: a", b"Content-Length: 90000", body=LARGE
    ),
    "requests behind a long poll": get(b"/api/init?wait=60") + get(b"/health") * 1000,
}


def test_the_newest_is_over_the_budget_and_what_is_given_back_is_there_again() -> None:
    budget = Budget(10_000)
    first, second = Share(budget), Share(budget)
    assert first.charge(6000)
    assert not second.charge(6000)
    assert first.charge(5000)  # it gives some back, though there is too little
    assert second.charge(0)
    assert second.charge(5000)
    assert budget.used == 10_000


def test_what_every_connection_may_cost_is_not_charged() -> None:
    budget = Budget(0)
    share = Share(budget)
    assert share.charge(FREE)
    assert not share.charge(FREE + 1)
    assert share.charge(FREE)
    assert budget.used == 0


def test_an_init_may_use_the_reserve() -> None:
    budget = Budget(FREE)
    assert Share(budget).charge(FREE + RESERVE, reserve=True)
    assert not Share(budget).charge(FREE + 1)


async def crowd(p: Pair, request: bytes) -> list[Wire]:
    """Clients that send it until one of them is refused, which is the last."""
    clients: list[Wire] = []
    while not p.relay.refusals["too_much"]:
        assert len(clients) < MOST
        before = p.relay.bytes_in
        clients.append(await p.sent(request))
        await settle(lambda before=before: p.relay.bytes_in >= before + len(request))
    return clients


@pytest.mark.parametrize("request_", HEADS.values(), ids=HEADS)
@both_loops
async def test_newest_is_refused_and_control_paths_are_answered(request_: bytes) -> None:
    async with pair(hold=60) as p:
        p.verdict = Verdict.HOLD
        p.relay.shared.budget.most = 100_000
        *earlier, last = await crowd(p, request_)
        answer, how = await last.ending()
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nConnection: close\r\n" in answer
        assert how == "eof"
        assert earlier
        assert p.relay.open_connections >= len(earlier)
        assert p.relay.kept_bytes <= 100_000
        for path in (b"/health", b"/ready", b"/api/init"):
            client = await p.sent(get(path))
            assert (await client.response())[0].startswith(b"HTTP/1.1 200 ")
        order = message(
            b"POST /api/init HTTP/1.1", b"Host: a", b"Content-Length: 100000", body=b"x" * 100_000
        )
        assert (await (await p.sent(order)).response())[0].startswith(b"HTTP/1.1 200 ")
        for client in earlier:
            client.close()
        p.polled.set()  # who has ended its side may only have ended that
        await settle(lambda: not p.relay.kept_bytes)


@both_loops
async def test_client_that_does_not_read_what_the_proxy_answers_is_cut() -> None:
    async with pair() as p:
        p.verdict = Verdict.REFUSE
        p.relay.shared.budget.most = 10_000
        client = await p.connect()
        client.pause()
        client.writer.write(get(b"/") * 60_000)
        await settle(lambda: p.relay.connections and not p.relay.open_connections)
        assert not p.relay.kept_bytes


LARGER = b"\r\n".join([b"A: " + b"x" * 4000] * 15)
LARGEST = (
    b"GET / HTTP/1.1\r\nHost: a\r\n" + LARGER,
    message(b"POST / HTTP/1.1", b"Host: a", b"Content-Length: 900000", body=LARGER * 3),
    get(b"/api/init?wait=60", LARGER),
    get(b"/health", LARGER),
)


@pytest.mark.slow
async def test_thousands_of_large_requests_stay_under_the_limit_of_the_manifests(
    serve: Serve, tmp_path: Path
) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    async with starting(serve, tmp_path) as proxy:
        host, _, port = proxy.url.removeprefix("http://").rpartition(":")
        for request_ in LARGEST:
            with ExitStack() as clients:
                for _ in range(1500):
                    client = clients.enter_context(socket.create_connection((host, int(port))))
                    client.setblocking(False)
                    client.send(request_)
                assert (await proxy.get("/health"))[0] == 200
                assert await proxy.state() == "initializing"
                assert resident(proxy.process.pid) < 192 * 2**20


@asynccontextmanager
async def starting(serve: Serve, tmp_path: Path) -> AsyncIterator[ProxyProcess]:
    """A proxy whose upstream is on its way for as long as the test lasts."""
    settings = echo_settings(tmp_path, ready={"path": "/api/file", "timeout": 600})
    settings["gate"] = {"hold": 600}
    proxy = await serve(settings)
    init = asyncio.create_task(proxy.init({"env": {"ECHO_READ_FILE": str(tmp_path / "never")}}))
    try:
        await proxy.until("initializing")
        yield proxy
    finally:
        init.cancel()
