"""The contract when something fails: inits that come to nothing, and upstreams that die."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.harness import ECHO, KEY, echo_settings
from tests.running import READY, SESSION_KEY, activated, exit_upstream, until_dead

if TYPE_CHECKING:
    from tests.harness import Serve

pytestmark = pytest.mark.slow


async def test_failed_init_says_why_masks_undoes_and_can_be_retried(
    serve: Serve, tmp_path: Path
) -> None:
    proxy = await serve()
    secret = "users-secret-token"
    env = {"ECHO_EXIT": "3", "ECHO_LAST_WORDS": "TOKEN", "TOKEN": secret}
    status, body = await proxy.init({"env": env, "session_api_keys": [SESSION_KEY]})
    assert status == 500
    assert body["state"] == "dormant"
    assert "exited with code 3" in body["error"]
    assert body["error"].endswith("cannot log in with ***")
    assert await proxy.get("/api/init") == (200, body)
    assert not (tmp_path / "run").exists()
    assert (await proxy.get("/api/env"))[0] == 503
    assert await proxy.init({"env": {"SECOND": "1"}}) == (200, READY)
    after = (await proxy.get("/api/env"))[1]
    assert after["SECOND"] == "1"
    assert not {"TOKEN", "ECHO_EXIT", "OH_SESSION_API_KEYS_0"} & set(after)
    await proxy.stop()
    assert secret not in proxy.text
    assert SESSION_KEY not in proxy.text
    assert KEY not in proxy.text


async def test_upstream_that_cannot_be_started_is_named(serve: Serve) -> None:
    proxy = await serve(command=["/nonexistent/agent-server", "--x"])
    status, body = await proxy.init({})
    assert status == 500
    assert "/nonexistent/agent-server" in body["error"]
    assert (await proxy.get("/api/init"))[1]["state"] == "dormant"


async def test_one_deadline_holds_for_warming_and_start_together(
    serve: Serve, tmp_path: Path
) -> None:
    """Each takes three quarters of it; whichever is slower than planned makes it no less late."""
    (tmp_path / "slow.py").write_text("import time; time.sleep(1.5)")
    program = tmp_path / "program.py"
    program.write_text(
        f"import runpy, time; time.sleep(1.5); runpy.run_path({str(ECHO)!r}, run_name='__main__')"
    )
    settings = echo_settings(
        tmp_path,
        command=[sys.executable, str(program), "--unix", str(tmp_path / "up.sock")],
        preload={"modules": ["slow"]},
    )
    settings["init"]["timeout"] = 2
    proxy = await serve(settings)
    status, body = await proxy.init({})
    assert status == 504
    assert body["state"] == "dormant"


async def test_init_deadline_is_504_and_undone(serve: Serve, tmp_path: Path) -> None:
    settings = echo_settings(tmp_path)
    settings["init"]["timeout"] = 3  # an upstream that is not held up has started by then
    proxy = await serve(settings)
    child = tmp_path / "child"
    env = {"ECHO_NEVER_READY": "1", "ECHO_CHILD": str(child)}
    status, body = await proxy.init({"env": env})
    assert status == 504
    assert "3 s" in body["error"]
    assert "503" in body["error"]  # what the probe saw last
    assert (await proxy.get("/api/init"))[1]["state"] == "dormant"
    await until_dead(int(child.read_text()))
    assert not (tmp_path / "run").exists()
    assert (await proxy.init({}))[0] == 200


async def test_the_stop_is_within_the_deadline_too(serve: Serve, tmp_path: Path) -> None:
    settings = echo_settings(tmp_path, stop_grace=3600)
    settings["init"]["timeout"] = 3
    proxy = await serve(settings)
    status, body = await proxy.init({"env": {"ECHO_NEVER_READY": "1", "ECHO_STUBBORN": "1"}})
    assert (status, body["state"]) == (504, "dormant")


async def test_crash_after_ready_restarts_the_same_plan(serve: Serve) -> None:
    proxy = await activated(serve)
    before = (await proxy.get("/api/self"))[1]["pid"]
    os.kill(before, signal.SIGKILL)
    line = await proxy.logged(lambda line: line.get("cause") == "UPSTREAM_DIED")
    assert line["state"] == "initializing"
    await proxy.until("ready")
    after = (await proxy.get("/api/self"))[1]["pid"]
    assert after != before
    assert (await proxy.get("/api/env"))[1]["OH_SESSION_API_KEYS_0"] == SESSION_KEY
    details = (await proxy.get("/api/init?details=true"))[1]
    assert details["restarts"] == 1


async def test_restart_that_fails_is_tried_again_and_says_why(serve: Serve, tmp_path: Path) -> None:
    # The upstream's own script is gone for a while: every restart fails until it is back.
    script = tmp_path / "server.py"
    settings = echo_settings(tmp_path)
    command = settings["upstream"]["command"]
    original = Path(command[1]).read_text()
    script.write_text(original)
    command[1] = str(script)
    proxy = await activated(serve, settings=settings)
    pid = (await proxy.get("/api/self"))[1]["pid"]
    script.write_text("import sys; sys.exit('not now')")
    os.kill(pid, signal.SIGKILL)
    await proxy.logged(lambda line: line.get("message") == "restart failed")
    assert await proxy.state() == "initializing"
    assert (await proxy.get("/ready"))[0] == 503  # it is somebody's, and not there
    details = (await proxy.get("/api/init?details=true&wait=5"))[1]
    async with asyncio.timeout(60):
        while details["next_try"] is None:
            details = (await proxy.get("/api/init?details=true"))[1]
    assert details["phase"] == "backoff"
    assert details["next_try"] > details["since"]
    script.write_text(original)
    await proxy.until("ready")


async def test_an_upstream_that_does_not_stay_up_ends_the_proxy(
    serve: Serve, tmp_path: Path
) -> None:
    script = tmp_path / "server.py"
    settings = echo_settings(tmp_path, restarts={"limit": 3, "within": 600})
    settings["init"]["timeout"] = 10
    command = settings["upstream"]["command"]
    script.write_text(Path(command[1]).read_text())
    command[1] = str(script)
    proxy = await activated(serve, settings=settings)
    pid = (await proxy.get("/api/self"))[1]["pid"]
    script.write_text("import sys; sys.exit(9)")
    os.kill(pid, signal.SIGKILL)
    assert await proxy.ended() == 9
    assert "given up" in proxy.text
    assert not (tmp_path / "run").exists()


async def test_crash_with_on_exit_dormant_awaits_a_new_init(serve: Serve, tmp_path: Path) -> None:
    proxy = await activated(serve, on_exit="dormant")
    await exit_upstream(proxy, 7)
    await proxy.until("dormant")
    assert "exited with code 7" in (await proxy.get("/api/init"))[1]["error"]
    assert not (tmp_path / "run").exists()
    assert (await proxy.get("/api/env"))[0] == 503
    assert await proxy.init({}) == (200, READY)
    assert "OH_SESSION_API_KEYS_0" not in (await proxy.get("/api/env"))[1]


@pytest.mark.parametrize(("how", "code"), [("exit", 7), ("kill", 137), ("term", 143)])
async def test_crash_with_on_exit_exit_ends_with_the_upstreams_code(
    serve: Serve, how: str, code: int
) -> None:
    proxy = await activated(serve, on_exit="exit")
    pid = (await proxy.get("/api/self"))[1]["pid"]
    if how == "exit":
        await exit_upstream(proxy, 7)
    else:
        os.kill(pid, signal.SIGKILL if how == "kill" else signal.SIGTERM)
    assert await proxy.ended() == code
