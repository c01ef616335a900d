"""The controller of the launcher, with real launchers and upstreams."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import uvloop

from proxy.errors import ActivationError, LauncherError
from proxy.lifecycle.plan import PlannedFile
from tests.activation.spawning import Running, opened
from tests.launcher.launching import PATIENCE, alive, killed_afterwards, until


async def life(tmp_path: Path) -> None:
    """Open, start, output, death, restart, stop, close."""
    async with opened(tmp_path) as running:
        assert await running.starter.warmed == "nothing is preloaded"
        first = await running.start("sh", "-c", "echo $HUE; echo err >&2; exit 3", env={"HUE": "r"})
        assert first.kind == "cold"
        assert first.why == "nothing is preloaded"
        exit_ = await first.exited
        assert (exit_.code, exit_.reason, exit_.tail) == (3, "exited with code 3", "err")
        assert set(running.lines) == {("stdout", "r"), ("stderr", "err")}
        second = await running.start("sh", "-c", "echo up; exec sleep 600")
        await running.line("up")
        await running.starter.stop()
        assert (await second.exited).code == 143
        assert not running.run_dir.exists()
        launcher = running.launcher
    assert not alive(launcher)
    assert running.starter.owned_pids() == frozenset()
    assert not running.lost.done()


async def test_whole_life(tmp_path: Path) -> None:
    await life(tmp_path)


def test_whole_life_on_uvloop(tmp_path: Path) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(life(tmp_path))


async def test_upstream_that_dies_at_once_is_never_missed(tmp_path: Path) -> None:
    async with opened(tmp_path) as running:
        for code in range(20):
            started = await running.start("sh", "-c", f"exit {code}")
            assert (await started.exited).code == code


async def test_files_are_there_and_are_undone(tmp_path: Path) -> None:
    base, path = tmp_path / "base.json", tmp_path / "run" / "config.json"
    base.write_text('{"a": 1}')
    files = (
        PlannedFile(path=str(path), content=b'{"b": 2}', mode=0o640, base_file=str(base)),
        PlannedFile(path=str(tmp_path / "raw"), content=b"\xff\0", mode=0o600, base_file=None),
    )
    async with opened(tmp_path) as running:
        await running.start("sleep", "600", files=files)
        assert json.loads(path.read_text()) == {"a": 1, "b": 2}
        assert path.stat().st_mode & 0o777 == 0o640
        assert (tmp_path / "raw").read_bytes() == b"\xff\0"
        await running.starter.stop()
        assert [entry.name for entry in tmp_path.iterdir()] == ["base.json"]


async def test_failed_start_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path) as running:
        with pytest.raises(LauncherError, match=r"^cannot start no-such: No such file"):
            await running.start("no-such")
        assert not running.run_dir.exists()
        with pytest.raises(LauncherError, match=r"^cannot start: argv\[0\] must not contain NUL$"):
            await running.start("a\0")
        with pytest.raises(LauncherError, match=r"^cannot start: \d+ bytes are too many"):
            await running.start("true", env={"A": "x" * 2**24})
        await running.start("true")


async def test_secrets_of_the_proxy_reach_neither_launcher_nor_upstream(tmp_path: Path) -> None:
    environ = os.environ | {"OH_SECRET_KEY": "s", "PROXY_INIT__KEY": "s", "OH_OTHER": "o"}
    async with opened(tmp_path, environ=environ) as running:
        if os.geteuid() == 0:  # to anybody else the launcher is closed
            seen = Path(f"/proc/{running.launcher}/environ").read_bytes().split(b"\0")
            assert b"OH_OTHER=o" in seen
            assert not [item for item in seen if item.endswith(b"=s")]
        started = await running.start("env")
        await started.exited
        assert ("stdout", "OH_OTHER=o") in running.lines
        assert not [line for _, line in running.lines if line.endswith("=s")]


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_killed_launcher_takes_its_upstream_along_and_is_told_at_once(
    tmp_path: Path, factory: Any
) -> None:
    async def scenario() -> None:
        async with opened(tmp_path) as running:
            started = await running.start("sh", "-c", "sleep 600 & echo $!; wait")
            async with asyncio.timeout(PATIENCE):
                while not running.lines:
                    await asyncio.sleep(0.005)
            member = int(running.lines[0][1])
            with killed_afterwards(started.pid, member):
                os.kill(running.launcher, signal.SIGKILL)
                assert await running.lost == "was killed by SIGKILL"
                exit_ = await started.exited
                assert exit_.code == 137
                assert exit_.reason == "was killed because the launcher was killed by SIGKILL"
                until(lambda: not alive(started.pid) and not alive(member))
            assert running.starter.owned_pids() == frozenset()
            await running.starter.stop()
            again = await running.start("true")
            assert (await again.exited).code == 0

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(scenario())


async def test_files_are_undone_when_the_launcher_is_lost(tmp_path: Path) -> None:
    names = ("replaced", "link", "new")
    (tmp_path / "replaced").write_text("before")
    (tmp_path / "link").symlink_to("nowhere")
    files = tuple(
        PlannedFile(path=str(tmp_path / name), content=b"x", mode=0o600, base_file=None)
        for name in names
    )
    async with opened(tmp_path) as running:
        await running.start("sleep", "600", files=files)
        assert [(tmp_path / name).read_bytes() for name in names] == [b"x"] * 3
        os.kill(running.launcher, signal.SIGKILL)
        await running.lost
        assert {entry.name for entry in tmp_path.iterdir()} == {"replaced", "link"}
        assert (tmp_path / "replaced").read_text() == "before"
        assert (tmp_path / "link").is_symlink()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
async def test_a_launcher_that_is_lost_takes_no_file_that_it_has_put_back(
    tmp_path: Path, how: signal.Signals
) -> None:
    """Killed after a stop, or ended in good order: what stands at the path is the operator's."""
    own = tmp_path / "app.json"
    own.write_text("the operator's")
    files = (PlannedFile(path=str(own), content=b"x", mode=0o600, base_file=None),)
    async with opened(tmp_path) as running:
        await running.start("sleep", "600", files=files)
        assert own.read_bytes() == b"x"
        if how is signal.SIGKILL:
            await running.starter.stop()
            assert own.read_text() == "the operator's"
        os.kill(running.launcher, how)
        await running.lost
        assert [entry.name for entry in tmp_path.iterdir()] == ["app.json"]
        assert own.read_text() == "the operator's"


async def test_launcher_that_is_told_to_end_is_lost_with_its_reason(tmp_path: Path) -> None:
    async with opened(tmp_path) as running:
        started = await running.start("sleep", "600")
        os.kill(running.launcher, signal.SIGTERM)
        assert (await started.exited).code == 143
        assert await running.lost == "exited with code 0"


async def test_calls_under_way_fail_when_the_launcher_goes(tmp_path: Path) -> None:
    async with opened(tmp_path) as running:
        await running.start("sh", "-c", "trap '' TERM; echo up; while :; do sleep 1; done")
        await running.line("up")
        stopping = asyncio.create_task(running.starter.stop())
        await asyncio.sleep(0)
        os.kill(running.launcher, signal.SIGKILL)
        with pytest.raises(LauncherError, match="it is gone"):
            await stopping


async def test_kill_shortens_a_stop(tmp_path: Path) -> None:
    async with opened(tmp_path, stop_grace=600) as running:
        started = await running.start("sh", "-c", "trap 'echo term' TERM; echo up; while :; do sleep 0.01; done")  # fmt: skip  # noqa: E501
        await running.line("up")
        stopping = asyncio.create_task(running.starter.stop())
        await running.line("term")
        await running.starter.kill()
        await stopping
        assert (await started.exited).code == 137


async def test_start_that_was_cancelled_is_ended_by_stop(tmp_path: Path) -> None:
    async with opened(tmp_path) as running:
        starting = asyncio.create_task(running.start("sh", "-c", "echo up; exec sleep 600"))
        await asyncio.sleep(0)
        starting.cancel()
        await asyncio.wait([starting])
        await running.starter.stop()
        assert not running.run_dir.exists()
        assert (await (await running.start("true")).exited).code == 0


async def test_open_is_single_flight_and_start_waits_for_it(tmp_path: Path) -> None:
    running = Running(tmp_path)
    try:
        opening = [asyncio.create_task(running.starter.open()) for _ in range(3)]
        assert (await (await running.start("true")).exited).code == 0
        await asyncio.gather(*opening)
    finally:
        await running.starter.close()


async def test_close_is_safe_at_any_time(tmp_path: Path) -> None:
    running = Running(tmp_path)
    await running.starter.close()
    running = Running(tmp_path)
    opening = asyncio.create_task(running.starter.open())
    while not running.starter.owned_pids():
        await asyncio.sleep(0)
    launcher = running.launcher
    await running.starter.close()
    assert opening.cancelled() or opening.done()
    assert not alive(launcher)
    await running.starter.close()


PROXY = """
import asyncio, os, sys
from pathlib import Path
from tests.activation.spawning import Running

async def main():
    running = Running(Path(sys.argv[1]))
    await running.starter.open()
    started = await running.start("sh", "-c", "sleep 600 & echo $!; wait")
    while not running.lines:
        await asyncio.sleep(0.01)
    print(running.launcher, started.pid, running.lines[0][1], flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


def test_killed_proxy_leaves_no_launcher_upstream_or_file(tmp_path: Path) -> None:
    proxy = subprocess.Popen(
        [sys.executable, "-c", PROXY, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert proxy.stdout is not None
    with proxy.stdout:
        pids = [int(word) for word in proxy.stdout.readline().split()]
        with killed_afterwards(*pids):
            assert len(pids) == 3
            assert (tmp_path / "run").exists()
            proxy.kill()
            proxy.wait()
            until(lambda: not any(alive(pid) for pid in pids))
    assert not (tmp_path / "run").exists()


async def test_launcher_that_could_not_be_started_is_tried_again(tmp_path: Path) -> None:
    running = Running(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))  # no descriptor more
    try:
        with pytest.raises(LauncherError, match="Too many open files"):
            await running.starter.open()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    try:
        assert (await running.start("sleep", "600")).kind == "cold"
    finally:
        await running.starter.close()


async def test_nothing_is_started_while_another_server_has_the_address(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as foreign:
        foreign.bind(str(tmp_path / "up.sock"))
        foreign.listen()
        async with opened(tmp_path) as running:
            with pytest.raises(ActivationError, match=f"process {os.getpid()} listens"):
                await running.start("touch", str(tmp_path / "started"))
            foreign.close()  # what is left is a file that nobody answers at
            await (await running.start("touch", str(tmp_path / "started"))).exited
    assert (tmp_path / "started").exists()


@pytest.mark.parametrize("dormancy", ["cold", "preload"])
async def test_nothing_is_started_while_another_server_has_the_port(
    tmp_path: Path, dormancy: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as foreign:
        url = f"http://127.0.0.1:{foreign.getsockname()[1]}"
        async with opened(tmp_path, url=url, dormancy=dormancy) as running:
            with pytest.raises(ActivationError, match="address is taken"):
                await running.start("true")
