"""Signals that are not the proxy's: passed on to the upstream, and never the proxy's end."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

import pytest

from tests.running import READY

if TYPE_CHECKING:
    from pathlib import Path

    from tests.harness import Serve

pytestmark = pytest.mark.slow

PASSED = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH)


async def _told(file: Path, count: int) -> list[str]:
    async with asyncio.timeout(60):
        while not (file.exists() and file.read_text().count("\n") >= count):
            await asyncio.sleep(0.01)
    return file.read_text().split()


async def test_signals_of_the_upstream_are_passed_on_and_its_own_stop_signal_ends_it(
    serve: Serve, tmp_path: Path
) -> None:
    told = tmp_path / "signals"
    proxy = await serve(stop_signal="SIGQUIT", stop_grace=600)
    for number in PASSED:  # nobody is there to have them
        proxy.process.send_signal(number)
    assert await proxy.init({"env": {"ECHO_SIGNALS": str(told)}}) == (200, READY)
    for count, number in enumerate(PASSED, 1):
        proxy.process.send_signal(number)
        assert (await _told(told, count))[-1] == number.name
    proxy.process.send_signal(signal.SIGHUP)
    assert await proxy.ended() == 0
    assert (await _told(told, 4))[-1] == "SIGQUIT"


async def test_hangup_that_is_ignored_stays_ignored(serve: Serve) -> None:
    proxy = await serve(prefix=["nohup"])
    proxy.process.send_signal(signal.SIGHUP)
    assert await proxy.state() == "dormant"
    assert await proxy.stop() == 0
