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

pytestmark = pytest.mark.slow


def unsaid(directory: Path, **upstream: Any) -> dict[str, Any]:
    settings = echo_settings(directory, **upstream)
    del settings["upstream"]["dormancy"]
    return settings


def recorded(proxy: ProxyProcess) -> bool:
    return any(line["message"] == "recording" for line in proxy.log)


async def test_a_server_with_a_dormant_mode_waits_in_it(serve: Serve, tmp_path: Path) -> None:
    proxy = await serve(unsaid(tmp_path, command=command(tmp_path)))
    await claimable(proxy)
    details = (await proxy.get("/api/init?details=true"))[1]
    assert details["next"] == {"kind": "native", "why": None}
    assert await proxy.init(BODY) == READY
    assert await start_of(proxy) == ("native", None)
    assert not recorded(proxy)


async def test_another_python_server_is_preloaded_and_was_not_tried_before(
    serve: Serve, tmp_path: Path
) -> None:
    proxy = await serve(unsaid(tmp_path))
    await claimable(proxy)
    assert recorded(proxy)
    details = (await proxy.get("/api/init?details=true"))[1]
    assert details["start"] is None
    assert details["next"] == {"kind": "warm", "why": None}
    assert 0 < details["preload"]["imported"] <= details["preload"]["modules"]
    (line,) = [line for line in proxy.log if line["message"] == "fork server is warm"]
    assert line["modules"] == details["preload"]["imported"]
    assert line["loaded"] == details["preload"]["modules"]
    assert line["recorded"]["warm"] > 0
    assert line["recorded"]["cold"] > 0
    assert not any("dormant mode" in line.get("reason", "") for line in proxy.log)
    assert await proxy.init() == READY
    assert await start_of(proxy) == ("warm", None)


async def test_a_warm_start_that_is_hardly_faster_is_not_called_warm(
    serve: Serve, tmp_path: Path
) -> None:
    """Most of the start is a module that reads what is delivered, and is not preloaded."""
    (tmp_path / "slow.py").write_text(
        "import os, time\nKEY = os.environ.get('OH_SECRET_KEY')\n"
        "begun = time.process_time()\nwhile time.process_time() < begun + 1: pass\n"
    )
    settings = unsaid(tmp_path)
    python, server, *arguments = settings["upstream"]["command"]
    (tmp_path / "main.py").write_text(
        f"import runpy, slow\nrunpy.run_path({server!r}, run_name='__main__')\n"
    )
    settings["upstream"]["command"] = [python, str(tmp_path / "main.py"), *arguments]
    proxy = await serve(settings)
    await claimable(proxy)
    details = (await proxy.get("/api/init?details=true"))[1]
    assert details["next"]["kind"] == "partial"
    assert "not preloaded is slow reads OH_SECRET_KEY" in details["next"]["why"]
    assert [line["level"] for line in proxy.log if "will take long" in line["message"]] == [
        "warning"
    ]
    assert await proxy.init() == READY
    assert (await start_of(proxy))[0] == "partial"


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
