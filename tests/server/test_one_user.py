"""A user's end is the end of what was warm in that time, and the state says so."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.harness import ECHO, echo_settings
from tests.running import READY, exit_upstream

if TYPE_CHECKING:
    from pathlib import Path

    from tests.harness import ProxyProcess, Serve

pytestmark = pytest.mark.slow


def slow_to_warm(tmp_path: Path, **upstream: Any) -> dict[str, Any]:
    """Settings with a preload that takes as long as `go` is not there."""
    (tmp_path / "slow.py").write_text(
        f"import os, time\nwhile not os.path.exists({str(tmp_path / 'go')!r}): time.sleep(0.01)\n"
    )
    program = tmp_path / "program.py"  # what is beside it can be imported
    program.write_text(f"import runpy; runpy.run_path({str(ECHO)!r}, run_name='__main__')")
    command = [sys.executable, str(program), "--unix", str(tmp_path / "up.sock")]
    return echo_settings(tmp_path, command=command, preload={"modules": ["slow"]}, **upstream)


async def until_ready_is(proxy: ProxyProcess, status: int) -> None:
    async with asyncio.timeout(20):
        while (await proxy.get("/ready"))[0] != status:
            await asyncio.sleep(0.01)


async def test_a_pod_is_warming_between_a_failed_init_and_the_next_fork_server(
    serve: Serve, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    go.touch()
    proxy = await serve(slow_to_warm(tmp_path))
    await until_ready_is(proxy, 200)
    go.unlink()
    status, body = await proxy.init({"env": {"ECHO_EXIT": "3"}})
    assert status == 500
    await until_ready_is(proxy, 503)
    assert await proxy.get("/api/init") == (200, body)
    claim = asyncio.create_task(proxy.init({"env": {"USER": "b"}}))  # waits for warm
    await asyncio.sleep(0.2)
    assert not claim.done()
    go.touch()
    assert await claim == (200, READY)
    details = (await proxy.get("/api/init?details=true"))[1]
    assert details["start"] == {"kind": "warm", "why": None}


async def test_the_error_of_a_failed_init_outlives_the_warming(
    serve: Serve, tmp_path: Path
) -> None:
    (tmp_path / "go").touch()
    proxy = await serve(slow_to_warm(tmp_path))
    await until_ready_is(proxy, 200)
    status, body = await proxy.init({"env": {"ECHO_EXIT": "3"}})
    assert status == 500
    await until_ready_is(proxy, 200)
    assert await proxy.get("/api/init") == (200, body)
    assert "exited with code 3" in body["error"]


async def test_a_restart_is_served_by_the_same_fork_server(serve: Serve, tmp_path: Path) -> None:
    go = tmp_path / "go"
    go.touch()
    proxy = await serve(slow_to_warm(tmp_path, on_exit="restart"))
    await until_ready_is(proxy, 200)
    assert await proxy.init({}) == (200, READY)
    go.unlink()  # another one would take for ever
    await exit_upstream(proxy, 4)
    async with asyncio.timeout(20):
        while True:
            details = (await proxy.get("/api/init?details=true"))[1]
            if details["state"] == "ready" and details["restarts"] == 1:
                break
            await asyncio.sleep(0.01)
    assert details["start"] == {"kind": "warm", "why": None}
