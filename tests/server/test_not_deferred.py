"""Without a deferred init: the upstream is started at once."""

from __future__ import annotations

import asyncio
import json
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from tests.harness import ROOT, clean_environment, echo_settings

if TYPE_CHECKING:
    from pathlib import Path

    from tests.harness import Serve

pytestmark = pytest.mark.slow


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


def says(message: str, line: dict[str, Any]) -> bool:
    return line.get("message") == message


async def test_the_first_failure_is_logged_as_well_as_those_after_it(
    serve: Serve, tmp_path: Path
) -> None:
    settings = echo_settings(tmp_path, command=[str(tmp_path / "nothing")])
    settings["deferred_init"] = False
    proxy = await serve(settings)
    for message in ("start failed", "restart failed"):
        record = await proxy.logged(partial(says, message))
        assert record["error"] == f"cannot start {tmp_path}/nothing: No such file or directory"


async def test_serve_without_file_and_command_serves_the_sample_agent(tmp_path: Path) -> None:
    env = clean_environment(PROXY_LISTEN__ADDRESS=f"unix:{tmp_path / 'p.sock'}")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "proxy", "serve",
        stderr=asyncio.subprocess.PIPE, cwd=ROOT, env=env,
    )  # fmt: skip
    assert process.stderr is not None
    said = []
    async for line in process.stderr:
        said.append(json.loads(line))
        if said[-1].get("state") == "ready":
            break
    assert said[0]["level"] == "warning"
    assert "embedded sample agent" in said[0]["message"]
    connector = aiohttp.UnixConnector(str(tmp_path / "p.sock"))
    async with aiohttp.ClientSession(connector=connector) as session:
        async with session.get("http://proxy/api/init") as answer:
            assert answer.status == 404
        async with session.get("http://proxy/api/conversations") as answer:
            assert answer.status == 200
    process.terminate()
    await process.communicate()
    assert process.returncode == 0


async def test_an_upstream_that_a_section_variable_names_is_served_not_the_sample(
    tmp_path: Path,
) -> None:
    upstream = echo_settings(tmp_path, command=["/nothing"], on_exit="exit")["upstream"]
    env = clean_environment(
        PROXY_LISTEN__ADDRESS=f"unix:{tmp_path / 'p.sock'}", PROXY_UPSTREAM=json.dumps(upstream)
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "proxy", "serve",
        stderr=asyncio.subprocess.PIPE, cwd=ROOT, env=env,
    )  # fmt: skip
    _, said = await process.communicate()
    assert process.returncode == 1
    assert b"cannot start /nothing" in said
    assert b"sample agent" not in said
    assert not (tmp_path / "p.sock").exists()
