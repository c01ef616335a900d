"""Without a deferred init: the upstream is started at once."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING

import aiohttp

from tests.harness import ROOT, clean_environment, echo_settings

if TYPE_CHECKING:
    from pathlib import Path

    from tests.harness import Serve


async def test_without_deferred_init_the_upstream_starts_at_once(
    serve: Serve, tmp_path: Path
) -> None:
    settings = echo_settings(tmp_path, env={"FROM_SETTINGS": "yes"})
    settings["deferred_init"] = False
    proxy = await serve(settings)
    await proxy.logged(lambda line: line.get("state") == "ready")
    assert (await proxy.get("/api/init"))[0] == 404
    assert (await proxy.init({}))[0] == 404
    assert (await proxy.get("/ready"))[0] == 200
    assert (await proxy.get("/api/env"))[1]["FROM_SETTINGS"] == "yes"


async def test_without_deferred_init_a_failing_upstream_ends_the_proxy_by_on_exit(
    serve: Serve, tmp_path: Path
) -> None:
    settings = echo_settings(tmp_path, env={"ECHO_EXIT": "9"}, on_exit="exit")
    settings["deferred_init"] = False
    proxy = await serve(settings)
    assert await proxy.ended() == 9


async def test_serve_without_file_and_command_serves_the_sample_agent(tmp_path: Path) -> None:
    env = clean_environment(PROXY_LISTEN__ADDRESS=f"unix:{tmp_path / 'p.sock'}")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "proxy", "serve",
        stderr=asyncio.subprocess.PIPE, cwd=ROOT, env=env,
    )  # fmt: skip
    assert process.stderr is not None
    async for line in process.stderr:
        if json.loads(line).get("state") == "ready":
            break
    connector = aiohttp.UnixConnector(str(tmp_path / "p.sock"))
    async with aiohttp.ClientSession(connector=connector) as session:
        async with session.get("http://proxy/api/init") as answer:
            assert answer.status == 404
        async with session.get("http://proxy/api/conversations") as answer:
            assert answer.status == 200
    process.terminate()
    await process.communicate()
    assert process.returncode == 0
    assert not (tmp_path / "p.sock").exists()
