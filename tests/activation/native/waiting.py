"""A proxy in front of a server that has a dormant mode of its own, for tests."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING, Any

from tests.harness import ROOT, echo_settings

if TYPE_CHECKING:
    from pathlib import Path

    from tests.harness import ProxyProcess, Serve

SERVER = ROOT / "tests" / "upstreams" / "native" / "server.py"
KEY = "s-1234567"
BODY: dict[str, Any] = {"session_api_keys": [KEY], "env": {"LLM_API_KEY": "sk-1234567"}}
READY = (200, {"state": "ready", "error": None})


def command(directory: Path) -> list[str]:
    socket, moods = str(directory / "up.sock"), str(directory / "mood.json")
    return [sys.executable, str(SERVER), "--unix", socket, "--mood", moods]


def settings(directory: Path, **upstream: Any) -> dict[str, Any]:
    nothing = {"modules": ()}  # what is not native is started cold
    chosen = {"command": command(directory), "dormancy": "auto", "preload": nothing} | upstream
    return echo_settings(directory, **chosen)


def mood(directory: Path, **how: Any) -> None:
    (directory / "mood.json").write_text(json.dumps(how))


async def waiting(serve: Serve, directory: Path, **upstream: Any) -> ProxyProcess:
    """One whose server is dormant."""
    proxy = await serve(settings(directory, **upstream))
    await claimable(proxy)
    return proxy


async def claimable(proxy: ProxyProcess) -> None:
    async with asyncio.timeout(30):
        while (await proxy.get("/ready"))[0] != 200:
            await asyncio.sleep(0.01)


async def start_of(proxy: ProxyProcess) -> tuple[str, str | None]:
    """How the running server came about: kind, and why not better."""
    start = (await proxy.get("/api/init?details=true"))[1]["start"]
    return start["kind"], start["why"]


async def told(proxy: ProxyProcess, key: str | None = KEY) -> dict[str, Any]:
    """What the server says of itself to its user."""
    headers = {"X-Session-API-Key": key} if key is not None else {}
    status, answer = await proxy.get("/api/self", headers=headers)
    assert status == 200, answer
    found: dict[str, Any] = answer
    return found
