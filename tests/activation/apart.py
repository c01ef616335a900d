"""A proxy whose agent is in a container of its own, for tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.harness import echo_settings

if TYPE_CHECKING:
    from pathlib import Path

    from tests.harness import ProxyProcess, Serve

KEYS = {"session_api_keys": ["s-1234567"], "env": {"GREETING": "hello-hello"}}


def elsewhere(directory: Path) -> dict[str, Any]:
    """The settings of an upstream behind the launcher at `launcher.sock`."""
    launcher = {"socket": str(directory / "launcher.sock"), "token": str(directory / "token")}
    return {"activation": "launcher", "launcher": launcher}


def settings(directory: Path, **upstream: Any) -> dict[str, Any]:
    return echo_settings(directory, **elsewhere(directory), **upstream)


async def claimed(serve: Serve, chosen: dict[str, Any]) -> ProxyProcess:
    proxy = await serve(chosen)
    assert await proxy.init(KEYS) == (200, {"state": "ready", "error": None})
    return proxy


async def killed(proxy: ProxyProcess) -> None:
    proxy.process.kill()
    await proxy.ended()


async def pid_of_upstream(proxy: ProxyProcess) -> int:
    return int((await proxy.get("/api/self"))[1]["pid"])


async def greeting(proxy: ProxyProcess) -> str | None:
    found: str | None = (await proxy.get("/api/env"))[1].get("GREETING")
    return found
