"""A controller with a real launcher, and the lines of its upstreams, for tests."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from proxy.activation.launched.own.place import OwnPlace
from proxy.activation.launched.starter import LaunchedStarter
from proxy.lifecycle.plan import Plan
from proxy.settings import UpstreamSettings
from tests.launcher.launching import PATIENCE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from proxy.activation.launched.link import Launcher
    from proxy.activation.launched.runs import Runs
    from proxy.activation.starter import Started


def planned(*argv: str, **fields: Any) -> Plan:
    """A start of `argv` with nothing else, unless `fields` say so."""
    defaults: dict[str, Any] = {
        "cwd": None,
        "base_env": {},
        "base_unset": (),
        "env": {},
        "unset": (),
        "files": (),
        "run_dir": "/run/x",
        "secrets": frozenset(),
    }
    return Plan(argv=argv, **(defaults | fields))


class Watched(OwnPlace):
    """`lost` tells how a launcher has ended, once nothing is left of it."""

    lost: asyncio.Future[str]

    async def bury(self, launcher: Launcher, runs: Runs) -> str:
        how = await super().bury(launcher, runs)
        if not self.lost.done():
            self.lost.set_result(how)
        return how


class Running:
    """A starter and the lines of its upstreams."""

    def __init__(
        self, directory: Path, environ: dict[str, str] | None = None, **upstream: Any
    ) -> None:
        self.lines: list[tuple[str, str]] = []
        self.run_dir = directory / "run"
        defaults = {
            "url": f"http+unix://{directory / 'up.sock'}",
            "command": [sys.executable],
            "stop_grace": 20,
            "dormancy": "preload" if upstream.get("preload") else "cold",
        }
        settings = UpstreamSettings(**(defaults | upstream))
        place = Watched(settings, os.environ if environ is None else environ)
        self.lost = place.lost = asyncio.get_running_loop().create_future()
        self.starter = LaunchedStarter(
            settings,
            place,
            on_output=lambda stream, line, _more: self.lines.append((stream, line)),
        )

    @property
    def launcher(self) -> int:
        (pid,) = self.starter.owned_pids()
        return pid

    async def start(self, *argv: str, **fields: Any) -> Started:
        fields = {"run_dir": str(self.run_dir)} | fields
        return await self.starter.start(planned(*argv, **fields))

    async def line(self, text: str) -> None:
        async with asyncio.timeout(PATIENCE):
            while text not in [line for _, line in self.lines]:
                await asyncio.sleep(0.005)


@asynccontextmanager
async def opened(directory: Path, **settings: Any) -> AsyncIterator[Running]:
    running = Running(directory, **settings)
    try:
        await running.starter.open()
        yield running
    finally:
        await running.starter.close()
