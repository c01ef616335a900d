"""The agent's container, as processes: a launcher at a socket, for a proxy that is elsewhere."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from tests.harness import ROOT, clean_environment
from tests.launcher.launching import alive

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


class AgentContainer:
    """The launcher as the command of a container; the kubelet's restart is `start`."""

    def __init__(self, directory: Path) -> None:
        self.socket = directory / "launcher.sock"
        self.zipapp = directory / "launcher.pyz"
        install = [sys.executable, "-m", "proxy", "install-launcher", str(self.zipapp)]
        subprocess.run(install, check=True, cwd=ROOT, env=clean_environment())
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-I", "-S", str(self.zipapp), "--socket", str(self.socket)]
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
        return await asyncio.to_thread(self.process.wait, 30)


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
