"""Signals that come before there is a server to act on them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.harness import ROOT, clean_environment, echo_settings
from tests.running import children_of

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = pytest.mark.slow

NAMESPACE = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]


class Importing:
    """A proxy that is held up at its settings: they come from a pipe."""

    def __init__(self, directory: Path) -> None:
        self._settings = json.dumps(echo_settings(directory))
        self._config = directory / "proxy.yaml"
        os.mkfifo(self._config)

    async def start(self, *prefix: str, command: Sequence[str]) -> None:
        self.process = await asyncio.create_subprocess_exec(
            *prefix, *command, "serve", "--config", str(self._config),
            stderr=asyncio.subprocess.PIPE, cwd=ROOT, env=clean_environment(),
        )  # fmt: skip

    async def catching(self, pid: int) -> None:
        """Return when SIGTERM has a handler."""
        async with asyncio.timeout(60):
            while not caught(pid) & 1 << signal.SIGTERM - 1:
                await asyncio.sleep(0.002)

    async def go_on(self) -> tuple[int, list[str]]:
        """Give it its settings; its exit code, and what it has logged."""
        await asyncio.to_thread(self._config.write_text, self._settings)
        return await self.ended()

    async def ended(self) -> tuple[int, list[str]]:
        async with asyncio.timeout(60):
            _, errors = await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode, [
            json.loads(line)["message"] for line in errors.splitlines()
        ]


def caught(pid: int) -> int:
    """The signals that have handlers, as in proc(5)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (mask,) = (line.split()[1] for line in lines if line.startswith("SigCgt:"))
    return int(mask, 16)


MODULE = [sys.executable, "-m", "proxy"]
# What an installed console script does.
SCRIPT = [sys.executable, "-c", "import sys; from proxy.cli import main; sys.exit(main())"]


@pytest.mark.parametrize("command", [MODULE, SCRIPT], ids=["module", "script"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_stop_during_the_imports_ends_with_0_and_nothing_was_started(
    tmp_path: Path, command: list[str], number: signal.Signals
) -> None:
    proxy = Importing(tmp_path)
    await proxy.start(command=command)
    await proxy.catching(proxy.process.pid)
    os.kill(proxy.process.pid, number)
    code, said = await proxy.go_on()
    assert code == 0
    assert said[0] == "stopping"
    assert not {"listening", "launcher started"} & set(said)


async def test_a_second_one_does_not_wait_for_what_hangs(tmp_path: Path) -> None:
    proxy = Importing(tmp_path)
    await proxy.start(command=MODULE)
    await proxy.catching(proxy.process.pid)
    for number in (signal.SIGTERM, signal.SIGINT):  # of two equal ones the kernel may make one
        os.kill(proxy.process.pid, number)
    assert await proxy.ended() == (0, [])


# As the import system runs code of its own whenever a module has been imported.
IN_A_CALLBACK = """
import os, signal, weakref
from proxy.server.early import remember_signals
remember_signals(["serve"])
class Lock: pass
lock = Lock()
watch = weakref.ref(lock, lambda _: [os.kill(os.getpid(), each) for each in (15, 2)])
del lock
signal.pause()
"""


async def test_a_second_one_ends_it_even_where_an_exception_would_be_swallowed() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", IN_A_CALLBACK,
        stderr=asyncio.subprocess.PIPE, cwd=ROOT, env=clean_environment(),
    )  # fmt: skip
    try:
        async with asyncio.timeout(60):
            assert (await process.communicate())[1] == b""
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    assert process.returncode == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="a process namespace needs root")
async def test_pid_1_hears_a_stop_during_the_imports(tmp_path: Path) -> None:
    proxy = Importing(tmp_path)
    await proxy.start(*NAMESPACE, command=MODULE)
    async with asyncio.timeout(60):
        while not (children := children_of(proxy.process.pid)):
            await asyncio.sleep(0.002)
    await proxy.catching(children[0])
    os.kill(children[0], signal.SIGTERM)
    code, said = await proxy.go_on()
    assert code == 0
    assert said[0] == "stopping"
    assert not {"listening", "launcher started"} & set(said)


async def test_another_command_is_ended_by_the_signal_as_ever(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *MODULE, "init", "--url", "http://127.0.0.1:9", "--body", "-",
        stdin=asyncio.subprocess.PIPE, cwd=ROOT, env=clean_environment(),
    )  # fmt: skip
    process.terminate()
    assert await process.wait() == -signal.SIGTERM
