"""What is open before an init: what clients poll, and what a dormant server tells everybody."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.activation.native.waiting import (
    BODY,
    KEY,
    READY,
    claimable,
    mood,
    settings,
    waiting,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.harness import Serve


async def test_alive_is_answered_as_health_in_every_state(serve: Serve, tmp_path: Path) -> None:
    mood(tmp_path, boot="silent")
    proxy = await serve(settings(tmp_path))
    assert await proxy.get("/alive") == await proxy.get("/health") == (200, {"status": "ok"})
    await proxy.stop()
    mood(tmp_path)
    proxy = await waiting(serve, tmp_path)
    assert await proxy.get("/alive") == (200, {"status": "ok"})
    assert await proxy.init(BODY) == READY
    assert await proxy.get("/alive") == (200, {"status": "ok"})
    assert (await proxy.request("POST", "/alive"))[0] == 405


async def test_a_dormant_server_is_asked_for_what_it_leaves_open(
    serve: Serve, tmp_path: Path
) -> None:
    proxy = await waiting(serve, tmp_path)
    for path in ("/server_info", "/server_info?a=b", "/"):
        assert (await proxy.get(path))[1]["state"] == "dormant"
    async with proxy.session.head(proxy.url + "/server_info") as answer:
        assert answer.status == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/server_info"),
        ("OPTIONS", "/server_info"),
        ("GET", "/server_info/"),
        ("GET", "//server_info"),
        ("GET", "/server%5finfo"),
        ("GET", "/./server_info"),
        ("GET", "/api/init/"),
        ("POST", "/api/init/"),
        ("GET", "/api/self"),
        ("GET", "/ready/"),
    ],
)
async def test_nothing_else_reaches_a_dormant_server(
    serve: Serve, tmp_path: Path, method: str, path: str
) -> None:
    proxy = await waiting(serve, tmp_path)
    status, answer = await proxy.request(method, path)
    assert (status, answer) == (503, {"detail": "the agent server is not ready"})


async def test_once_it_is_ready_the_session_keys_decide_at_the_gate_too(
    serve: Serve, tmp_path: Path
) -> None:
    proxy = await serve(settings(tmp_path) | {"gate": {"session_keys": "enforce"}})
    await claimable(proxy)
    assert (await proxy.get("/server_info"))[0] == 200
    assert await proxy.init(BODY) == READY
    assert (await proxy.get("/server_info"))[0] == 401
    assert (await proxy.get("/server_info", headers={"X-Session-API-Key": KEY}))[0] == 200
