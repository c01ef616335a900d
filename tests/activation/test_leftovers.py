"""Nothing of one user's is left for the next one, whoever was killed at what moment."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from tests.activation.agentcontainer import container
from tests.activation.apart import KEYS, claimed, killed, settings
from tests.harness import echo_settings
from tests.launcher.launching import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.harness import ProxyProcess, Serve


def remembers(directory: Path, proxy: ProxyProcess) -> Path:
    """What the user's own code keeps in the run directory."""
    run = directory / "run"
    assert any(b"s-1234567" in path.read_bytes() for path in run.iterdir()), proxy.text
    (run / "history").write_text("of the first user")
    (run / "deep" / "er").mkdir(parents=True)
    return run


@pytest.mark.parametrize("there", [False, True], ids=["made", "there before"])
async def test_a_launcher_that_is_killed_leaves_nothing(
    serve: Serve, tmp_path: Path, *, there: bool
) -> None:
    if there:
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "stood").write_text("before")
    proxy = await claimed(serve, echo_settings(tmp_path, on_exit="dormant", **files(tmp_path)))
    run = remembers(tmp_path, proxy)
    started = await proxy.logged(lambda line: line.get("message") == "launcher started")
    os.kill(started["launcher"], signal.SIGKILL)
    await proxy.until("dormant")
    left = [path.name for path in run.iterdir()] if there else run.exists()
    assert left == (["stood"] if there else False)


async def test_when_both_containers_are_killed_nothing_is_left_while_dormant(
    serve: Serve, tmp_path: Path
) -> None:
    chosen = settings(tmp_path, **files(tmp_path))
    async with container(tmp_path) as agent:
        proxy = await claimed(serve, chosen)
        run = remembers(tmp_path, proxy)
        await killed(proxy)
        agent.kill()
        agent.start()
        again = await serve(chosen)
        await again.logged(lambda line: line.get("cause") == "WARMED")
        assert await again.state() == "dormant"
        assert not run.exists()
        assert (await again.init(KEYS))[0] == 200
        assert not (run / "history").exists()


async def test_a_single_container_that_is_killed_leaves_nothing_for_its_next_life(
    serve: Serve, tmp_path: Path
) -> None:
    chosen = echo_settings(tmp_path, **files(tmp_path))
    proxy = await claimed(serve, chosen)
    run = remembers(tmp_path, proxy)
    started = await proxy.logged(lambda line: line.get("message") == "launcher started")
    os.kill(started["launcher"], signal.SIGSTOP)  # it must not undo anything itself
    proxy.process.kill()
    os.kill(started["launcher"], signal.SIGKILL)
    await proxy.ended()
    again = await serve(chosen)
    await asyncio.to_thread(until, lambda: not run.exists())
    assert await again.state() == "dormant"


def files(directory: Path) -> dict[str, Any]:
    return {"run_dir": str(directory / "run")}
