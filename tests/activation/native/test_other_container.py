"""A dormant server in another container outlives the proxy beside it, as any other does."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from tests.activation.agentcontainer import container
from tests.activation.apart import elsewhere, killed
from tests.activation.native.waiting import (
    BODY,
    KEY,
    READY,
    claimable,
    mood,
    settings,
    start_of,
    told,
    waiting,
)
from tests.running import until_dead

if TYPE_CHECKING:
    from pathlib import Path

    from tests.harness import Serve

pytestmark = pytest.mark.slow


def apart(directory: Path, **upstream: Any) -> dict[str, Any]:
    return elsewhere(directory) | upstream


async def test_a_proxy_that_restarts_finds_the_dormant_server(serve: Serve, tmp_path: Path) -> None:
    async with container(tmp_path):
        proxy = await waiting(serve, tmp_path, **apart(tmp_path))
        pid = (await proxy.get("/server_info"))[1]["pid"]
        await killed(proxy)
        again = await waiting(serve, tmp_path, **apart(tmp_path))
        assert (await again.get("/server_info"))[1]["pid"] == pid
        assert await again.init(BODY) == READY
        assert await start_of(again) == ("native", None)
        assert (await told(again))["pid"] == pid


async def test_a_proxy_that_restarts_takes_the_initialized_server_over(
    serve: Serve, tmp_path: Path
) -> None:
    async with container(tmp_path) as agent:
        proxy = await waiting(serve, tmp_path, **apart(tmp_path))
        assert await proxy.init(BODY) == READY
        pid = (await told(proxy))["pid"]
        await killed(proxy)
        again = await serve(settings(tmp_path, **apart(tmp_path)))
        await again.until("ready")
        assert (await told(again))["pid"] == pid
        assert (await again.init(BODY))[0] == 400
        # With the plan that its predecessor had: it can be had again.
        agent.kill()
        await again.until("initializing")
        agent.start()
        await again.until("ready")
        assert await start_of(again) == ("native", None)
        assert (await told(again))["env"]["LLM_API_KEY"] == BODY["env"]["LLM_API_KEY"]
        assert KEY not in again.text


async def test_a_proxy_that_died_while_it_passed_an_init_on_leaves_a_pod_to_be_claimed(
    serve: Serve, tmp_path: Path
) -> None:
    mood(tmp_path, init="hang")
    async with container(tmp_path):
        proxy = await waiting(serve, tmp_path, **apart(tmp_path))
        pid = (await proxy.get("/server_info"))[1]["pid"]
        headers = {"X-Init-API-Key": "bootstrap-key-of-the-pool"}
        request = proxy.session.post(proxy.url + "/api/init", json=BODY, headers=headers)
        posted = asyncio.ensure_future(request)
        await proxy.logged(lambda line: line.get("cause") == "INIT_ACCEPTED")
        await proxy.until("initializing")
        await killed(proxy)
        await asyncio.wait({posted})
        mood(tmp_path)
        again = await waiting(serve, tmp_path, **apart(tmp_path))
        await until_dead(pid)
        assert await again.init(BODY) == READY
        assert await start_of(again) == ("native", None)


async def test_a_launchers_container_that_restarts_has_a_dormant_server_again(
    serve: Serve, tmp_path: Path
) -> None:
    async with container(tmp_path) as agent:
        proxy = await waiting(serve, tmp_path, **apart(tmp_path))
        agent.kill()
        await proxy.logged(lambda line: line["message"] == "launcher lost")
        assert (await proxy.get("/ready"))[0] == 503
        agent.start()
        await claimable(proxy)
        assert await proxy.init(BODY) == READY
        assert await start_of(proxy) == ("native", None)
