"""The agent in a container of its own: launcher and proxy apart, each of which may die alone."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from tests.activation.agentcontainer import container
from tests.activation.apart import KEYS, claimed, greeting, killed, pid_of_upstream, settings
from tests.launcher.launching import alive

if TYPE_CHECKING:
    from pathlib import Path

    from tests.harness import Serve

pytestmark = pytest.mark.slow


async def test_the_whole_life_in_two_containers(serve: Serve, tmp_path: Path) -> None:
    async with container(tmp_path):
        proxy = await claimed(serve, settings(tmp_path))
        environment = (await proxy.get("/api/env"))[1]
        assert environment["INHERITED"] == "agent"
        assert environment["OH_SESSION_API_KEYS_0"] == "s-1234567"
        assert (tmp_path / "token").stat().st_mode & 0o777 == 0o600
        assert (tmp_path / "launcher.sock").stat().st_mode & 0o777 == 0o600
        assert await proxy.stop() == 0
        assert not (tmp_path / "run").exists()


async def test_the_proxy_may_be_there_first(serve: Serve, tmp_path: Path) -> None:
    proxy = await serve(settings(tmp_path))
    assert (await proxy.get("/health"))[0] == 200
    assert (await proxy.get("/ready"))[0] == 503
    posted = asyncio.create_task(proxy.init(KEYS))
    async with container(tmp_path):
        assert (await posted)[0] == 200


async def test_modules_are_preloaded_in_the_other_container(serve: Serve, tmp_path: Path) -> None:
    async with container(tmp_path):
        preload = {"modules": ["json", "http.server"]}
        proxy = await claimed(serve, settings(tmp_path, preload=preload))
        details = (await proxy.get("/api/init?details=true"))[1]
        assert details["start"] == {"kind": "warm", "why": None}
        assert await greeting(proxy) == "hello-hello"


async def test_a_proxy_that_restarts_finds_the_running_upstream(
    serve: Serve, tmp_path: Path
) -> None:
    async with container(tmp_path):
        first = await claimed(serve, settings(tmp_path))
        pid = await pid_of_upstream(first)
        await killed(first)
        assert alive(pid)
        again = await serve(settings(tmp_path))
        await again.until("ready")
        assert await pid_of_upstream(again) == pid
        assert (await again.init(KEYS))[0] == 400
        # It has everything of its predecessor's: what to mask, and what to start again.
        await again.get("/api/print?line=the-key-is-s-1234567")
        line = await again.logged(lambda line: "the-key-is" in line.get("message", ""))
        assert "s-1234567" not in json.dumps(line)
        os.kill(pid, signal.SIGKILL)
        await again.logged(lambda line: line.get("cause") == "UPSTREAM_DIED")
        await again.until("ready")
        assert await greeting(again) == "hello-hello"


async def test_an_upstream_is_found_however_much_it_was_given(serve: Serve, tmp_path: Path) -> None:
    """The launcher gives back all of it, in one line."""
    large = {"env": {f"VALUE_{i}": f"{i:05d}" * 10_000 for i in range(18)}}
    async with container(tmp_path):
        first = await serve(settings(tmp_path))
        assert (await first.init(large))[0] == 200
        pid = await pid_of_upstream(first)
        await killed(first)
        again = await serve(settings(tmp_path))
        await again.until("ready")
        assert await pid_of_upstream(again) == pid


@pytest.mark.parametrize("preload", [{}, {"modules": ["json"]}])
async def test_an_agent_container_that_restarts_gets_the_same_plan(
    serve: Serve, tmp_path: Path, preload: dict[str, Any]
) -> None:
    async with container(tmp_path) as agent:
        proxy = await claimed(serve, settings(tmp_path, preload=preload))
        agent.kill()
        await proxy.until("initializing")
        assert (await proxy.get("/api/env"))[0] == 503
        agent.start()
        await proxy.until("ready")
        assert await greeting(proxy) == "hello-hello"


async def test_an_init_during_a_later_recording_reaches_the_users_own_upstream(
    serve: Serve, tmp_path: Path
) -> None:
    """A recording has an upstream at the same address, and that one knows no keys."""
    async with container(tmp_path) as agent:
        proxy = await serve(settings(tmp_path, preload={"modules": "auto"}))
        await proxy.logged(lambda line: line.get("cause") == "WARMED")
        agent.kill()
        agent.start()
        await proxy.logged(lambda line: "has loaded" in line.get("step", ""))
        assert (await proxy.init(KEYS))[0] == 200
        assert await greeting(proxy) == "hello-hello"
        details = (await proxy.get("/api/init?details=true"))[1]
        assert details["pid"] == await pid_of_upstream(proxy)


async def test_an_agent_container_that_restarts_while_dormant_is_no_news(
    serve: Serve, tmp_path: Path
) -> None:
    async with container(tmp_path) as agent:
        proxy = await serve(settings(tmp_path))
        await proxy.logged(lambda line: line.get("message") == "launcher found")
        agent.kill()
        await proxy.logged(lambda line: line.get("message") == "launcher lost")
        assert await proxy.state() == "dormant"
        agent.start()
        assert (await proxy.init(KEYS))[0] == 200


async def test_when_both_restart_the_pod_is_dormant_and_can_be_claimed(
    serve: Serve, tmp_path: Path
) -> None:
    async with container(tmp_path) as agent:
        proxy = await claimed(serve, settings(tmp_path))
        await killed(proxy)
        agent.kill()
        agent.start()
        again = await serve(settings(tmp_path))
        assert await again.state() == "dormant"
        assert (await again.init({"env": {"GREETING": "anew"}}))[0] == 200
        assert await greeting(again) == "anew"
        assert "OH_SESSION_API_KEYS_0" not in (await again.get("/api/env"))[1]


async def test_a_proxy_killed_while_it_activates_comes_back_to_a_pod_that_can_be_claimed(
    serve: Serve, tmp_path: Path
) -> None:
    async with container(tmp_path):
        chosen = settings(tmp_path)
        chosen["init"]["timeout"] = 3
        proxy = await serve(chosen)
        posted = asyncio.create_task(proxy.init({"env": {"ECHO_NEVER_READY": "1"}}))
        await proxy.until("initializing")
        await proxy.logged(lambda line: "echo upstream is up" in line.get("message", ""))
        await killed(proxy)
        await asyncio.wait({posted})
        assert posted.exception() is not None
        again = await serve(chosen)
        await again.logged(lambda line: line.get("cause") == "WARMED")
        assert await again.state() == "dormant"
        assert (await again.init(KEYS))[0] == 200
        assert "ECHO_NEVER_READY" not in (await again.get("/api/env"))[1]


async def test_the_pods_end_drains_through_the_proxy(serve: Serve, tmp_path: Path) -> None:
    """The kubelet tells the agent's container first; the sidecar's turn is after its end."""
    async with container(tmp_path) as agent:
        proxy = await claimed(serve, settings(tmp_path))
        gate, started = tmp_path / "gate", tmp_path / "started"
        slow = asyncio.create_task(proxy.get(f"/api/slow?started={started}&until={gate}"))
        while not started.exists():
            await asyncio.sleep(0.01)
        assert agent.process is not None
        agent.process.terminate()
        await proxy.logged(lambda line: line.get("state") == "draining")
        assert agent.process.poll() is None
        gate.touch()
        assert await slow == (200, {"slow": True})
        assert await agent.ended() == 0
        assert await proxy.ended() == 0
