"""Servers whose dormant mode is missing, breaks, or is not kept: a clear line, and a pod of use."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from typing import TYPE_CHECKING

import pytest

from tests.activation.native.waiting import (
    BODY,
    READY,
    claimable,
    mood,
    settings,
    start_of,
    told,
    waiting,
)
from tests.running import launcher_of, until_dead

if TYPE_CHECKING:
    from pathlib import Path

    from tests.harness import Serve

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("boot", "why"),
    [
        ("plain", "became ready and knows of no dormant state"),
        ("ready", "says that it is ready, without an init"),
        ("die", "exited with code 5 before it was dormant"),
        ("silent", "was not dormant within preload.timeout"),
    ],
)
async def test_a_server_that_is_not_native_is_started_otherwise_from_then_on(
    serve: Serve, tmp_path: Path, boot: str, why: str
) -> None:
    mood(tmp_path, boot=boot)
    proxy = await serve(settings(tmp_path, preload={"modules": [], "timeout": 3}))
    line = await proxy.logged(
        lambda line: line["message"] == "the upstream is not dormant by itself"
    )
    assert why in line["reason"]
    await claimable(proxy)
    assert await proxy.init(BODY) == READY
    kind, reason = await start_of(proxy)
    assert kind == "cold"
    assert reason is not None
    assert why in reason
    pid = (await told(proxy))["pid"]
    os.kill(pid, signal.SIGKILL)
    await proxy.logged(lambda line: line.get("cause") == "UPSTREAM_DIED")
    await proxy.until("ready")
    assert len([line for line in proxy.log if "not dormant by itself" in line["message"]]) == 1


async def test_what_falls_back_goes_on_with_the_preload(serve: Serve, tmp_path: Path) -> None:
    mood(tmp_path, boot="plain")
    proxy = await serve(settings(tmp_path, preload={"modules": ["json"]}, dormancy="auto"))
    await claimable(proxy)
    assert await proxy.init(BODY) == READY
    kind, why = await start_of(proxy)
    assert kind == "warm"
    assert why == "the upstream became ready and knows of no dormant state"


async def test_who_asks_for_native_alone_is_told_that_it_never_will_be(
    serve: Serve, tmp_path: Path
) -> None:
    mood(tmp_path, boot="plain")
    proxy = await serve(settings(tmp_path, dormancy="native"))
    assert await proxy.ended() == 1
    (line,) = [line for line in proxy.log if line["message"] == "cannot start"]
    assert line["error"] == (
        "upstream.dormancy is native, but the upstream became ready and knows of no dormant state"
    )


async def test_nor_is_a_server_tried_that_is_known_to_have_no_such_mode(
    serve: Serve, tmp_path: Path
) -> None:
    chosen = settings(tmp_path, dormancy="native")
    chosen["upstream"]["command"][1:1] = ["-P"]
    proxy = await serve(chosen)
    assert await proxy.ended() == 1
    (line,) = [line for line in proxy.log if line["message"] == "cannot start"]
    assert line["error"] == (
        "upstream.dormancy is native, but the upstream has no module"
        " openhands.agent_server.init_router"
    )


@pytest.mark.parametrize(
    ("how", "status", "told_why"),
    [
        ("fail", 500, "the upstream's own init answered 500: "),
        ("garbage", 500, "the upstream's own init answered 200: <html>"),
        ("die", 500, "the upstream exited with code 4"),
        ("hang", 504, "not ready within init.timeout"),
        ("never", 504, "not ready within init.timeout"),
    ],
)
async def test_an_init_that_fails_leaves_nothing_and_another_may_follow(
    serve: Serve, tmp_path: Path, how: str, status: int, told_why: str
) -> None:
    mood(tmp_path, init=how)
    chosen = settings(tmp_path)
    chosen["init"]["timeout"] = 4
    proxy = await serve(chosen)
    await claimable(proxy)
    first = (await proxy.get("/server_info"))[1]["pid"]
    answered, answer = await proxy.init(BODY | {"env": {"LLM_API_KEY": "a-secret-value"}})
    assert (answered, answer["state"]) == (status, "dormant")
    assert told_why in answer["error"]
    assert ("the last words of the server" in answer["error"]) == (how == "die")
    assert "a-secret-value" not in answer["error"] + proxy.text
    await until_dead(first)
    mood(tmp_path)
    await claimable(proxy)
    assert await proxy.init(BODY) == READY
    assert await start_of(proxy) == ("native", None)
    env = (await told(proxy))["env"]
    assert env["LLM_API_KEY"] == "sk-1234567"


async def test_a_server_that_dies_while_it_is_dormant_is_replaced(
    serve: Serve, tmp_path: Path
) -> None:
    proxy = await waiting(serve, tmp_path)
    for _ in range(3):
        pid = (await proxy.get("/server_info"))[1]["pid"]
        os.kill(pid, signal.SIGKILL)
        async with asyncio.timeout(20):
            while (await proxy.get("/ready"))[0] == 200:
                await asyncio.sleep(0.005)
        await claimable(proxy)
        assert (await proxy.get("/server_info"))[1]["pid"] != pid
    assert await proxy.init(BODY) == READY
    assert await start_of(proxy) == ("native", None)


async def test_a_server_that_forgets_its_dormant_mode_is_started_otherwise(
    serve: Serve, tmp_path: Path
) -> None:
    proxy = await waiting(serve, tmp_path)
    assert await proxy.init(BODY) == READY
    mood(tmp_path, boot="plain")
    os.kill((await told(proxy))["pid"], signal.SIGKILL)
    await proxy.logged(lambda line: line.get("cause") == "UPSTREAM_DIED")
    await proxy.until("ready")
    kind, why = await start_of(proxy)
    assert (kind, why) == ("cold", "the upstream became ready and knows of no dormant state")
    assert (await proxy.get("/api/self"))[0] == 401


async def test_a_lost_launcher_is_followed_by_another_dormant_server(
    serve: Serve, tmp_path: Path
) -> None:
    proxy = await waiting(serve, tmp_path)
    os.kill(await launcher_of(proxy), signal.SIGKILL)
    await proxy.logged(lambda line: line["message"] == "launcher lost")
    await claimable(proxy)
    assert await proxy.init(BODY) == READY
    assert await start_of(proxy) == ("native", None)


async def test_a_taken_address_is_told_and_gives_way(serve: Serve, tmp_path: Path) -> None:
    stranger = socket.socket(socket.AF_UNIX)
    stranger.bind(str(tmp_path / "up.sock"))
    stranger.listen()
    proxy = await serve(settings(tmp_path))
    line = await proxy.logged(lambda line: line["message"] == "cannot start the upstream dormant")
    assert "its address is taken" in line["error"]
    assert (await proxy.get("/ready"))[0] == 503
    status, answer = await proxy.init(BODY)
    assert status == 500
    assert "its address is taken" in answer["error"]
    stranger.close()
    (tmp_path / "up.sock").unlink()
    await claimable(proxy)
    assert await proxy.init(BODY) == READY
    assert await start_of(proxy) == ("native", None)


async def test_a_program_that_is_not_there_is_told(serve: Serve, tmp_path: Path) -> None:
    proxy = await serve(settings(tmp_path, command=["/nonexistent/server"]))
    line = await proxy.logged(lambda line: line["message"] == "cannot start the upstream dormant")
    assert "cannot start /nonexistent/server: No such file or directory" in line["error"]
    while "/nonexistent/server" not in (answer := await proxy.get("/ready"))[1]["detail"]:
        assert answer[0] == 503  # between two tries it says that there is none yet
        await asyncio.sleep(0.01)
