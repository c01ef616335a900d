"""Upstreams that run by themselves, activated by files and a signal."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.harness import ECHO, ROOT, clean_environment, echo_settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.harness import ProxyProcess, Serve

pytestmark = pytest.mark.slow

ENTRYPOINT = ROOT / "deploy" / "k8s" / "overlays" / "signal" / "entrypoint.sh"


class Container:
    """A command that is started again whenever it ends, as the kubelet does."""

    def __init__(self, directory: Path, *command: str) -> None:
        self._command = command
        self._pidfile = directory / "agent.pid"
        self.pids: list[int] = []
        self._task: asyncio.Task[None] | None = None

    async def _run(self) -> None:
        while True:
            process = await asyncio.create_subprocess_exec(
                *self._command, env=clean_environment(INHERITED="yes", OH_SESSION_API_KEYS_7="old")
            )
            self._pidfile.write_text(str(process.pid))
            self.pids.append(process.pid)
            try:
                await process.wait()
            except asyncio.CancelledError:
                process.kill()
                await process.wait()
                raise

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Container]:
        self._task = asyncio.create_task(self._run())
        try:
            yield self
        finally:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def starts(self, number: int) -> None:
        async with asyncio.timeout(60):
            while len(self.pids) < number:
                await asyncio.sleep(0.01)


def agent(directory: Path) -> Container:
    """The echo server behind the shell entrypoint that the overlay ships."""
    file = directory / "run" / "environment"
    command = (sys.executable, str(ECHO), "--unix", str(directory / "up.sock"))
    return Container(directory, "sh", str(ENTRYPOINT), str(file), *command)


def settings(directory: Path, **told: Any) -> dict[str, Any]:
    chosen = {"process": f"*{directory}/up.sock", "signal": None} | told
    settings = echo_settings(directory, activation="signal", signal=chosen)
    del settings["upstream"]["command"]  # whoever starts it has one
    return settings


async def environment(proxy: ProxyProcess) -> dict[str, str]:
    return dict((await proxy.get("/api/env"))[1])


async def test_the_shell_entrypoint_waits_for_an_init_and_becomes_the_upstream(
    serve: Serve, tmp_path: Path
) -> None:
    async with agent(tmp_path).running() as container:
        proxy = await serve(settings(tmp_path))
        assert (await proxy.get("/ready"))[0] == 200
        awkward = 'it\'s $HOME `id` "quoted"\nand two lines'
        init = {"env": {"AWKWARD": awkward}, "session_api_keys": ["s-1234567"]}
        assert await proxy.init(init) == (200, {"state": "ready", "error": None})
        seen = await environment(proxy)
        assert seen["AWKWARD"] == awkward
        assert seen["INHERITED"] == "yes"
        assert seen["OH_SESSION_API_KEYS_0"] == "s-1234567"
        assert "OH_SESSION_API_KEYS_7" not in seen  # it would have been a second key
        details = (await proxy.get("/api/init?details=true"))[1]
        assert details["pid"] == container.pids[0] == (await proxy.get("/api/self"))[1]["pid"]


async def test_a_crash_is_seen_and_the_successor_gets_the_same_init(
    serve: Serve, tmp_path: Path
) -> None:
    async with agent(tmp_path).running() as container:
        proxy = await serve(settings(tmp_path))
        assert (await proxy.init({"env": {"GREETING": "hello"}}))[0] == 200
        os.kill(container.pids[0], signal.SIGKILL)
        await container.starts(2)
        await proxy.logged(lambda line: line.get("cause") == "UPSTREAM_DIED")
        await proxy.until("ready")
        assert (await environment(proxy))["GREETING"] == "hello"


async def test_stopping_takes_the_files_away_and_ends_the_upstream(
    serve: Serve, tmp_path: Path
) -> None:
    async with agent(tmp_path).running() as container:
        proxy = await serve(settings(tmp_path))
        assert (await proxy.init({"env": {"GREETING": "hello"}}))[0] == 200
        file = tmp_path / "run" / "environment"
        assert file.stat().st_mode & 0o777 == 0o600
        assert await proxy.stop() == 0
        assert not file.exists()
        await container.starts(2)  # it waits again


async def test_a_proxy_that_restarts_undoes_what_the_killed_one_delivered(
    serve: Serve, tmp_path: Path
) -> None:
    async with agent(tmp_path).running() as container:
        proxy = await serve(settings(tmp_path))
        assert (await proxy.init({"env": {"GREETING": "hello"}}))[0] == 200
        proxy.process.kill()
        await proxy.ended()
        again = await serve(settings(tmp_path))
        await container.starts(2)
        assert await again.state() == "dormant"
        assert not (tmp_path / "run").exists()
        assert (await again.init({"env": {"GREETING": "anew"}}))[0] == 200
        assert (await environment(again))["GREETING"] == "anew"


async def test_a_killed_proxys_successor_puts_back_what_the_operator_had(
    serve: Serve, tmp_path: Path
) -> None:
    own = tmp_path / "app.json"
    own.write_text("the operator's")
    mapping = {
        "fields": {"web_url": {"file": "app"}},
        "files": {"app": {"path": str(own)}},
    }
    chosen = settings(tmp_path)
    chosen["upstream"] |= {"profile": "none", "mapping": mapping}
    async with agent(tmp_path).running() as container:
        proxy = await serve(chosen)
        assert (await proxy.init({"web_url": "http://users.example"}))[0] == 200
        assert "users.example" in own.read_text()
        proxy.process.kill()
        await proxy.ended()
        again = await serve(chosen)
        await container.starts(2)
        assert await again.state() == "dormant"
        assert own.read_text() == "the operator's"


RELOADS = """
import runpy, signal, sys
told = []
signal.signal(signal.SIGHUP, lambda *_: told.append(1))
print("waiting", flush=True)
while not told:
    signal.sigtimedwait([], 0.01)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize("named", ["pidfile", "process"])
async def test_a_process_that_reads_its_files_again_is_signalled_and_stays(
    serve: Serve, tmp_path: Path, named: str
) -> None:
    program = tmp_path / "reloads.py"
    program.write_text(RELOADS)
    socket = str(tmp_path / "up.sock")
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(program), str(ECHO), "--unix", socket, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        await process.stdout.readline()
        (tmp_path / "agent.pid").write_text(f"{process.pid}\n")
        told = {"pidfile": {"pidfile": str(tmp_path / "agent.pid"), "process": None}}
        chosen = told.get(named, {"process": f"*{program}*"})
        proxy = await serve(settings(tmp_path, signal="SIGHUP", restarts=False, **chosen))
        assert (await proxy.init())[0] == 200
        assert (await proxy.get("/api/init?details=true"))[1]["pid"] == process.pid
        assert process.returncode is None
    finally:
        process.terminate()
        await process.communicate()


async def test_a_new_process_must_be_seen_before_the_probe_counts(
    serve: Serve, tmp_path: Path
) -> None:
    """The one that is running answers the probe all the while."""
    socket = tmp_path / "up.sock"
    container = Container(tmp_path, sys.executable, str(ECHO), "--unix", str(socket))
    async with container.running():
        await container.starts(1)
        while not socket.exists():
            await asyncio.sleep(0.01)
        proxy = await serve(settings(tmp_path, signal="SIGTERM"))
        assert (await proxy.init())[0] == 200
        await container.starts(2)
        assert (await proxy.get("/api/self"))[1]["pid"] == container.pids[1]


async def test_without_a_process_the_init_fails_at_its_deadline_and_leaves_nothing(
    serve: Serve, tmp_path: Path
) -> None:
    chosen = settings(tmp_path)
    chosen["init"]["timeout"] = 0.3
    proxy = await serve(chosen)
    status, answer = await proxy.init()
    assert (status, answer["state"]) == (504, "dormant")
    assert not (tmp_path / "run").exists()


SLOW = """
until [ -e "$1" ]; do sleep 0.02; done
. "$1"
until [ -e "$2" ]; do sleep 0.02; done
shift 2
exec "$@"
"""


async def test_a_process_that_was_never_seen_does_not_become_another_users(
    serve: Serve, tmp_path: Path
) -> None:
    """It has read what one init delivered, and listens only when that one was given up."""
    file, go = tmp_path / "run" / "environment", tmp_path / "go"
    upstream = (sys.executable, str(ECHO), "--unix", str(tmp_path / "up.sock"))
    process = await asyncio.create_subprocess_exec("sh", "-c", SLOW, "-", file, go, *upstream)
    first, second = ({"env": {"USER_OF_IT": name}} for name in ("first", "second"))
    chosen = settings(tmp_path, process=None)
    chosen["init"]["timeout"] = 3
    try:
        proxy = await serve(chosen)
        assert (await proxy.init(first))[0] == 504
        go.touch()
        while not (tmp_path / "up.sock").exists():
            await asyncio.sleep(0.01)
        status, answer = await proxy.init(second)
        assert (status, answer["state"]) == (500, "dormant")
        assert "may have read what an earlier init delivered" in answer["error"]
        assert (await proxy.init(first))[0] == 200
        assert (await environment(proxy))["USER_OF_IT"] == "first"
    finally:
        process.kill()
        await process.wait()
