"""The tour's proxy: a child process, its log, and its end."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import json
import os
import signal
import sys
from typing import TYPE_CHECKING, Final, Self

from proxy.demo.sample import import_path
from proxy.demo.tour.processes import descendants

if TYPE_CHECKING:
    from pathlib import Path

    from proxy.demo.tour.processes import Process

LOG_LINES: Final = 20  # of the proxy's log, shown when something fails
STOP_TIMEOUT: Final = 20.0  # seconds; above what its own settings allow a shutdown to take
_LINE_LIMIT: Final = 1024 * 1024  # bytes of a log line
# A developer's own settings must not change the tour.
_OTHERS: Final = ("OH_", "PROXY_", "LLM_", "OPENHANDS_")


class ProxyEndedError(Exception):
    """The proxy ended before it listened."""


class ProxyChild:
    """`python -m proxy serve --config FILE` with the bootstrap key in its environment."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._log: collections.deque[str] = collections.deque(maxlen=LOG_LINES)
        self._address: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, config: Path, key: str) -> Self:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(_OTHERS)}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "proxy", "serve", "--config", str(config)),
            env=inherited | import_path() | {"OH_SECRET_KEY": key},
            stdin=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            limit=_LINE_LIMIT,
            # Ctrl-C goes to the whole foreground group, and a second signal would cut short the
            # shutdown that the first one began.
            process_group=0,
        )
        return cls(process)

    async def address(self) -> str:
        """`host:port`, once it listens. Raises `ProxyEndedError`."""
        return await asyncio.shield(self._address)

    @property
    def log(self) -> list[str]:
        """The last lines."""
        return list(self._log)

    def family(self) -> list[Process]:
        """The proxy and everything below it, parents first."""
        return descendants(self._process.pid)

    def terminate(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()

    async def ended(self) -> int:
        """The exit code, when the log has been read to its end."""
        code = await self._process.wait()
        await self._reader
        return code

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

    async def _read(self) -> None:
        if self._process.stderr is None:
            raise ValueError("stderr is no pipe")
        async for raw in self._process.stderr:
            line = raw.decode(errors="replace").rstrip()
            self._log.append(line)
            if not self._address.done() and (address := _address_in(line)):
                self._address.set_result(address)
        if not self._address.done():
            code = await self._process.wait()
            self._address.set_exception(ProxyEndedError(f"the proxy ended with code {code}"))
            self._address.exception()  # also known from the log: nobody has to ask


def _address_in(line: str) -> str | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    if not isinstance(record, dict) or record.get("message") != "listening":
        return None
    return str(record["address"])
