"""What tests of a running proxy share: its answers, its processes, and how they are waited for."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp

if TYPE_CHECKING:
    from tests.harness import ProxyProcess, Serve

SESSION_KEY = "session-key-of-the-user"
DORMANT = {"state": "dormant", "error": None}
READY = {"state": "ready", "error": None}


async def activated(serve: Serve, **kwargs: Any) -> ProxyProcess:
    proxy = await serve(**kwargs)
    assert await proxy.init({"session_api_keys": [SESSION_KEY]}) == (200, READY)
    return proxy


async def exit_upstream(proxy: ProxyProcess, code: int) -> None:
    # Whether its answer arrives before its end is the upstream's affair.
    with suppress(aiohttp.ClientError):
        await proxy.get(f"/api/exit?code={code}")


def pid_alive(pid: int) -> bool:
    try:
        # A zombie is dead for everybody but its parent.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def until_dead(pid: int) -> None:
    async with asyncio.timeout(60):
        while pid_alive(pid):
            await asyncio.sleep(0.01)


def children_of(pid: int) -> list[int]:
    """Living and dead children, by /proc: a zombie counts until it is waited for."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(stat.rpartition(")")[2].split()[1]) == pid:
                found.append(int(entry.name))
    return found


def descendants_of(pid: int) -> list[int]:
    below = children_of(pid)
    return below + [each for child in below for each in descendants_of(child)]


async def launcher_of(proxy: ProxyProcess) -> int:
    async with asyncio.timeout(60):
        while not (found := children_of(proxy.process.pid)):
            await asyncio.sleep(0.01)
    return found[0]
