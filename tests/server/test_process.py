"""The proxy among other processes: as PID 1, with orphans, with a lost launcher, with spies."""

from __future__ import annotations

import asyncio
import json
import os
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from tests.harness import ECHO, KEY, ROOT, clean_environment, echo_settings
from tests.log.flooding import chatter, stderr_of
from tests.running import READY, activated, children_of, descendants_of, launcher_of, until_dead

if TYPE_CHECKING:
    from tests.harness import Serve

pytestmark = [pytest.mark.slow, pytest.mark.executed]


@pytest.mark.skipif(os.geteuid() != 0, reason="a process namespace needs root")
async def test_as_pid_1_it_reaps_orphans_and_stops_with_0(serve: Serve, tmp_path: Path) -> None:
    child = tmp_path / "child"
    proxy = await serve(prefix=["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"])
    assert (await proxy.init({"env": {"ECHO_CHILD": str(child)}})) == (200, READY)
    (first,) = children_of(proxy.process.pid)
    # The grandchild has a session of its own and loses its parent with the upstream.
    assert int(child.read_text()) > 1
    before = len(descendants_of(first))
    assert before == 3  # launcher, upstream, grandchild
    os.kill(first, signal.SIGTERM)
    assert await proxy.ended() == 0


async def test_orphans_of_the_upstream_are_reaped_while_it_runs(serve: Serve) -> None:
    proxy = await activated(serve)
    for _ in range(5):
        await proxy.get("/api/orphan")
    upstream = (await proxy.get("/api/self"))[1]["pid"]
    launcher = await launcher_of(proxy)
    async with asyncio.timeout(60):
        while children_of(launcher) != [upstream]:
            await asyncio.sleep(0.01)


async def test_killed_launcher_takes_the_upstream_along_and_is_replaced(
    serve: Serve, tmp_path: Path
) -> None:
    child = tmp_path / "child"
    proxy = await serve()
    body = {"env": {"ECHO_CHILD": str(child)}, "session_api_keys": ["session"]}
    assert await proxy.init(body) == (200, READY)
    first = (await proxy.get("/api/self"))[1]["pid"]
    straggler = int(child.read_text())
    os.kill(await launcher_of(proxy), signal.SIGKILL)
    await proxy.logged(lambda line: line.get("cause") == "UPSTREAM_DIED")
    await until_dead(first)
    await until_dead(straggler)
    await proxy.until("ready")
    assert (await proxy.get("/api/env"))[1]["OH_SESSION_API_KEYS_0"] == "session"
    assert await proxy.stop() == 0
    assert not (tmp_path / "run").exists()


# Root without capabilities is a user like any other: what it may read in /proc is decided by who
# owns the process and whether that is dumpable.
POWERLESS = ["setpriv", "--bounding-set=-all"] if os.geteuid() == 0 else []


def readable_by_the_same_user(path: str) -> bool:
    """Whether a process of our user (agent code, say) can read `path`."""
    reader = subprocess.run([*POWERLESS, "cat", path], capture_output=True, check=False)
    return reader.returncode == 0


async def test_nobody_of_the_same_user_can_read_the_proxys_secrets(serve: Serve) -> None:
    proxy = await serve(env={"OH_SECRET_KEY": KEY}, prefix=POWERLESS)
    launcher = await launcher_of(proxy)
    await proxy.init({})
    upstream = (await proxy.get("/api/self"))[1]["pid"]
    assert readable_by_the_same_user(f"/proc/{upstream}/environ")  # an ordinary process
    for pid in (proxy.process.pid, launcher):
        assert not readable_by_the_same_user(f"/proc/{pid}/environ")
        assert KEY.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()
    for pid in (launcher, upstream):
        assert KEY.encode() not in Path(f"/proc/{pid}/environ").read_bytes()


async def test_every_connection_that_is_allowed_can_be_served(serve: Serve, tmp_path: Path) -> None:
    """By the upstream and the control plane at once, which takes four descriptors."""
    settings = echo_settings(tmp_path) | {"limits": {"connections": 60}}
    proxy = await serve(settings, prefix=["prlimit", "--nofile=64:4096"])
    assert (await proxy.init({}))[0] == 200
    host, _, port = proxy.url.removeprefix("http://").rpartition(":")
    wires = [await asyncio.open_connection(host, int(port)) for _ in range(60)]
    try:
        for path in ("/api/self", "/api/init"):
            for _, writer in wires:
                writer.write(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            for reader, _ in wires:
                async with asyncio.timeout(60):
                    head = await reader.readuntil(b"\r\n\r\n")
                    assert head.startswith(b"HTTP/1.1 200 ")
                    size = re.search(rb"(?i)content-length: (\d+)", head)
                    assert size is not None
                    await reader.readexactly(int(size[1]))
    finally:
        for _, writer in wires:
            writer.close()


async def test_descriptors_are_raised_for_the_proxy_and_not_for_the_upstream(
    serve: Serve,
) -> None:
    proxy = await serve(prefix=["prlimit", "--nofile=256:4096"])
    await proxy.init({})
    upstream = (await proxy.get("/api/self"))[1]["pid"]
    assert resource.prlimit(proxy.process.pid, resource.RLIMIT_NOFILE) == (4096, 4096)
    assert resource.prlimit(upstream, resource.RLIMIT_NOFILE) == (256, 4096)
    await proxy.logged(lambda line: line.get("wanted") == 10_000 and line["connections"] == 960)


async def test_without_standard_descriptors_none_of_its_sockets_gets_such_a_number(
    tmp_path: Path,
) -> None:
    settings = echo_settings(tmp_path)
    path = tmp_path / "proxy.sock"
    settings["listen"]["address"] = f"unix:{path}"
    config = tmp_path / "proxy.json"
    config.write_text(json.dumps(settings))
    process = await asyncio.create_subprocess_exec(
        *("sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"),
        *(sys.executable, "-m", "proxy", "serve", "--config", str(config)),
        cwd=ROOT, env=clean_environment(),
    )  # fmt: skip
    async with asyncio.timeout(60):
        while not (path.exists() and children_of(process.pid)):
            await asyncio.sleep(0.01)
    connector = aiohttp.UnixConnector(str(path))
    async with aiohttp.ClientSession("http://proxy", connector=connector) as session:
        headers = {"X-Init-API-Key": KEY}
        async with session.post("/api/init", json={}, headers=headers) as answer:
            assert answer.status == 200
    for pid in (process.pid, children_of(process.pid)[0]):
        opened = Path(f"/proc/{pid}/fd")
        assert {(opened / number).readlink() for number in "012"} == {Path(os.devnull)}
    process.terminate()
    assert await process.wait() == 0


async def test_every_thread_is_there_from_the_start(
    serve: Serve, tmp_path: Path, unused_tcp_port: int
) -> None:
    """The agent may use the pod's processes up; a thread is one."""
    url = f"http://localhost:{unused_tcp_port}"  # a name, which has to be looked up
    command = [sys.executable, str(ECHO), "--port", str(unused_tcp_port)]
    proxy = await serve(echo_settings(tmp_path, url=url, command=command))
    tasks = Path(f"/proc/{proxy.process.pid}/task")
    before = {task.name for task in tasks.iterdir()}
    assert await proxy.init({}) == (200, READY)
    assert (await proxy.get("/api/self"))[0] == 200
    stderr_of(proxy).pause_reading()
    await chatter(proxy, 30)
    assert (await proxy.get("/ready"))[0] == 200
    stderr_of(proxy).resume_reading()
    await proxy.logged(lambda line: "29-z" in line["message"])
    assert {task.name for task in tasks.iterdir()} <= before


async def test_the_default_of_connections_gives_way_and_an_asked_for_number_is_missed(
    serve: Serve, tmp_path: Path
) -> None:
    few = ["prlimit", "--nofile=2048:2048"]

    async def level(settings: dict[str, Any]) -> str:
        proxy = await serve(settings, prefix=few)
        line = await proxy.logged(lambda line: "limits.connections" in line.get("message", ""))
        return str(line["level"])

    settings = echo_settings(tmp_path)
    assert await level(settings) == "info"
    assert await level(settings | {"limits": {"connections": 10_000}}) == "warning"
