"""One launcher after the other."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

import pytest

from proxy.activation.launched.own.place import OwnPlace
from proxy.activation.launched.runs import Runs
from proxy.activation.launched.session import Session
from proxy.errors import LauncherError
from proxy.settings import UpstreamSettings
from tests.activation.spawning import opened
from tests.launcher.launching import PATIENCE, alive

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from proxy.activation.launched.link import Launcher
    from proxy.activation.launched.own.process import LauncherProcess


class Mortuary(OwnPlace):
    """Whose launchers die as soon as they are there."""

    launches = 0

    async def launch(self, on_event: Callable[[dict[str, Any]], None]) -> LauncherProcess:
        self.launches += 1
        launcher = await super().launch(on_event)
        os.kill(launcher.pid, signal.SIGKILL)
        return launcher


async def test_a_lost_launcher_is_followed_by_another_unasked(tmp_path: Path) -> None:
    async with opened(tmp_path) as running:
        first = running.launcher
        os.kill(first, signal.SIGKILL)
        async with asyncio.timeout(PATIENCE):
            while running.starter.owned_pids() in {frozenset(), frozenset({first})}:
                await asyncio.sleep(0.005)
        second = running.launcher
    assert not alive(second)


async def test_launchers_that_die_at_once_are_rare_but_for_whoever_asks(tmp_path: Path) -> None:
    settings = UpstreamSettings(
        url=f"http+unix://{tmp_path / 'up.sock'}", command=[sys.executable], dormancy="cold"
    )
    place = Mortuary(settings, os.environ)
    lost: list[str] = []

    async def prepare(launcher: Launcher) -> None:
        await launcher.link.call("prepare", preload=None)

    session = Session(place, Runs(), on_event=lambda _: None, prepare=prepare, on_lost=lost.append)
    try:
        for asked in range(1, 9):  # from here on the next would come after ten seconds
            with pytest.raises(LauncherError, match="gone"):
                await session.open()
            async with asyncio.timeout(PATIENCE):
                while len(lost) < asked:
                    await asyncio.sleep(0.005)
        launches = place.launches
        await asyncio.sleep(0.5)
        assert place.launches == launches
        with pytest.raises(LauncherError, match="gone"):
            await session.open()
        assert place.launches == launches + 1
        assert set(lost) == {"the launcher was killed by SIGKILL"}
    finally:
        await session.close(0)
