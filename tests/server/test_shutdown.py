"""Shutdown: what happens to requests, activations and the upstream between SIGTERM and the end."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import pytest

from tests.harness import echo_settings
from tests.running import activated, launcher_of, pid_alive, until_dead

if TYPE_CHECKING:
    from tests.harness import ProxyProcess, Serve

pytestmark = pytest.mark.slow


async def exists(path: Path) -> None:
    async with asyncio.timeout(60):
        while not path.exists():
            await asyncio.sleep(0.01)


async def slow_request(
    proxy: ProxyProcess, tmp_path: Path
) -> tuple[asyncio.Task[tuple[int, object]], Path]:
    """A relayed request that is under way, and the file that lets it end."""
    gate, started = tmp_path / "gate", tmp_path / "started"
    task = asyncio.create_task(proxy.get(f"/api/slow?until={gate}&started={started}"))
    await exists(started)
    return task, gate


async def outcome(request: asyncio.Task[tuple[int, object]]) -> str:
    """How a request ended: its status, or "cut" when the connection did."""
    try:
        return str((await request)[0])
    except aiohttp.ClientError:
        return "cut"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP])
async def test_dormant_proxy_stops_with_0_and_leaves_nothing(
    serve: Serve, number: signal.Signals
) -> None:
    proxy = await serve()
    proxy.process.send_signal(number)
    assert await proxy.ended() == 0


async def test_ready_proxy_stops_its_upstream_and_undoes_its_files(
    serve: Serve, tmp_path: Path
) -> None:
    child = tmp_path / "child"
    proxy = await serve()
    await proxy.init({"env": {"ECHO_CHILD": str(child)}, "session_api_keys": ["k"]})
    pid = (await proxy.get("/api/self"))[1]["pid"]
    assert (tmp_path / "run").exists()
    assert await proxy.stop() == 0
    assert not pid_alive(pid)
    await until_dead(int(child.read_text()))
    assert not (tmp_path / "run").exists()


async def test_draining_row_while_a_request_ends(serve: Serve, tmp_path: Path) -> None:
    proxy = await activated(serve)
    slow, gate = await slow_request(proxy, tmp_path)
    proxy.process.terminate()
    await proxy.logged(lambda line: line.get("state") == "draining")
    assert (await proxy.get("/health"))[0] == 200
    assert (await proxy.get("/ready"))[0] == 503
    assert (await proxy.get("/api/init"))[0] == 200
    assert (await proxy.init({}))[0] == 503
    assert (await proxy.init({}, key="wrong"))[0] == 401
    async with proxy.session.get(proxy.url + "/api/env") as answer:
        assert answer.status == 503
        assert answer.headers["Connection"].lower() == "close"
        assert "Retry-After" in answer.headers
    assert not slow.done()
    gate.touch()
    assert await slow == (200, {"slow": True})
    assert await proxy.ended() == 0


async def test_request_that_outlives_the_grace_is_cut(serve: Serve, tmp_path: Path) -> None:
    settings = echo_settings(tmp_path)
    settings["drain"]["grace"] = 0.2
    proxy = await activated(serve, settings=settings)
    slow, _gate = await slow_request(proxy, tmp_path)
    proxy.process.terminate()
    assert await proxy.ended() == 0
    assert await outcome(slow) in {"cut", "502", "503"}


async def test_second_signal_cuts_at_once(serve: Serve, tmp_path: Path) -> None:
    proxy = await serve(stop_grace=600)
    await proxy.init({"env": {"ECHO_STUBBORN": "1"}})
    pid = (await proxy.get("/api/self"))[1]["pid"]
    slow, _gate = await slow_request(proxy, tmp_path)
    proxy.process.terminate()
    await proxy.logged(lambda line: line.get("state") == "draining")
    proxy.process.terminate()
    assert await proxy.ended() == 0
    assert await outcome(slow) in {"cut", "502", "503"}
    assert not pid_alive(pid)


async def test_routers_have_time_to_notice_before_work_is_refused(
    serve: Serve, tmp_path: Path
) -> None:
    settings = echo_settings(tmp_path)
    settings["drain"] |= {"delay": 600}
    proxy = await activated(serve, settings=settings)
    proxy.process.terminate()
    await proxy.logged(lambda line: line.get("message") == "stopping")
    assert await proxy.get("/ready") == (503, {"detail": "shutting down"})
    assert (await proxy.get("/health"))[0] == 200
    assert (await proxy.get("/api/self"))[0] == 200
    assert (await proxy.init({}))[0] == 503
    proxy.process.terminate()  # whoever will not wait
    assert await proxy.ended() == 0


async def test_after_the_delay_it_drains(serve: Serve, tmp_path: Path) -> None:
    settings = echo_settings(tmp_path)
    settings["drain"] |= {"delay": 0.2}
    proxy = await activated(serve, settings=settings)
    assert await proxy.stop() == 0
    assert "cutting" not in proxy.text


async def test_a_pod_that_serves_nobody_ends_without_a_delay(serve: Serve, tmp_path: Path) -> None:
    settings = echo_settings(tmp_path)
    settings["drain"] |= {"delay": 600}
    proxy = await serve(settings)
    assert await proxy.stop() == 0


async def test_stubborn_upstream_is_killed_after_its_grace(serve: Serve) -> None:
    proxy = await serve(stop_grace=0.2)
    await proxy.init({"env": {"ECHO_STUBBORN": "1"}})
    pid = (await proxy.get("/api/self"))[1]["pid"]
    assert await proxy.stop() == 0
    assert not pid_alive(pid)


async def test_shutdown_during_an_activation_undoes_it(serve: Serve, tmp_path: Path) -> None:
    child = tmp_path / "child"
    proxy = await serve()
    body = {"env": {"ECHO_NEVER_READY": "1", "ECHO_CHILD": str(child)}, "session_api_keys": ["k"]}
    post = asyncio.create_task(proxy.init(body))
    await exists(child)
    proxy.process.terminate()
    assert (await post)[0] == 503
    assert await proxy.ended() == 0
    await until_dead(int(child.read_text()))
    assert not (tmp_path / "run").exists()


async def test_shutdown_during_a_restart_ends_it(serve: Serve, tmp_path: Path) -> None:
    script = tmp_path / "server.py"
    settings = echo_settings(tmp_path)
    command = settings["upstream"]["command"]
    script.write_text(Path(command[1]).read_text())
    command[1] = str(script)
    proxy = await activated(serve, settings=settings)
    script.write_text("import sys; sys.exit('never again')")
    pid = (await proxy.get("/api/self"))[1]["pid"]
    os.kill(pid, signal.SIGKILL)
    await proxy.logged(lambda line: line.get("message") == "restart failed")
    assert await proxy.stop() == 0


async def test_killed_proxy_takes_its_upstream_along(serve: Serve, tmp_path: Path) -> None:
    proxy = await activated(serve)
    pid = (await proxy.get("/api/self"))[1]["pid"]
    proxy.process.kill()
    assert await proxy.ended() == -signal.SIGKILL
    await until_dead(pid)
    async with asyncio.timeout(60):
        while (tmp_path / "run").exists():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("signals", [1, 2])
async def test_a_launcher_that_somebody_has_stopped_does_not_hold_up_the_end(
    serve: Serve, signals: int
) -> None:
    proxy = await serve()
    await proxy.init({"env": {"ECHO_STUBBORN": "1"} if signals == 2 else {}})
    os.kill(await launcher_of(proxy), signal.SIGSTOP)
    for _ in range(signals):
        proxy.process.terminate()
        await proxy.logged(lambda line: line.get("state") == "draining")
    assert await proxy.ended() == 0
    assert not [line for line in proxy.log if line["level"] in {"error", "critical"}]


async def test_signals_without_end_do_not_change_the_exit_code(serve: Serve) -> None:
    for _ in range(5):
        proxy = await serve()
        process = os.pidfd_open(proxy.process.pid)
        with suppress(ProcessLookupError):
            while True:
                signal.pidfd_send_signal(process, signal.SIGTERM)
                await asyncio.sleep(0.001)
        os.close(process)
        assert await proxy.ended() == 0, proxy.text


@pytest.mark.parametrize("signals", [1, 2])
async def test_upstream_that_spoils_the_undo_does_not_spoil_the_shutdown(
    serve: Serve, tmp_path: Path, signals: int
) -> None:
    settings = echo_settings(tmp_path)
    config = "$OPENHANDS_AGENT_SERVER_CONFIG_PATH"
    script = f'rm {config} && mkdir {config} && exec "$@"'
    command = settings["upstream"]["command"]
    settings["upstream"]["command"] = ["sh", "-c", script, "sh", *command]
    proxy = await serve(settings)
    await proxy.init({"env": {"ECHO_STUBBORN": "1"} if signals == 2 else {}})
    for _ in range(signals):
        proxy.process.terminate()
        await proxy.logged(lambda line: line.get("state") == "draining")
    assert await proxy.ended() == 0
    assert not (tmp_path / "run").exists()
    assert not [line for line in proxy.log if line.get("plain") or "exception" in line]


@pytest.mark.parametrize("signals", [1, 2])
async def test_the_name_of_a_unix_listener_goes_with_it(
    serve: Serve, tmp_path: Path, signals: int
) -> None:
    settings = echo_settings(tmp_path)
    name = tmp_path / "proxy.sock"
    settings["listen"]["address"] = f"unix:{name}"
    proxy = await serve(settings)
    assert name.is_socket()
    for _ in range(signals):
        proxy.process.terminate()
    assert await proxy.ended() == 0
    assert not name.exists()


@pytest.mark.parametrize("kind", ["file", "directory", "dangling link", "busy socket"])
async def test_what_keeps_the_proxy_from_listening_is_left_alone(
    serve: Serve, tmp_path: Path, kind: str
) -> None:
    name = tmp_path / "proxy.sock"
    with socket.socket(socket.AF_UNIX) as other, socket.socket(socket.AF_UNIX) as waiting:
        match kind:
            case "file":
                name.write_text("somebody's")
            case "directory":
                name.mkdir()
            case "dangling link":
                name.symlink_to("nowhere")
            case _:
                other.bind(str(name))
                other.listen(0)
                waiting.connect(str(name))  # its queue is full: it answers nobody, and lives
        before = os.lstat(name)
        settings = echo_settings(tmp_path)
        settings["listen"]["address"] = f"unix:{name}"
        with pytest.raises(AssertionError, match="cannot listen on unix:"):
            await serve(settings)
        after = os.lstat(name)
        assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)


async def test_a_name_that_another_has_taken_over_is_not_removed(
    serve: Serve, tmp_path: Path
) -> None:
    settings = echo_settings(tmp_path)
    name = tmp_path / "proxy.sock"
    settings["listen"]["address"] = f"unix:{name}"
    proxy = await serve(settings)
    name.unlink()
    with socket.socket(socket.AF_UNIX) as successor:
        successor.bind(str(name))
        assert await proxy.stop() == 0
        assert name.is_socket()
