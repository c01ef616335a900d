"""The agent in a container of its own: launcher and proxy apart, each of which may die alone."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Self

import pytest

from tests.agentcontainer import AgentContainer, container
from tests.harness import KEY, ROOT, echo_settings
from tests.launching import alive

if TYPE_CHECKING:
    from pathlib import Path

    from tests.harness import ProxyProcess, Serve

KEYS = {"session_api_keys": ["s-1234567"], "env": {"GREETING": "hello-hello"}}


def settings(directory: Path, **upstream: Any) -> dict[str, Any]:
    launcher = {"socket": str(directory / "launcher.sock"), "token": str(directory / "token")}
    return echo_settings(directory, activation="launcher", launcher=launcher, **upstream)


async def killed(proxy: ProxyProcess) -> None:
    proxy.process.kill()
    await proxy.ended()


async def greeting(proxy: ProxyProcess) -> str | None:
    found: str | None = (await proxy.get("/api/env"))[1].get("GREETING")
    return found


async def test_the_whole_life_in_two_containers(serve: Serve, tmp_path: Path) -> None:
    async with container(tmp_path):
        proxy = await serve(settings(tmp_path))
        assert await proxy.init(KEYS) == (200, {"state": "ready", "error": None})
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
        proxy = await serve(settings(tmp_path, preload={"modules": ["json", "http.server"]}))
        assert (await proxy.init(KEYS))[0] == 200
        details = (await proxy.get("/api/init?details=true"))[1]
        assert details["start"] == {"kind": "warm", "why": None}
        assert await greeting(proxy) == "hello-hello"


async def test_a_proxy_that_restarts_finds_the_running_upstream(
    serve: Serve, tmp_path: Path
) -> None:
    async with container(tmp_path):
        first = await serve(settings(tmp_path))
        assert (await first.init(KEYS))[0] == 200
        pid = (await first.get("/api/self"))[1]["pid"]
        await killed(first)
        assert alive(pid)
        again = await serve(settings(tmp_path))
        await again.until("ready")
        assert (await again.get("/api/self"))[1]["pid"] == pid
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
        pid = (await first.get("/api/self"))[1]["pid"]
        await killed(first)
        again = await serve(settings(tmp_path))
        await again.until("ready")
        assert (await again.get("/api/self"))[1]["pid"] == pid


@pytest.mark.parametrize("preload", [{}, {"modules": ["json"]}])
async def test_an_agent_container_that_restarts_gets_the_same_plan(
    serve: Serve, tmp_path: Path, preload: dict[str, Any]
) -> None:
    async with container(tmp_path) as agent:
        proxy = await serve(settings(tmp_path, preload=preload))
        assert (await proxy.init(KEYS))[0] == 200
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
        assert details["pid"] == (await proxy.get("/api/self"))[1]["pid"]


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
        proxy = await serve(settings(tmp_path))
        assert (await proxy.init(KEYS))[0] == 200
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
        chosen["init"]["timeout"] = 1
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
        proxy = await serve(settings(tmp_path))
        assert (await proxy.init(KEYS))[0] == 200
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


class Stranger:
    """Somebody who speaks the protocol without being the proxy."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_unix_connection(str(self._path))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()

    async def read(self) -> dict[str, Any] | None:
        line = await asyncio.wait_for(self._reader.readline(), 20)
        return dict(json.loads(line)) if line else None

    async def say(self, **message: Any) -> dict[str, Any] | None:
        self._writer.write(json.dumps({"id": 1, "version": 1, **message}).encode() + b"\n")
        return await self.read()


@pytest.mark.parametrize("connected", [True, False])
async def test_code_in_the_agents_container_can_do_nothing_with_the_socket(
    serve: Serve, tmp_path: Path, *, connected: bool
) -> None:
    async with container(tmp_path):
        proxy = await serve(settings(tmp_path))
        assert (await proxy.init(KEYS))[0] == 200
        pid = (await proxy.get("/api/self"))[1]["pid"]
        if not connected:
            await killed(proxy)
        said: list[dict[str, Any]] = [
            {"op": "stop", "grace": 0},
            {"op": "identify", "token": "00" * 32, "challenge": "00"},
            {"op": "identify", "proof": "00" * 32, "challenge": "00"},
            {"op": "start", "argv": ["/bin/true"]},
        ]
        for message in said:
            async with Stranger(tmp_path / "launcher.sock") as stranger:
                hello = await stranger.read()
                assert hello is not None
                assert hello["bound"] is True
                assert "GREETING" not in json.dumps(hello)
                answer = await stranger.say(**message)
                assert answer is not None
                assert answer["ok"] is False
                assert await stranger.read() is None  # and hung up
        assert alive(pid)


async def test_a_second_controller_is_refused_even_with_the_token(
    serve: Serve, tmp_path: Path
) -> None:
    async with container(tmp_path):
        proxy = await serve(settings(tmp_path))
        assert (await proxy.init(KEYS))[0] == 200
        chosen = settings(tmp_path)
        second = tmp_path / "second"
        second.mkdir()
        other = await serve(chosen, url=f"http+unix://{second}/up.sock")
        assert await other.ended() == 1
        assert "there is a controller" in other.text
        assert await greeting(proxy) == "hello-hello"


async def test_a_launcher_with_another_token_is_not_used(serve: Serve, tmp_path: Path) -> None:
    async with container(tmp_path):
        proxy = await serve(settings(tmp_path))
        assert (await proxy.init(KEYS))[0] == 200
        await killed(proxy)
        (tmp_path / "token").write_text("00" * 32)
        again = await serve(settings(tmp_path))
        assert await again.ended() == 1
        assert "proof is wrong" in again.text


def test_the_zipapp_is_the_same_every_time_and_says_how_it_is_used(tmp_path: Path) -> None:
    one, other = AgentContainer(tmp_path).zipapp, tmp_path / "other.pyz"
    subprocess.run(
        [sys.executable, "-m", "proxy", "install-launcher", str(other)], check=True, cwd=ROOT
    )
    assert one.read_bytes() == other.read_bytes()
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(one), "--socket"], capture_output=True, check=False
    )
    assert done.returncode == 2
    assert b"--socket PATH" in done.stderr


def test_a_file_in_the_sockets_place_is_not_removed(tmp_path: Path) -> None:
    agent = AgentContainer(tmp_path)
    agent.socket.write_text("somebody's")
    agent.start()
    assert agent.process is not None
    assert agent.process.wait(20) == 1
    assert agent.socket.read_text() == "somebody's"


def test_install_launcher_names_the_place_that_it_cannot_write(tmp_path: Path) -> None:
    place = tmp_path / "missing" / "launcher.pyz"
    done = subprocess.run(
        [sys.executable, "-m", "proxy", "install-launcher", str(place)],
        capture_output=True, check=False, cwd=ROOT, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert f"cannot write {place}: No such file or directory" in done.stderr


async def test_an_init_that_waited_while_a_running_upstream_was_found_is_refused(
    serve: Serve, tmp_path: Path
) -> None:
    """Nothing of it may be used: neither its keys at the gate, nor its claim afterwards."""
    gated = settings(tmp_path) | {"gate": {"session_keys": "enforce"}}
    late = {"session_api_keys": ["another-users-key"], "env": {"GREETING": "of-another"}}
    claim = {"X-Init-API-Key": KEY, "Idempotency-Key": "another-claim"}
    first_key, other_key = (
        {"X-Session-API-Key": key} for key in ("s-1234567", "another-users-key")
    )
    async with container(tmp_path) as agent:
        first = await serve(gated)
        assert (await first.init(KEYS))[0] == 200
        pid = (await first.get("/api/self", headers=first_key))[1]["pid"]
        await killed(first)
        assert agent.process is not None
        agent.process.send_signal(signal.SIGSTOP)  # found a little later
        again = await serve(gated)
        post = asyncio.create_task(again.request("POST", "/api/init", json=late, headers=claim))
        while (await again.init({"unknown": 1}))[0] != 400:  # the state is asked before the fields
            await asyncio.sleep(0.01)
        agent.process.send_signal(signal.SIGCONT)
        assert (await post)[0] == 409
        await again.until("ready")
        assert (await again.request("POST", "/api/init", json=late, headers=claim))[0] == 409
        assert (await again.get("/api/self", headers=other_key))[0] == 401
        assert (await again.get("/api/self", headers=first_key))[1]["pid"] == pid
        assert (await again.get("/health"))[0] == 200
        os.kill(pid, signal.SIGKILL)  # it is watched as well
        await again.logged(lambda line: line.get("cause") == "UPSTREAM_DIED")
