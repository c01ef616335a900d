from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from proxy.activation.spawn import SpawnStarter
from proxy.errors import LauncherError
from proxy.lifecycle.plan import Plan, PlannedFile
from proxy.settings import UpstreamSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Open = Callable[..., Awaitable["Running"]]


class Running:
    """An open starter, and the lines of its upstreams."""

    def __init__(self, starter: SpawnStarter, tmp_path: Path) -> None:
        self.starter = starter
        self.lines: list[tuple[str, str]] = []
        self._run_dir = str(tmp_path / "run")

    def plan(self, *argv: str, files: tuple[PlannedFile, ...] = (), **env: str) -> Plan:
        return Plan(
            argv=argv,
            cwd=None,
            base_env={},
            base_unset=(),
            env=env,
            unset=(),
            files=files,
            run_dir=self._run_dir,
            secrets=frozenset(),
        )

    async def line(self, text: str) -> None:
        async with asyncio.timeout(20):
            while text not in [line for _, line in self.lines]:
                await asyncio.sleep(0.005)


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[Open]:
    """Open a starter: `await opened(command=[…], environ={…})`."""
    starters: list[SpawnStarter] = []

    async def open_(environ: dict[str, str] | None = None, **upstream: Any) -> Running:
        upstream = {"command": [sys.executable], "stop_grace": 5} | upstream
        lines: list[tuple[str, str]] = []
        starter = SpawnStarter(
            UpstreamSettings(**upstream),
            on_output=lambda stream, line: lines.append((stream, line)),
            environ=dict(os.environ) if environ is None else environ,
        )
        starters.append(starter)
        await starter.open()
        running = Running(starter, tmp_path)
        running.lines = lines
        return running

    yield open_
    for starter in starters:
        await starter.close()


def launcher_pid(running: Running) -> int:
    (pid,) = running.starter.owned_pids()
    return pid


async def test_start_output_and_stop(opened: Open) -> None:
    running = await opened()
    started = await running.starter.start(
        running.plan("sh", "-c", "echo $HUE; exec sleep 60", HUE="red")
    )
    await running.line("red")
    assert started.kind == "cold"
    assert started.why == "nothing is preloaded"
    await running.starter.stop()
    exit_ = await started.exited
    assert exit_.code == 143
    assert exit_.reason == "was killed by SIGTERM"
