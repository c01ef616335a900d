"""The tour's proxy: a child process, its log, and its end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from typing import TYPE_CHECKING, Final, Self

from proxy.demo.sample import import_path
from proxy.processes import descendants

if TYPE_CHECKING:
    from pathlib import Path

    from proxy.processes import Process

LOG_LINES: Final = 20  # of the proxy's log, shown when something fails
STOP_TIMEOUT: Final = 20.0  # seconds; above what its own settings allow a shutdown to take
# A developer's own settings must not change the tour.
_OTHERS: Final = ("OH_", "PROXY_", "LLM_", "OPENHANDS_")


class ProxyEndedError(Exception):
    """The proxy ended before it listened."""


class ProxyChild:
    """`python -m proxy serve --config FILE` with the bootstrap key in its environment."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self._log = log

    @classmethod
    async def start(cls, config: Path, key: str, log: Path) -> Self:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(_OTHERS)}
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "proxy", "serve", "--config", str(config)),
                env=inherited | import_path() | {"OH_SECRET_KEY": key},
                stdin=asyncio.subprocess.DEVNULL,
                stderr=output,
                # Ctrl-C goes to the whole foreground group, and a second signal would cut short
                # the shutdown that the first one began.
                process_group=0,
            )
        return cls(process, log)

    def ensure_running(self) -> None:
        """Raises `ProxyEndedError`."""
        if self._process.returncode is not None:
            raise ProxyEndedError(f"the proxy ended with code {self._process.returncode}")

    def log(self) -> list[str]:
        """The last lines."""
        return self._log.read_text(errors="replace").splitlines()[-LOG_LINES:]

    def family(self) -> list[Process]:
        """The proxy and everything below it, parents first."""
        return descendants(self._process.pid)

    def terminate(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()

    async def ended(self) -> int:
        """The exit code, once there is one."""
        return await self._process.wait()

    async def close(self) -> None:
        """End it and everything below it, whatever its state."""
        family = self.family()
        try:
            self.terminate()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_TIMEOUT):
                    await self.ended()
        finally:
            # Left only if that failed, or if an impatient user cut it short.
            for process in family:
                if process.alive:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(process.pid, signal.SIGKILL)
