"""A server that waits in another container outlives the proxy beside it, as any other does."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.activation.agentcontainer import container
from tests.activation.apart import elsewhere, killed
from tests.activation.native.waiting import claimable, start_of
from tests.activation.standby.standing import (
    BODY,
    READY,
    REQUEST,
    TOKEN,
    mood,
    settings,
    standing,
    told,
)
from tests.harness import KEY
from tests.running import until_dead

if TYPE_CHECKING:
    from pathlib import Path

    from tests.harness import Serve

pytestmark = pytest.mark.slow


async def test_a_proxy_that_restarts_finds_the_server_that_waits(
    serve: Serve, tmp_path: Path
) -> None:
    async with container(tmp_path):
        proxy = await standing(serve, tmp_path, **elsewhere(tmp_path))
        pid = (await proxy.logged(lambda line: line["message"] == "the upstream is dormant"))[
            "upstream"
        ]
        await killed(proxy)
        again = await standing(serve, tmp_path, **elsewhere(tmp_path))
        assert await again.init(BODY) == READY
        assert await start_of(again) == ("standby", None)
        assert (await told(again))["pid"] == pid


async def test_a_proxy_that_restarts_takes_the_server_that_was_told_over(
    serve: Serve, tmp_path: Path
) -> None:
    async with container(tmp_path) as agent:
        proxy = await standing(serve, tmp_path, **elsewhere(tmp_path))
        assert await proxy.init(BODY) == READY
        first = await told(proxy)
        await killed(proxy)
        again = await serve(settings(tmp_path, **elsewhere(tmp_path)))
        await again.until("ready")
        assert (await told(again))["pid"] == first["pid"]
        # With the plan that its predecessor had: it can be told again.
        agent.kill()
        await again.until("initializing")
        agent.start()
        await again.until("ready")
        other = await told(again)
        assert other["pid"] != first["pid"]
        assert [each["body"] for each in other["told"]] == [each["body"] for each in first["told"]]
        assert TOKEN not in again.text


@pytest.mark.parametrize("anew", [False, True])
async def test_a_proxy_that_died_while_it_told_a_server_leaves_a_pod_to_be_claimed(
    serve: Serve, tmp_path: Path, *, anew: bool
) -> None:
    mood(tmp_path, auth="hang")
    chosen = elsewhere(tmp_path) | {"standby": {"requests": [REQUEST | {"timeout": 60}]}}
    more = {"env": {"A": "b"}} if anew else {}
    async with container(tmp_path):
        proxy = await standing(serve, tmp_path, **chosen)
        headers = {"X-Init-API-Key": KEY}
        request = proxy.session.post(proxy.url + "/api/init", json=BODY | more, headers=headers)
        posted = asyncio.ensure_future(request)
        async with asyncio.timeout(30):
            while not (tmp_path / "mood.json.told").exists():
                await asyncio.sleep(0.01)
        pid = int((tmp_path / "mood.json.told").read_text())
        await killed(proxy)
        await asyncio.wait({posted})
        mood(tmp_path)
        again = await standing(serve, tmp_path, **chosen)
        await until_dead(pid)
        assert await again.init(BODY) == READY
        assert await start_of(again) == ("standby", None)


async def test_a_container_that_restarts_has_a_server_that_waits_again(
    serve: Serve, tmp_path: Path
) -> None:
    async with container(tmp_path) as agent:
        proxy = await standing(serve, tmp_path, **elsewhere(tmp_path))
        agent.kill()
        await proxy.logged(lambda line: line["message"] == "launcher lost")
        assert (await proxy.get("/ready"))[0] == 503
        agent.start()
        await claimable(proxy)
        assert await proxy.init(BODY) == READY
        assert await start_of(proxy) == ("standby", None)
