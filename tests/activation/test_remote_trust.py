"""The agent in a container of its own: who may command its launcher, and whose init counts."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from typing import TYPE_CHECKING, Any, Self

import pytest

from tests.activation.agentcontainer import container
from tests.activation.apart import claimed, greeting, killed, pid_of_upstream, settings
from tests.harness import KEY
from tests.launcher.launching import alive

if TYPE_CHECKING:
    from pathlib import Path

    from tests.harness import Serve


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
        proxy = await claimed(serve, settings(tmp_path))
        pid = await pid_of_upstream(proxy)
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
        proxy = await claimed(serve, settings(tmp_path))
        chosen = settings(tmp_path)
        second = tmp_path / "second"
        second.mkdir()
        other = await serve(chosen, url=f"http+unix://{second}/up.sock")
        assert await other.ended() == 1
        assert "there is a controller" in other.text
        assert await greeting(proxy) == "hello-hello"


async def test_a_launcher_with_another_token_is_not_used(serve: Serve, tmp_path: Path) -> None:
    async with container(tmp_path):
        proxy = await claimed(serve, settings(tmp_path))
        await killed(proxy)
        (tmp_path / "token").write_text("00" * 32)
        again = await serve(settings(tmp_path))
        assert await again.ended() == 1
        assert "proof is wrong" in again.text


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
        first = await claimed(serve, gated)
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
