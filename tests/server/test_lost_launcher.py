"""A launcher that is lost while nobody uses the pod: another comes before anybody asks."""

from __future__ import annotations

import asyncio
import os
import signal
import textwrap
from typing import TYPE_CHECKING, Any

import pytest

from tests.harness import echo_settings
from tests.running import READY
from tests.server.mortal import GLANCE, PATIENCE, Mortal

if TYPE_CHECKING:
    from pathlib import Path

    from tests.harness import ProxyProcess, Serve

pytestmark = pytest.mark.slow


async def caused(proxy: ProxyProcess, cause: str, times: int = 1) -> None:
    def enough(_line: dict[str, Any]) -> bool:
        return [line.get("cause") for line in proxy.log].count(cause) >= times

    await proxy.logged(enough)


async def test_one_that_was_warm_is_followed_by_another_that_is(
    serve: Serve, tmp_path: Path
) -> None:
    pod = Mortal(tmp_path, serve, apart=False)
    try:
        await pod.begin()
        await caused(pod.proxy, "WARMED")
        pod.hold("importing")
        await pod.kill("launcher")
        await caused(pod.proxy, "COOLED")
        assert (await pod.proxy.get("/ready"))[0] == 503
        assert await pod.proxy.state() == "dormant"
        pod.release()
        await caused(pod.proxy, "WARMED", 2)
        assert (await pod.proxy.get("/ready"))[0] == 200
        await pod.claim()
        assert (await pod.details())["start"] == {"kind": "warm", "why": None}
    finally:
        await pod.end()


async def test_a_claim_waits_for_the_one_that_follows(serve: Serve, tmp_path: Path) -> None:
    pod = Mortal(tmp_path, serve, apart=False)
    try:
        await pod.begin()
        await caused(pod.proxy, "WARMED")
        await pod.kill("launcher")
        await caused(pod.proxy, "COOLED")
        await pod.claim()
        assert (await pod.details())["start"] == {"kind": "warm", "why": None}
    finally:
        await pod.end()


async def test_one_that_dies_of_preloading_every_time_leaves_a_pod_that_starts_cold(
    serve: Serve, tmp_path: Path
) -> None:
    (tmp_path / "deadly.py").write_text(
        textwrap.dedent(f"""
            import os, signal
            if os.path.exists({str(tmp_path / "armed")!r}):
                os.kill(os.getppid(), signal.SIGKILL)
        """)
    )
    proxy = await serve(
        echo_settings(tmp_path, env={"PYTHONPATH": str(tmp_path)}, preload={"modules": ["deadly"]})
    )
    await caused(proxy, "WARMED")
    (tmp_path / "armed").touch()
    found = next(line for line in proxy.log if line["message"] == "launcher started")
    os.kill(found["launcher"], signal.SIGKILL)
    why = "nothing is preloaded: 3 launchers in a row were lost while they preloaded"
    async with asyncio.timeout(PATIENCE):
        while (await proxy.get("/api/init?details=true"))[1]["next"]["why"] != why:
            await asyncio.sleep(GLANCE)
    assert (await proxy.get("/ready"))[0] == 200
    assert await proxy.init({}) == (200, READY)
    assert (await proxy.get("/api/init?details=true"))[1]["start"] == {"kind": "cold", "why": why}
    assert sum(line["message"] == "launcher started" for line in proxy.log) == 5
