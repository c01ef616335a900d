"""The agent's container, as processes: a launcher at a socket, for a proxy that is elsewhere."""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.harness import ROOT, clean_environment
from tests.launcher.launching import alive

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


_KEPT = tempfile.TemporaryDirectory(prefix="launcher-")


@functools.cache
def installed() -> Path:
    """The launcher's file, which is the same for everybody."""
    place = Path(_KEPT.name, "launcher.pyz")
    install = [sys.executable, "-m", "proxy", "install-launcher", str(place)]
    subprocess.run(install, check=True, cwd=ROOT, env=clean_environment())
    return place


class AgentContainer:
    """The launcher as the command of a container; the kubelet's restart is `start`."""

    def __init__(self, directory: Path) -> None:
        self.socket = directory / "launcher.sock"
        self.program = installed()
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-I", "-S", str(self.program), "--socket", str(self.socket)]
        self.process = subprocess.Popen(
            command, env=clean_environment(INHERITED="agent"), start_new_session=True
        )

    def kill(self) -> None:
        """As the kernel ends a container: with everything in it."""
        assert self.process is not None
        children = subprocess.run(
            ["pgrep", "-P", str(self.process.pid)], capture_output=True, text=True, check=False
        )
        self.process.kill()
        for pid in children.stdout.split():
            if alive(int(pid)):
                os.kill(int(pid), signal.SIGKILL)
        self.process.wait()

    async def ended(self) -> int:
        assert self.process is not None
        return await asyncio.to_thread(self.process.wait, 60)


@asynccontextmanager
async def container(directory: Path) -> AsyncIterator[AgentContainer]:
    made = AgentContainer(directory)
    made.start()
    try:
        yield made
    finally:
        if made.process is not None and made.process.poll() is None:
            made.process.terminate()
            try:
                await made.ended()
            except subprocess.TimeoutExpired:
                made.kill()
