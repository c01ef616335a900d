"""What waits how when nothing is said about it, with real processes."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest

from tests.activation.native.waiting import (
    BODY,
    READY,
    claimable,
    command,
    start_of,
)
from tests.harness import echo_settings

if TYPE_CHECKING:
    from pathlib import Path

    from tests.harness import ProxyProcess, Serve


def unsaid(directory: Path, **upstream: Any) -> dict[str, Any]:
    settings = echo_settings(directory, **upstream)
    del settings["upstream"]["dormancy"]
    return settings


def recorded(proxy: ProxyProcess) -> bool:
    return any(line["message"] == "recording" for line in proxy.log)


async def test_a_server_with_a_dormant_mode_waits_in_it(serve: Serve, tmp_path: Path) -> None:
    proxy = await serve(unsaid(tmp_path, command=command(tmp_path)))
    await claimable(proxy)
    assert await proxy.init(BODY) == READY
    assert await start_of(proxy) == ("native", None)
    assert not recorded(proxy)


async def test_another_python_server_is_preloaded_and_was_not_tried_before(
    serve: Serve, tmp_path: Path
) -> None:
    proxy = await serve(unsaid(tmp_path))
    await claimable(proxy)
    assert recorded(proxy)
    assert not any("dormant mode" in line.get("reason", "") for line in proxy.log)
    assert await proxy.init() == READY
    assert await start_of(proxy) == ("warm", None)


@pytest.mark.parametrize("profile", ["openhands", "none"])
async def test_what_is_no_python_program_is_cold_and_says_so(
    serve: Serve, tmp_path: Path, profile: str
) -> None:
    nice = shutil.which("nice")
    assert nice is not None
    argv = [nice, *unsaid(tmp_path)["upstream"]["command"]]
    proxy = await serve(unsaid(tmp_path, command=argv, profile=profile))
    await claimable(proxy)
    assert await proxy.init() == READY
    kind, why = await start_of(proxy)
    assert kind == "cold"
    assert why is not None
    assert f"{nice} is not a Python script" in why


async def test_what_env_starts_is_seen_through(serve: Serve, tmp_path: Path) -> None:
    argv = ["/usr/bin/env", "ASSIGNED=1", *unsaid(tmp_path)["upstream"]["command"]]
    proxy = await serve(unsaid(tmp_path, command=argv))
    await claimable(proxy)
    assert await proxy.init({"env": {"ASSIGNED": "not the command's", "DELIVERED": "2"}}) == READY
    assert await start_of(proxy) == ("warm", None)
    env = (await proxy.get("/api/env"))[1]
    assert (env["ASSIGNED"], env["DELIVERED"]) == ("1", "2")


async def test_what_is_started_at_once_is_not_recorded(serve: Serve, tmp_path: Path) -> None:
    proxy = await serve(unsaid(tmp_path) | {"deferred_init": False})
    await proxy.logged(lambda line: line.get("state") == "ready")
    assert not recorded(proxy)
